"""The script and the channel that it speaks through."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.component.log_tail.following import NONCE, SETTINGS, following

from stackward.catalog.log_tail import LogTailSettings, log_tail_script


@pytest.fixture
def log(tmp_path):
    return tmp_path / "cloud.log"


def append(path, *lines: bytes) -> None:
    with path.open("ab") as log:
        log.write(b"".join(line + b"\n" for line in lines))


async def test_silence_of_our_side_ends_the_script(log, tmp_path):
    append(log, b"0")
    short = replace(SETTINGS, dead_man=timedelta(milliseconds=200))
    async with following(tmp_path, settings=short) as tail:
        await tail.placed()
        await tail.ended()
        assert tail.process.returncode == 0


async def test_a_closed_channel_ends_the_script(log, tmp_path):
    append(log, b"0")
    async with following(tmp_path) as tail:
        await tail.placed()
        assert tail.process.stdin is not None
        tail.process.stdin.close()
        await tail.ended()


def counted_in_polls(every: timedelta, *, grace: int, at_most: int) -> LogTailSettings:
    """Silence is counted in polls, and ends the script: what takes more of them is never told."""
    return replace(SETTINGS, poll=every, grace=every * grace, dead_man=every * at_most)


async def test_a_file_of_the_past_is_left_after_the_grace_alone(log, tmp_path):
    append(log, b"0" * 40)
    async with following(tmp_path) as tail:
        await tail.placed()
        place = tail.position
    lines = [b"%d" % number * 40 for number in range(1, 7)]
    for number, line in enumerate(lines, 1):
        log.rename(tmp_path / f"cloud.{number}.log")
        append(log, line)
    settings = counted_in_polls(timedelta(milliseconds=20), grace=1, at_most=2 * len(lines))
    async with following(tmp_path, place, settings) as tail:
        await tail.sees(*lines)
        assert tail.gaps == []


async def test_a_name_is_looked_at_every_fifth_poll_until_it_is_another_files(log, tmp_path):
    append(log, b"0" * 40)
    settings = counted_in_polls(timedelta(milliseconds=100), grace=8, at_most=35)
    async with following(tmp_path, settings=settings) as tail:
        await tail.placed()
        log.rename(tmp_path / "cloud.log.1")
        append(log, b"1")
        await tail.sees(b"1")
        assert tail.gaps == []


def pages_of_children(pid: int) -> int:
    """The page faults of all children that ended (proc(5), cminflt): each costs some."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[8])


@pytest.mark.parametrize("case", ["idle", "little", "missing", "deleted"])
async def test_a_tail_that_finds_nothing_or_little_starts_no_process(log, tmp_path, case):
    if case != "missing":
        append(log, b"x" * 300)
    async with following(tmp_path) as tail:
        await tail.until(lambda it: bool(it.chunks) or it.reader.is_waiting)
        if case == "deleted":
            log.unlink()
        if case == "little":
            append(log, b"y" * 9000)  # much, once
        await asyncio.sleep(0.5)  # what there was to find out is found out
        before = pages_of_children(tail.process.pid)
        for _ in range(10):
            if case == "little":
                append(log, b"y" * 100)
            await asyncio.sleep(0.05)
        assert pages_of_children(tail.process.pid) == before


async def test_half_a_script_does_nothing(log, tmp_path):
    append(log, b"0")
    script = log_tail_script(SETTINGS, None, nonce=NONCE)
    process = await asyncio.create_subprocess_exec(
        "bash",
        "--norc",
        "--noprofile",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "STACKWARD_ROOT": str(tmp_path)},
    )
    async with asyncio.timeout(20):
        output, _ = await process.communicate(script[: len(script) * 3 // 4])
    assert output == b""
