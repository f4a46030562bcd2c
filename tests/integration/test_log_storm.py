"""A log in a storm costs its own VM's share and no more: the whole daemon, on real sshd."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest

from stackward.rehearsal.guests import Guest
from stackward.rehearsal.settings import QUICK
from tests.integration.lab.daemon import LEASH, DaemonProcess, Metrics
from tests.integration.lab.fleet import POLL_SECONDS, Fleet
from tests.integration.lab.sshd import why_no_sshd

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(240),
    pytest.mark.skipif(why_no_sshd() is not None, reason=why_no_sshd() or ""),
]

VMS = 6
STORM_SECONDS = 6.0
STORM_BYTES_PER_SECOND = 50_000_000
SHARE = 8 << 20  # bytes a second of one log, as it is where nobody says otherwise
LOOK_EVERY = 0.25
LINE = "2026-03-01 12:00:05,123 INFO  [cloud.agent.Agent] (m:1) Reconnecting to 10.1.1.9\n"
LAST = "2026-03-01 12:00:09,321 INFO  [utils.nio.NioClient] (main:) SSL: Handshake done\n"
WRITER = """
import sys, time
path, line, seconds, rate = sys.argv[1], sys.argv[2].encode(), *map(float, sys.argv[3:])
block = line * 10_000
begun, written = time.monotonic(), 0
with open(path, "ab", buffering=0) as log:
    while time.monotonic() - begun < seconds:
        log.write(block)
        written += len(block)
        time.sleep(max(0.0, written / rate - (time.monotonic() - begun)))
"""
AT_EVERY_TICK = ("agent-process", "agent-link", "memory", "clock")


@dataclass(frozen=True)
class LogTold:
    """What one scrape says of one VM's log."""

    lines: int
    bytes: int
    events: int
    told_as_count: int
    handshakes: int
    behind: int
    gaps: int
    gap_bytes: int


def told_of(metrics: Metrics, vm: str) -> LogTold:
    def value(name: str, **labels: str) -> int:
        return int(metrics.value(f"stackward_log_{name}", vm=vm, **labels))

    return LogTold(
        lines=value("lines_total"),
        bytes=value("read_bytes_total"),
        events=value("events_total", event="agent_connecting"),
        told_as_count=value("dropped_total", reason="told-as-count"),
        handshakes=value("events_total", event="tls_ok"),
        behind=value("lag_bytes"),
        gaps=value("gaps_total"),
        gap_bytes=value("gap_bytes_total"),
    )


def answered_at(metrics: Metrics) -> dict[str, float]:
    """When each VM answered last from inside."""
    newest: dict[str, float] = {}
    for labels, at in metrics.of("stackward_probe_last_observation_timestamp_seconds"):
        if labels["probe"] in AT_EVERY_TICK:
            newest[labels["vm"]] = max(at, newest.get(labels["vm"], 0.0))
    return newest


@contextmanager
def storm(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Somebody who writes at full speed for a while."""
    told = [LINE, str(STORM_SECONDS), str(STORM_BYTES_PER_SECOND)]
    writer = subprocess.Popen([*LEASH, sys.executable, "-c", WRITER, log, *told])
    try:
        yield writer
    finally:
        writer.kill()
        writer.wait()


def log_of(fleet: Fleet, vm: str) -> Path:
    """The VM's log, which from now on nobody rotates."""

    def of(guest: Guest) -> Path:
        guest.tree.log_bytes_max = 1 << 40
        return guest.tree.log_path

    guests = fleet.cloud.do(lambda cloud: list(cloud.stage.guests.values()))
    guest = next(one for one in guests if isinstance(one, Guest) and one.tree.vm.name == vm)
    return fleet.cloud.do(lambda _: of(guest))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Its agents say nothing of their own once they are up: every line is the storm's."""
    with Fleet(tmp_path, VMS, pace=replace(QUICK, chatter=1e6)) as fleet:
        yield fleet


def test_a_storm_delays_no_probe_takes_its_share_and_all_its_lines_are_accounted_for(
    fleet, tmp_path
):
    loud = fleet.names[0]
    log = log_of(fleet, loud)
    answers: dict[str, set[float]] = {vm: set() for vm in fleet.names}
    with DaemonProcess(tmp_path / "daemon", fleet.daemon_config()) as daemon:
        daemon.until(lambda: daemon.metrics().value("stackward_log_followed") == VMS)
        daemon.until(lambda: len(answered_at(daemon.metrics())) == VMS)
        metrics = daemon.metrics()
        before, size_before = told_of(metrics, loud), log.stat().st_size
        resident_before = resident_most = daemon.resident_bytes
        with storm(log) as writer:
            while writer.poll() is None:
                metrics = daemon.metrics()
                for vm, at in answered_at(metrics).items():
                    answers[vm].add(at)
                resident_most = max(resident_most, daemon.resident_bytes)
                time.sleep(LOOK_EVERY)
        in_storm, failures = told_of(metrics, loud), metrics.value("stackward_poll_failures_total")

        # Whose disk it fills cuts it: what nobody has read by then is gone.
        written = log.stat().st_size - size_before
        os.truncate(log, 0)
        daemon.until(lambda: told_of(daemon.metrics(), loud).gaps > before.gaps)
        with log.open("a") as again:
            again.write(2 * LINE + LAST)
        daemon.until(lambda: told_of(daemon.metrics(), loud).handshakes > before.handshakes)
        after = told_of(daemon.metrics(), loud)

    for vm, moments in answers.items():
        pauses = [later - earlier for earlier, later in pairwise(sorted(moments))]
        assert len(pauses) >= 2, vm
        assert max(pauses) < 4 * POLL_SECONDS, vm
    assert failures == 0
    assert resident_most - resident_before < 64 << 20
    assert in_storm.behind > 0
    assert 0 < in_storm.bytes < SHARE * (STORM_SECONDS + 10)
    lines, events = after.lines - before.lines - 1, after.events - before.events
    assert events > 10_000
    assert lines - events in (0, 1)  # one may have been cut in its middle
    assert 0.9 * events < after.told_as_count < events
    assert after.gaps == before.gaps + 1
    assert after.bytes - before.bytes + after.gap_bytes <= written + len(2 * LINE + LAST)
