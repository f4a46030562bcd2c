"""A log in a storm costs its own VM's share and no more: memory, the others' probes, the counts."""

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from stackward.catalog.log_tail import LogTailSettings
from stackward.config.patterns import load_patterns
from stackward.model.event import Sighted
from stackward.model.log_flow import DropReason
from stackward.model.sighting import EventClass
from stackward.observe.tailer import Tailer, TailerSettings
from stackward.transports.clock import SystemClock
from stackward.transports.ssh_guests import SshGuests
from tests.component.observe.watchtower import Watchtower, running
from tests.component.ssh.servers import MemoryKeys, SilentLog
from tests.integration.lab.sshd import SshLab, why_no_sshd

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(180),
    pytest.mark.skipif(why_no_sshd() is not None, reason=why_no_sshd() or ""),
]

PATIENCE = 60.0
STORM_SECONDS = 4.0
STORM_BYTES_PER_SECOND = 50_000_000
SHARE = 2 << 20
WRITER = """
import sys, time
path, seconds, rate = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
line = b"2026-03-01 12:00:05,123 INFO  [cloud.agent.Agent] (m:1) Reconnecting to 10.1.1.%d\\n"
block = b"".join(line % (number % 250) for number in range(10_000))
begun, written = time.monotonic(), 0
with open(path, "ab", buffering=0) as log:
    while time.monotonic() - begun < seconds:
        log.write(block)
        written += len(block)
        time.sleep(max(0.0, written / rate - (time.monotonic() - begun)))
"""


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_storm_in_one_log_is_bounded_and_counted_and_nobody_else_waits(tmp_path):
    known = load_patterns(())
    known.prepare()
    with SshLab(tmp_path) as lab:
        jump = lab.start_jump()
        loud, calm = lab.start_vm("s-1-VM"), lab.start_vm("v-2-VM")
        for vm in (loud, calm):
            (vm.root / "var/log").mkdir(parents=True)
            (vm.root / "var/log/cloud.log").touch()
        guests = SshGuests(
            lab.settings(), MemoryKeys(), SystemClock(), SilentLog(), Random(7),
            tail=LogTailSettings(),
        )  # fmt: skip
        tower = Watchtower()
        equipment = replace(tower.equipment, clock=SystemClock())
        tailer = Tailer(guests, equipment, TailerSettings(bytes_per_second_max=SHARE), known, {})
        tower.publish(loud.target, calm.target, host=jump.host)
        answers: list[float] = []

        async def ask() -> None:
            loop = asyncio.get_running_loop()
            while True:
                tick = len(answers) + 1
                await guests.ask(calm.target, jump.host, tick, timeout=PATIENCE)
                answers.append(loop.time())
                await asyncio.sleep(0.1)

        async with running(tailer.run):
            async with asyncio.timeout(PATIENCE):
                while len(tailer.positions) < 2:
                    await asyncio.sleep(0.05)
            before, most = resident_bytes(), 0
            path = loud.root / "var/log/cloud.log"
            words = [str(path), str(STORM_SECONDS), str(STORM_BYTES_PER_SECOND)]
            writer = subprocess.Popen([sys.executable, "-c", WRITER, *words])
            try:
                async with running(ask):
                    for _ in range(round(STORM_SECONDS / 0.1)):
                        await asyncio.sleep(0.1)
                        most = max(most, resident_bytes())
            finally:
                writer.kill()
                writer.wait()
        await guests.close()
        size = path.stat().st_size

    told = [each for each in tower.told(Sighted) if each.target_id == loud.target.id]
    flow = next(each.flow for each in reversed(told) if each.flow is not None)
    one_by_one = sum(len(each.sightings) for each in told)
    in_bulk = sum(each.counted.get(EventClass.AGENT_CONNECTING, 0) for each in told)
    assert 0 < flow.bytes < min(size, SHARE * (STORM_SECONDS + 10))
    assert one_by_one + in_bulk == flow.lines > 10_000
    assert flow.dropped[DropReason.TOLD_AS_COUNT] == in_bulk > 10 * one_by_one
    assert most - before < 96 << 20
    pauses = [later - earlier for earlier, later in pairwise(answers)]
    assert max(pauses) < 10.0
    assert len(answers) > 5
