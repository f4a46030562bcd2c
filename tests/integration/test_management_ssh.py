"""The log of a management server over a real sshd: followed across a rotation, by strict keys."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from stackward.catalog.log_files import LogSource
from stackward.catalog.log_tail import LogTailSettings
from stackward.config.patterns import load_patterns
from stackward.errors import RefusalKind, Refused
from stackward.model.event import ManagementLogTold, ManagementSaid
from stackward.model.guest import LogChunk
from stackward.observe.equipment import Equipment
from stackward.observe.management_logs import (
    FollowedLog,
    ManagementLogs,
    ManagementLogsSettings,
)
from stackward.transports.clock import SystemClock
from stackward.transports.management_ssh import ManagementServer, ManagementSsh
from tests.builders import a_target
from tests.component.observe.watchtower import Watchtower, running
from tests.integration.lab.sshd import Jump, SshLab, why_no_sshd

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(150),
    pytest.mark.skipif(why_no_sshd() is not None, reason=why_no_sshd() or ""),
]

PATIENCE = 60.0
CPVM = a_target("v-13-VM")


@pytest.fixture
def lab(tmp_path):
    with SshLab(tmp_path) as running_lab:
        yield running_lab


def files_of(lab: SshLab, server: Jump, log: Path) -> ManagementSsh:
    ssh = lab.settings()
    return ManagementSsh(
        {
            "ms-1": ManagementServer(
                address=server.address,
                port=server.port,
                ssh=ssh,
                tail=LogTailSettings(path=str(log)),
            )
        },
        SystemClock(),
        Random(1),
    )


def say(log: Path, text: str, *, ahead: timedelta = timedelta(0)) -> None:
    at = datetime.now(UTC) + ahead
    head = f"{at:%Y-%m-%d %H:%M:%S},{at.microsecond // 1000:03d} INFO  [c.c.X] (x:ctx-1) (logid:1)"
    with log.open("a") as file:
        file.write(f"{head} {text}\n")


async def lines_of(chunks: AsyncIterator[LogChunk], count: int) -> list[bytes]:
    lines: list[bytes] = []
    async with asyncio.timeout(PATIENCE):
        while len(lines) < count:
            lines += (await anext(chunks)).lines
    return lines


async def test_a_log_is_followed_from_its_end_and_across_a_rotation(lab, tmp_path):
    log = tmp_path / "management-server.log"
    say(log, "before we came")
    chunks = files_of(lab, lab.start_jump("ms-1"), log).follow("ms-1", None)
    async with asyncio.timeout(PATIENCE):
        assert (await anext(chunks)).data == b""
    say(log, "one")
    first = await lines_of(chunks, 1)
    say(log, "two")
    log.rename(log.with_suffix(".1"))
    say(log, "three")
    rest = await lines_of(chunks, 2)
    assert [line.rpartition(b" ")[2] for line in first + rest] == [b"one", b"two", b"three"]


async def test_a_server_whose_key_is_not_known_is_refused(lab, tmp_path):
    server = lab.start_jump("ms-1")
    (lab.folder / "known_hosts").write_text("")
    with pytest.raises(Refused, match="management server ms-1") as refused:
        await anext(files_of(lab, server, tmp_path / "x.log").follow("ms-1", None))
    assert refused.value.kind is RefusalKind.HOST_KEY


async def test_what_it_says_of_a_vm_is_told_by_our_clock_and_a_cut_is_got_over(lab, tmp_path):
    log, server = tmp_path / "management-server.log", lab.start_jump("ms-1")
    say(log, "before we came")
    tower, clock = Watchtower(), SystemClock()
    equipment = Equipment(
        sink=tower.sink, snapshots=tower.bulletin, clock=clock, log=tower.log, random=Random(1)
    )
    logs = ManagementLogs(
        [FollowedLog(name="ms-1", zone=UTC, files=files_of(lab, server, log), is_local=False)],
        equipment,
        ManagementLogsSettings(pause_seconds_min=0.1, pause_seconds_max=0.5),
        load_patterns((), source=LogSource.MANAGEMENT),
    )
    tower.publish(CPVM)

    def told(*, is_followed: bool) -> int:
        return sum(one.is_followed is is_followed for one in tower.told(ManagementLogTold))

    def measured() -> list[timedelta]:
        lines = [line for one in tower.told(ManagementSaid) for line in one.lines]
        return [line.clock_offset for line in lines if line.clock_offset is not None]

    async def until(condition) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.05)

    minute = timedelta(seconds=60)
    async with running(logs.run):
        await until(lambda: told(is_followed=True))
        for count in range(1, 4):
            say(log, "Zone 1 is fine", ahead=minute)
            await until(lambda: logs.lines >= count)  # noqa: B023  awaited at once
        server.kill()
        await until(lambda: told(is_followed=False))
        say(log, "Console proxy agent disconnected, proxy: v-13-VM", ahead=minute)
        server.start()
        await until(lambda: tower.told(ManagementSaid))
        async with asyncio.timeout(PATIENCE):
            while not measured():
                say(log, "Console proxy agent disconnected, proxy: v-13-VM", ahead=minute)
                await asyncio.sleep(0.2)
    offset = measured()[-1]
    assert abs(offset - minute) < timedelta(seconds=20)
