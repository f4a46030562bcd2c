"""The three conversations inside a system VM: facts, log tail, one command.

Each is told what its channel hears and says what it wants written; opening, closing and the
library belong to ssh.py. Everything kept here has a limit.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol

from stackward.catalog.fact_loop import (
    BlockReader,
    FactLoopSettings,
    RawBlock,
    fact_loop_command,
    fact_loop_script,
    tick_line,
)
from stackward.catalog.log_tail import (
    LogTailSettings,
    RawChunk,
    TailReader,
    log_tail_command,
    log_tail_script,
    tail_keepalive_line,
)
from stackward.errors import Garbled, Leg, TimedOut, TransportError, Unreachable
from stackward.model.guest import CommandReply, FactBlock, LogChunk, LogPosition
from stackward.ports import Clock
from stackward.transports.ssh_limits import Deadlines

# A command that is over may leave a child behind that holds its output open: wait this long for
# the rest, then take what there is.
LAST_WORDS_SECONDS = 1.0
# Keep-alive lines that the other side does not read are not piled up.
UNREAD_BYTES_MAX = 64 * 1024


class ReadsBlocks(Protocol):
    """The reading half of the fact loop. Raises ValueError on what cannot be a block."""

    def feed(self, data: bytes) -> tuple[RawBlock, ...]: ...


class ReadsTail(Protocol):
    """The reading half of the log tail. Raises ValueError on what cannot be read."""

    def feed(self, data: bytes) -> tuple[RawChunk, ...]: ...


def _tail_script(settings: LogTailSettings, resume: LogPosition | None, nonce: str) -> bytes:
    return log_tail_script(settings, resume, nonce=nonce)


def _read_tail(resume: LogPosition | None, settings: LogTailSettings, nonce: str) -> ReadsTail:
    return TailReader(resume, settings, nonce=nonce)


@dataclass(frozen=True, slots=True)
class LoopKit:
    """How to start and read the two loops on the VM; tests put simpler ones in."""

    fact_command: Callable[[], str] = fact_loop_command
    fact_script: Callable[[FactLoopSettings], bytes] = fact_loop_script
    tick_line: Callable[[int], bytes] = tick_line
    read_blocks: Callable[[], ReadsBlocks] = BlockReader
    tail_command: Callable[[LogTailSettings, LogPosition | None], str] = log_tail_command
    tail_script: Callable[[LogTailSettings, LogPosition | None, str], bytes] = _tail_script
    tail_keepalive_line: Callable[[], bytes] = tail_keepalive_line
    read_tail: Callable[[LogPosition | None, LogTailSettings, str], ReadsTail] = _read_tail


class Channel(Protocol):
    """What a conversation may do with its channel. The lines never block."""

    def write(self, data: bytes) -> None: ...
    def write_eof(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def abort(self) -> None: ...


class Conversation(Protocol):
    """What a channel tells. `ended` comes exactly once if `opened` came, and last."""

    def opened(self, channel: Channel) -> None: ...
    def heard(self, data: bytes) -> None: ...
    def heard_aside(self, data: bytes) -> None:
        """Standard error."""
        ...

    def exited(self, status: int | None) -> None:
        """The remote process is over; None: by a signal. The channel may stay a while."""
        ...

    def ended(self, error: TransportError) -> None:
        """The channel is gone; why."""
        ...


class FactChannel:
    """The fact loop of one VM: one question at a time, late answers to older ones dropped."""

    __slots__ = (
        "_asked_at", "_channel", "_clock", "_deadlines", "_kit", "_loose_bytes", "_loose_bytes_max",
        "_reader", "_said", "_settings", "_tick", "_waiter", "failure",
    )  # fmt: skip

    def __init__(
        self,
        said: str,
        clock: Clock,
        deadlines: Deadlines,
        settings: FactLoopSettings,
        kit: LoopKit,
        bytes_max: int,
    ) -> None:
        self._said = said
        self._clock = clock
        self._deadlines = deadlines
        self._settings = settings
        self._kit = kit
        self._loose_bytes_max = bytes_max
        self._loose_bytes = 0  # heard since the last whole block
        self._reader = kit.read_blocks()
        self._channel: Channel | None = None
        self._waiter: asyncio.Future[FactBlock] | None = None
        self._tick = 0
        self._asked_at = clock.now()
        self.failure: TransportError | None = None

    def opened(self, channel: Channel) -> None:
        self._channel = channel

    def start(self) -> None:
        """Send the loop itself: it is installed nowhere."""
        self._write(self._kit.fact_script(self._settings))

    def heard(self, data: bytes) -> None:
        if self.failure is not None:
            return
        self._loose_bytes += len(data)
        try:
            blocks = self._reader.feed(data)
        except ValueError as error:
            self._fail(Garbled(f"{self._said}: cannot read the facts: {error}", leg=Leg.CHANNEL))
            return
        if blocks:
            self._loose_bytes = 0
        elif self._loose_bytes > self._loose_bytes_max:
            text = f"{self._said}: more than {self._loose_bytes_max} bytes without a whole block"
            self._fail(Garbled(text, leg=Leg.CHANNEL))
            return
        for block in blocks:
            self._take(block)

    def heard_aside(self, data: bytes) -> None:
        pass

    def exited(self, status: int | None) -> None:
        pass

    def ended(self, error: TransportError) -> None:
        self._fail(error)

    async def ask(self, tick: int, deadline: float) -> FactBlock:
        """The block of this tick. A tick must never be asked twice on one VM."""
        if self.failure is not None:
            raise self.failure
        waiter: asyncio.Future[FactBlock] = asyncio.get_running_loop().create_future()
        self._waiter = waiter
        self._tick = tick
        self._asked_at = self._clock.now()
        self._write(self._kit.tick_line(tick))
        self._deadlines.add(self, deadline)
        try:
            return await waiter
        finally:
            self._deadlines.drop(self)
            self._waiter = None

    def give_up(self) -> None:
        """The answer did not come by its deadline."""
        if self._waiter is not None and not self._waiter.done():
            text = f"{self._said}: the fact loop did not answer tick {self._tick} in time"
            self._waiter.set_exception(TimedOut(text, leg=Leg.CHANNEL))

    def _take(self, block: RawBlock) -> None:
        if self._waiter is None or self._waiter.done() or block.tick != self._tick:
            return  # an answer to an older question is no news
        tick, version, sections, ages, pending, size_bytes, lasting = block
        now = self._clock.now()
        told = FactBlock(
            *(tick, version, sections, self._asked_at, now),
            *(ages, pending, size_bytes, lasting),
        )
        self._waiter.set_result(told)

    def _write(self, data: bytes) -> None:
        if self._channel is None:
            return
        try:
            self._channel.write(data)
        except OSError:  # it closed this moment; `ended` follows and says why
            return

    def _fail(self, error: TransportError) -> None:
        if self.failure is not None:
            return
        self.failure = error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        if self._channel is not None:
            self._channel.abort()


class TailChannel:
    """The log tail of one VM: chunks in order, reading stopped while nobody takes them."""

    __slots__ = (
        "_bytes_max", "_channel", "_chunks", "_clock", "_failure", "_keepalive", "_kit", "_news",
        "_reader", "_said", "_script", "_settings", "_waiting_bytes",
    )  # fmt: skip

    def __init__(
        self,
        said: str,
        clock: Clock,
        settings: LogTailSettings,
        kit: LoopKit,
        resume: LogPosition | None,
        *,
        bytes_max: int,
    ) -> None:
        self._said = said
        self._clock = clock
        self._settings = settings
        self._kit = kit
        self._bytes_max = bytes_max
        nonce = secrets.token_hex(16)  # so that no content of a log can pass for a record
        self._script = kit.tail_script(settings, resume, nonce)
        self._reader = kit.read_tail(resume, settings, nonce)
        self._channel: Channel | None = None
        self._chunks: deque[LogChunk] = deque()
        self._waiting_bytes = 0
        self._news = asyncio.Event()
        self._failure: TransportError | None = None
        self._keepalive: asyncio.TimerHandle | None = None

    def opened(self, channel: Channel) -> None:
        self._channel = channel

    def start(self) -> None:
        """Send the tail's script, and from then on tell it that we are here."""
        self._write(self._script)
        self._tell_alive_later()

    def heard(self, data: bytes) -> None:
        if self._failure is not None:
            return
        try:
            chunks = self._reader.feed(data)
        except ValueError as error:
            self._fail(Garbled(f"{self._said}: cannot read the tail: {error}", leg=Leg.CHANNEL))
            return
        if not chunks:
            return
        now = self._clock.now()
        for chunk in chunks:
            self._chunks.append(
                LogChunk(
                    data=chunk.data,
                    start=chunk.start,
                    end=chunk.end,
                    received_at=now,
                    gap_bytes_min=chunk.gap_bytes_min,
                    behind_bytes=chunk.behind_bytes,
                )
            )
            self._waiting_bytes += chunk.end.offset - chunk.start.offset
        if self._waiting_bytes > self._bytes_max and self._channel is not None:
            self._channel.pause_reading()
        self._news.set()

    def heard_aside(self, data: bytes) -> None:
        pass

    def exited(self, status: int | None) -> None:
        pass

    def ended(self, error: TransportError) -> None:
        self._fail(error)

    async def chunks(self, deadline: float) -> AsyncGenerator[LogChunk, None]:
        """Chunk after chunk; `deadline` is for the first one. Ends by raising.

        Silence after that is no fault: a log may be quiet. The connection's keep-alive and the
        fact channel tell a dead path.
        """
        try:
            async with asyncio.timeout_at(deadline):
                await self._news.wait()
        except TimeoutError:
            text = f"{self._said}: the log tail did not find its place in time"
            raise TimedOut(text, leg=Leg.CHANNEL) from None
        while True:
            await self._news.wait()
            while self._chunks:
                yield self._chunks.popleft()
            if self._failure is not None:
                raise self._failure
            self._news.clear()
            self._waiting_bytes = 0
            if self._channel is not None:
                self._channel.resume_reading()

    def close(self) -> None:
        """Let go of the channel without waiting for the other side."""
        self._fail(Unreachable(f"{self._said}: the tail was closed", leg=Leg.CHANNEL))

    def _tell_alive_later(self) -> None:
        pause = self._settings.keepalive_interval.total_seconds()
        self._keepalive = asyncio.get_running_loop().call_later(pause, self._tell_alive)

    def _tell_alive(self) -> None:
        if self._channel is None or self._failure is not None:
            return
        if self._channel.get_write_buffer_size() < UNREAD_BYTES_MAX:
            self._write(self._kit.tail_keepalive_line())
        self._tell_alive_later()

    def _write(self, data: bytes) -> None:
        if self._channel is None:
            return
        try:
            self._channel.write(data)
        except OSError:  # it closed this moment; `ended` follows and says why
            return

    def _fail(self, error: TransportError) -> None:
        if self._failure is not None:
            return
        self._failure = error
        self._news.set()
        if self._keepalive is not None:
            self._keepalive.cancel()
        if self._channel is not None:
            self._channel.abort()


