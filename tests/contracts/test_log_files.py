"""`ports.LogFiles`: the fake that the observers are tested with, and the one for local files."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from stackward.model.guest import LogChunk, LogPosition
from stackward.ports import LogFiles
from stackward.transports.clock import SystemClock
from stackward.transports.local_logs import LocalLogs
from tests.fakes.log_files import MemoryLogFiles

PATIENCE = 60.0
NAME = "ms-1"


class Memory:
    """The fake."""

    def __init__(self, folder: Path) -> None:
        del folder
        self.files = MemoryLogFiles(SystemClock())

    def write(self, *lines: str) -> None:
        self.files.write(NAME, *lines)


class Local:
    """The adapter for files of this machine."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "management-server.log"
        self._path.touch()
        self.files: LogFiles = LocalLogs({NAME: str(self._path)}, SystemClock())

    def write(self, *lines: str) -> None:
        with self._path.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)


@pytest.fixture(params=[Memory, Local])
def log(request, tmp_path):
    return request.param(tmp_path)


async def read(chunks: AsyncIterator[LogChunk], count: int) -> tuple[list[bytes], LogPosition]:
    lines: list[bytes] = []
    async with asyncio.timeout(PATIENCE):
        while True:
            chunk = await anext(chunks)
            assert len(chunk.data) == chunk.end.offset - chunk.start.offset
            lines += chunk.lines
            if len(lines) >= count:
                return lines, chunk.end


async def test_without_a_place_it_begins_at_the_end_and_says_so_at_once(log):
    log.write("before")
    async with aclosing(log.files.follow(NAME, None)) as chunks:
        async with asyncio.timeout(PATIENCE):
            first = await anext(chunks)
        assert (first.data, first.start) == (b"", first.end)
        log.write("one", "two")
        lines, _ = await read(chunks, 2)
    assert lines == [b"one", b"two"]


async def test_from_a_place_it_goes_on_there_and_misses_and_repeats_nothing(log):
    async with aclosing(log.files.follow(NAME, None)) as chunks:
        async with asyncio.timeout(PATIENCE):
            await anext(chunks)
        log.write("one")
        _, place = await read(chunks, 1)
    log.write("two")
    async with aclosing(log.files.follow(NAME, place)) as chunks:
        log.write("three")
        lines, _ = await read(chunks, 2)
    assert lines == [b"two", b"three"]
