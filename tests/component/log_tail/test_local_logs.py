"""The port for logs of this machine: its threads hold nobody, and its troubles are told."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import pytest
from tests.component.log_tail.following import SETTINGS
from tests.fakes.clock import LoopClock

from stackward.errors import TimedOut, TransportError, Unreachable
from stackward.model.guest import LogChunk, LogPosition
from stackward.transports.local_logs import LocalLogs
from stackward.transports.local_tail import LocalTail

NAME = "management-server.log"


@pytest.fixture
def log(tmp_path):
    return tmp_path / NAME


def logs(log, **settings: Any) -> LocalLogs:
    return LocalLogs({NAME: str(log)}, LoopClock(), SETTINGS, **settings)


@asynccontextmanager
async def followed(
    files: LocalLogs, resume: LogPosition | None = None, name: str = NAME
) -> AsyncIterator[AsyncIterator[LogChunk]]:
    async with (
        asyncio.timeout(25),
        aclosing(cast("Any", files.follow(name, resume))) as chunks,
    ):
        yield chunks


def threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == f"log {NAME}"]


async def ended() -> None:
    async with asyncio.timeout(25):
        while threads():
            await asyncio.sleep(0.01)


async def test_it_tells_its_place_and_then_whole_lines(log):
    log.write_bytes(b"old\n")
    async with followed(logs(log)) as chunks:
        first = await anext(chunks)
        assert (first.data, first.end.offset, first.end.generation) == (b"", 4, 1)
        with log.open("ab") as writer:
            writer.write(b"new\nhalf")
        second = await anext(chunks)
        assert (second.data, second.end.offset) == (b"new\n", 8)
        assert second.behind_bytes == len(b"half")
        place = second.end
    await ended()
    with log.open("ab") as writer:
        writer.write(b" and whole\n")
    async with followed(logs(log), place) as chunks:
        assert (await anext(chunks)).data == b""
        assert (await anext(chunks)).data == b"half and whole\n"
    await ended()


async def test_a_name_without_a_path_is_refused(log):
    async with followed(logs(log), name="other.log") as chunks:
        with pytest.raises(Unreachable, match=r"other\.log"):
            await anext(chunks)


async def test_a_file_system_that_hangs_is_told_and_holds_nobody(log, monkeypatch):
    log.write_bytes(b"old\n")
    release = threading.Event()
    look = LocalTail.look

    def hang(tail: LocalTail) -> bytes:
        release.wait(60)
        return look(tail)

    monkeypatch.setattr(LocalTail, "look", hang)
    beats = 0
    try:
        async with followed(logs(log, look_seconds_max=0.3)) as chunks:

            async def beat() -> None:
                nonlocal beats
                while True:
                    beats += 1
                    await asyncio.sleep(0.01)

            async with asyncio.TaskGroup() as group:
                beating = group.create_task(beat())
                with pytest.raises(TimedOut, match=NAME):
                    await anext(chunks)
                beating.cancel()
        assert beats > 3
        assert all(thread.daemon for thread in threads())
    finally:
        release.set()
    await ended()


async def test_what_the_file_system_refuses_is_a_trouble_of_the_transport(log, monkeypatch):
    def fail(_: LocalTail) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(LocalTail, "look", fail)
    async with followed(logs(log)) as chunks:
        with pytest.raises(Unreachable, match="Input/output error"):
            await anext(chunks)
    await ended()


async def test_a_log_that_may_not_be_read_is_waited_for(log, monkeypatch):
    """As root one may read anything, so the refusal is made here."""
    log.write_bytes(b"first line of all\n")
    is_allowed = threading.Event()
    asked = threading.Event()
    head = LocalTail._begin

    def begin(tail: LocalTail) -> bool:
        asked.set()
        return is_allowed.is_set() and head(tail)

    monkeypatch.setattr(LocalTail, "_begin", begin)
    async with followed(logs(log)) as chunks, asyncio.TaskGroup() as group:
        first = group.create_task(cast("Any", anext(chunks)))
        await asyncio.to_thread(asked.wait, 20)
        assert not first.done()
        is_allowed.set()
        assert (await first).start.offset == 0  # it came while it was waited for: new as a whole


async def test_a_permission_that_is_lost_and_given_back_costs_nothing(log, monkeypatch):
    """As root one may read anything, so the refusal is made here."""
    is_allowed = True
    real_open = os.open

    def guarded(path: str, flags: int) -> int:
        if path == str(log) and not is_allowed:
            raise PermissionError(13, "Permission denied", path)
        return real_open(path, flags)

    monkeypatch.setattr("stackward.transports.local_files.os.open", guarded)
    log.write_bytes(b"old\n")
    lines: list[bytes] = []
    gaps: list[int | None] = []

    async def take(chunks: AsyncIterator[LogChunk], enough: int) -> None:
        while len(lines) < enough:
            chunk = await anext(chunks)
            lines.extend(chunk.lines)
            gaps.append(chunk.gap_bytes_min)

    async with followed(logs(log)) as chunks:
        await anext(chunks)
        is_allowed = False
        with log.open("ab") as writer:
            writer.write(b"1\n")
        await take(chunks, 1)
        log.rename(f"{log}.2026-11-27")
        log.write_bytes(b"2\n")
        async with asyncio.TaskGroup() as group:
            taking = group.create_task(take(chunks, 2))
            await asyncio.sleep(0.3)
            assert not taking.done()
            is_allowed = True
    assert (lines, set(gaps)) == ([b"1", b"2"], {0})


async def test_cancelled_it_lets_go_of_its_thread(log):
    log.write_bytes(b"old\n")

    async def follow_for_ever() -> None:
        async with followed(logs(log)) as chunks:
            async for _ in chunks:
                pass

    async with asyncio.TaskGroup() as group:
        task = group.create_task(follow_for_ever())
        while not threads():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        task.cancel()
    await ended()


async def test_nothing_but_transport_errors_leave_it(log, monkeypatch):
    monkeypatch.setattr(LocalTail, "look", lambda _: b"\nnot a record at all" * 10_000)
    async with followed(logs(log)) as chunks:
        with pytest.raises(TransportError):
            await anext(chunks)