class CommandChannel:
    """One command for an action: its output, cut to size, and its exit status."""

    __slots__ = (
        "_bytes_max", "_channel", "_exit", "_flood_bytes_max", "_heard_bytes", "_output", "_reply",
        "_said", "_timer", "was_opened",
    )  # fmt: skip

    def __init__(self, said: str, *, bytes_max: int, flood_bytes_max: int) -> None:
        self._said = said
        self._bytes_max = bytes_max
        self._flood_bytes_max = bytes_max + flood_bytes_max
        self._output = bytearray()
        self._heard_bytes = 0
        self._channel: Channel | None = None
        self._exit: tuple[int | None] | None = None  # None: still running
        self._timer: asyncio.TimerHandle | None = None
        self._reply: asyncio.Future[CommandReply] = asyncio.get_running_loop().create_future()
        self.was_opened = False  # from here on the command may have been sent

    def opened(self, channel: Channel) -> None:
        self._channel = channel
        self.was_opened = True

    def start(self) -> None:
        """Commands get no input."""
        if self._channel is not None:
            self._channel.write_eof()

    def heard(self, data: bytes) -> None:
        self._heard_bytes += len(data)
        self._output += data[: self._bytes_max - len(self._output)]
        if self._heard_bytes > self._flood_bytes_max:
            text = f"{self._said}: the command's output does not end"
            self._fail(Garbled(text, leg=Leg.CHANNEL))

    def heard_aside(self, data: bytes) -> None:
        self.heard(data)

    def exited(self, status: int | None) -> None:
        self._exit = (status,)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LAST_WORDS_SECONDS, self._finish)

    def ended(self, error: TransportError) -> None:
        if self._exit is None:
            self._fail(error)
        else:
            self._finish()

    async def reply(self, deadline: float) -> CommandReply:
        """The whole reply, or what kept it from coming."""
        try:
            async with asyncio.timeout_at(deadline):
                return await self._reply
        except TimeoutError:
            text = f"{self._said}: the command did not end in time"
            raise TimedOut(text, leg=Leg.CHANNEL) from None

    def close(self) -> None:
        """Let go of the channel without waiting for the other side."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._reply.cancel() and not self._reply.cancelled():
            self._reply.exception()  # nobody may be left to ask for it
        if self._channel is not None:
            self._channel.abort()

    def _finish(self) -> None:
        if self._reply.done() or self._exit is None:
            return
        output = bytes(self._output).decode(errors="replace")
        is_cut = self._heard_bytes > self._bytes_max
        self._reply.set_result(CommandReply(self._exit[0], output, is_cut))

    def _fail(self, error: TransportError) -> None:
        if not self._reply.done():
            self._reply.set_exception(error)
        if self._channel is not None:
            self._channel.abort()
