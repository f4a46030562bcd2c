"""How long a failed way is left alone, and where a hypervisor is looked for."""

import re
from datetime import timedelta
from random import Random

import pytest

from stackward.errors import Garbled, Leg, RefusalKind, Refused, TimedOut, Unreachable
from stackward.transports.ssh_limits import BackOff
from stackward.transports.ssh_settings import SshSettings
from tests.component.ssh.servers import FakeJump
from tests.fakes.clock import FixedClock

FAILURES = [
    Unreachable("no way", leg=Leg.INNER_TCP),
    TimedOut("no way", leg=Leg.JUMP_AUTH),
    Garbled("no way", leg=Leg.CHANNEL),
    Refused("no way", kind=RefusalKind.HOST_KEY, code=7, leg=Leg.INNER_HOST_KEY),
]


def a_back_off(clock: FixedClock) -> BackOff:
    return BackOff(clock, Random(7), shortest=timedelta(seconds=2), longest=timedelta(seconds=60))


def wait_after(clock: FixedClock, back_off: BackOff) -> int:
    """Whole seconds until the next attempt is allowed."""
    back_off.failed(FAILURES[0])
    for seconds in range(100):
        try:
            back_off.check()
        except Unreachable:
            clock.moment += timedelta(seconds=1)
        else:
            return seconds
    raise AssertionError("never")


def test_waits_grow_from_the_shortest_to_the_longest_and_stay_there():
    clock = FixedClock()
    back_off = a_back_off(clock)
    waits = [wait_after(clock, back_off) for _ in range(30)]
    assert 1 <= waits[0] <= 2
    assert 16 <= waits[4] <= 32
    assert all(30 <= wait <= 60 for wait in waits[5:])
    assert len(set(waits[5:])) > 5  # spread


def test_a_success_begins_anew():
    clock = FixedClock()
    back_off = a_back_off(clock)
    for _ in range(6):
        wait_after(clock, back_off)
    back_off.succeeded()
    back_off.check()
    assert wait_after(clock, back_off) <= 2


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_told_again_as_what_it_was_but_nothing_was_sent(failure):
    clock = FixedClock()
    back_off = a_back_off(clock)
    back_off.failed(failure)
    with pytest.raises(type(failure)) as caught:
        back_off.check()
    again = caught.value
    assert str(again) == str(failure)
    assert re.fullmatch(r"not tried again before 12:00:0[12] UTC", again.__notes__[0])
    assert (again.leg, again.maybe_sent) == (failure.leg, False)
    if isinstance(failure, Refused):
        assert (again.kind, again.code) == (failure.kind, failure.code)


@pytest.mark.parametrize(
    ("ports", "addresses", "place"),
    [
        ({}, {}, ("127.0.0.1", 22)),
        ({"kvm1": 2201}, {}, ("127.0.0.1", 2201)),
        ({"127.0.0.1": 2202}, {}, ("127.0.0.1", 2202)),
        ({"host-1": 2203}, {}, ("127.0.0.1", 2203)),
        ({"kvm1": 2201, "host-1": 2203}, {"host-1": "kvm1.example"}, ("kvm1.example", 2201)),
        ({}, {"kvm2": "192.0.2.2"}, ("127.0.0.1", 22)),
    ],
)
def test_a_hypervisor_is_looked_up_by_name_then_address_then_id(tmp_path, ports, addresses, place):
    settings = SshSettings(known_hosts=tmp_path, jump_ports=ports, jump_addresses=addresses)
    assert settings.jump_place(FakeJump().host) == place
