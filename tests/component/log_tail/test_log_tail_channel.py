"""The script and the channel that it speaks through."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.component.log_tail.following import NONCE, SETTINGS, following

from stackward.catalog.log_tail import log_tail_script


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
