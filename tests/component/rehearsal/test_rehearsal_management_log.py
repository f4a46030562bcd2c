"""The rehearsed management server says what happens to its VMs, in the words of its release."""

import asyncio
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from tests.component.rehearsal.visitor import BRISK, settles

from stackward.catalog.log_files import FileAssembler, LogSource
from stackward.catalog.mentions import mentions_in
from stackward.catalog.signatures import LogReading, SignatureSet
from stackward.config.patterns import load_patterns
from stackward.model.sighting import EventClass
from stackward.rehearsal.clock import world_now
from stackward.rehearsal.management_log import NAME
from stackward.rehearsal.server import Rehearsal
from stackward.rehearsal.settings import GuestKind, RehearsalSettings, Release

SMALL = RehearsalSettings(zones=1, pace=BRISK, guests=GuestKind.NONE)


@cache
def patterns() -> SignatureSet:
    return load_patterns((), source=LogSource.MANAGEMENT)


def events_of(path: Path, name: str) -> list[EventClass]:
    """What the built-in patterns see in the log of this VM, by its name or its agent's row."""
    reading = LogReading(patterns(), None)
    assembler = FileAssembler(LogSource.MANAGEMENT, read_at=world_now())
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    records = [*(assembler.take(line) for line in lines), assembler.end()]
    told = []
    for record in records:
        if record is None:
            continue
        text = "\n".join((record.message, *record.trace))
        mentions = mentions_in(text)
        number = name.split("-")[1]
        is_its = name in text or {str(100 + int(number))} & mentions.rows
        sighting = reading.read(record, world_now()) if is_its else None
        if sighting is not None:
            told.append(sighting.event)
    return told


@pytest.mark.parametrize("release", ["4.19.1.0", "4.20.1.0"])
async def test_each_end_of_an_agent_is_told_in_its_own_way(release):
    settings = replace(SMALL, release=Release(release))
    async with Rehearsal(settings) as cloud:
        log = cloud.directory / NAME
        cloud.inject("agent-stopped-by-person", "s-1-VM")
        cloud.inject("agent-is-killed", "v-2-VM")
        await settles(lambda: EventClass.AGENT_CONNECTED in events_of(log, "v-2-VM"))
        stopped, killed = events_of(log, "s-1-VM"), events_of(log, "v-2-VM")
    assert stopped[0] is EventClass.AGENT_SHUTDOWN
    assert killed[0] is EventClass.AGENT_DISCONNECT_EVENT
    assert EventClass.AGENT_SHUTDOWN not in killed


async def test_a_vm_found_off_is_told_and_started_by_the_scan():
    async with Rehearsal(SMALL) as cloud:
        log = cloud.directory / NAME
        cloud.inject("vm-stops", "v-2-VM")
        await settles(lambda: EventClass.SYSTEMVM_UP in events_of(log, "v-2-VM"))
        told = events_of(log, "v-2-VM")
    assert EventClass.HA_ACTION in told
    assert EventClass.SYSTEMVM_STARTING in told


async def test_it_speaks_with_every_scan_and_stays_small():
    async with Rehearsal(replace(SMALL, log_bytes_max=2000)) as cloud:
        log = cloud.directory / NAME
        await settles(lambda: log.with_name(f"{NAME}.1").exists())
        await asyncio.sleep(0)
        assert log.stat().st_size < 4000
