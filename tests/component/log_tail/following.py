"""Both tails on real files of this machine: the script under a real bash, and its local twin."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from stackward.catalog.log_tail import (
    LogTailSettings,
    RawChunk,
    TailReader,
    log_tail_command,
    log_tail_script,
    tail_keepalive_line,
)
from stackward.model.guest import LogPosition
from stackward.transports.local_tail import LocalTail

NONCE = "n0nce" * 5
SETTINGS = LogTailSettings(
    path="/cloud.log",
    poll=timedelta(milliseconds=20),
    grace=timedelta(milliseconds=60),
    dead_man=timedelta(seconds=120),
)
DEADLINE_SECONDS = 25


class Following:
    """What came of one log while it was followed: `chunks` is all so far."""

    def __init__(self, resume: LogPosition | None, settings: LogTailSettings) -> None:
        self.settings = settings
        self.reader = TailReader(resume, settings, nonce=NONCE)
        self.chunks: list[RawChunk] = []

    @property
    def lines(self) -> list[bytes]:
        return [line for chunk in self.chunks for line in chunk.lines]

    @property
    def gaps(self) -> list[int | None]:
        return [chunk.gap_bytes_min for chunk in self.chunks if chunk.gap_bytes_min != 0]

    @property
    def position(self) -> LogPosition:
        assert self.reader.position is not None
        return self.reader.position

    async def more(self) -> bytes:
        """The next bytes of the stream."""
        raise NotImplementedError

    def keepalive(self) -> None:
        """Show a sign of life, where there is anybody to see it."""

    async def until(self, is_enough: Callable[["Following"], bool]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not is_enough(self):
                self.chunks += self.reader.feed(await self.more())

    async def placed(self) -> None:
        await self.until(lambda following: bool(following.chunks))

    async def sees(self, *lines: bytes) -> None:
        """Wait for as many lines as named, and expect exactly those."""
        await self.until(lambda following: len(following.lines) >= len(lines))
        assert self.lines == list(lines)

    async def confirmed(self, offset: int) -> None:
        """Wait until the script has told that it read up to here, be it half a line."""
        await self.until(lambda it: it.reader.confirmed_offset == offset)


class ScriptFollowing(Following):
    """One channel."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        resume: LogPosition | None,
        settings: LogTailSettings,
    ) -> None:
        super().__init__(resume, settings)
        self.process = process

    async def more(self) -> bytes:
        assert self.process.stdout is not None
        data = await self.process.stdout.read(65536)
        assert data, "the script ended"
        return data

    def keepalive(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(tail_keepalive_line())

    async def ended(self) -> None:
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await self.process.stdout.read(65536):
                pass
            await self.process.wait()


class LocalFollowing(Following):
    """One tail that looks when it is asked to, and then as often as the script does."""

    def __init__(
        self, tail: LocalTail, resume: LogPosition | None, settings: LogTailSettings
    ) -> None:
        super().__init__(resume, settings)
        self.tail = tail
        self._is_quiet = False

    async def more(self) -> bytes:
        # Nothing is awaited behind the look: what it found must not get lost.
        await asyncio.sleep(self.settings.poll.total_seconds() if self._is_quiet else 0)
        data = self.tail.look()
        self._is_quiet = not data
        return data


@asynccontextmanager
async def following(
    root: Path, resume: LogPosition | None = None, settings: LogTailSettings = SETTINGS
) -> AsyncIterator[ScriptFollowing]:
    """The script, started as if the root of its VM were here."""
    process = await asyncio.create_subprocess_shell(
        log_tail_command(settings, resume),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "STACKWARD_ROOT": str(root)},
    )
    assert process.stdin is not None
    process.stdin.write(log_tail_script(settings, resume, nonce=NONCE))
    channel = ScriptFollowing(process, resume, settings)
    try:
        yield channel
    finally:
        process.stdin.close()
        if process.returncode is None:
            process.kill()
        await channel.ended()


@asynccontextmanager
async def following_locally(
    root: Path, resume: LogPosition | None = None, settings: LogTailSettings = SETTINGS
) -> AsyncIterator[LocalFollowing]:
    """The tail of a log of this machine."""
    here = replace(settings, path=f"{root}{settings.path}")
    tail = LocalTail(here, resume, nonce=NONCE)
    try:
        yield LocalFollowing(tail, resume, here)
    finally:
        tail.close()
