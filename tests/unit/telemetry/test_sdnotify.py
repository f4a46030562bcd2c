"""The word to systemd, heard on a real datagram socket."""

import socket

import pytest

from stackward.telemetry.sdnotify import ServiceManager


@pytest.fixture
def ear(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(10)
        yield listener


@pytest.fixture
def speaker():
    """Makes service managers, and closes them."""
    made = []

    def make(*words):
        made.append(ServiceManager(*words))
        return made[-1]

    yield make
    for manager in made:
        manager.close()


def heard(ear):
    return ear.recv(4096).decode().splitlines()


def test_each_word_is_said_as_systemd_expects_it(ear, speaker):
    manager = speaker(ear.getsockname(), "60000000")
    manager.ready("started")
    assert heard(ear) == ["READY=1", "STATUS=started"]
    manager.alive("2 passed")
    assert heard(ear) == ["WATCHDOG=1", "STATUS=2 passed"]
    manager.alive("2 passed")
    assert heard(ear) == ["WATCHDOG=1"]
    manager.reloading(17)
    assert heard(ear) == ["RELOADING=1", "MONOTONIC_USEC=17"]
    manager.stopping()
    assert heard(ear) == ["STOPPING=1"]
    assert manager.watchdog_seconds == 60.0


def test_a_status_stays_on_one_line(ear, speaker):
    speaker(ear.getsockname()).ready("a\nREADY=0\tb")
    assert heard(ear) == ["READY=1", "STATUS=a READY=0 b"]


def test_without_a_service_manager_nothing_is_said():
    manager = ServiceManager(None)
    manager.ready("started")
    manager.stopping()


def test_a_service_manager_that_is_gone_stops_nothing(tmp_path, speaker):
    speaker(str(tmp_path / "nobody")).alive("still here")
