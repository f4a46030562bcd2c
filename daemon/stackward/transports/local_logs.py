"""`LocalLogs`: the LogFiles port for files of this machine, such as the management server's log.

Nothing here touches a file on the event loop: each followed log has a thread that takes one short
look at a time. The thread is a daemon, because a file system that hangs must not keep the process
from ending; whoever waits for it is told after a while.
"""

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from queue import SimpleQueue

from stackward.catalog.log_tail import LogTailSettings, TailGarbled, TailReader
from stackward.errors import Garbled, TimedOut, Unreachable
from stackward.model.guest import LogChunk, LogPosition
from stackward.ports import Clock
from stackward.transports.local_tail import LocalTail

LOOK_SECONDS_MAX = 60.0


class LocalLogs:
    """`paths` says where the log of each name lies; all else is as for the logs of system VMs."""

    def __init__(
        self,
        paths: Mapping[str, str],
        clock: Clock,
        settings: LogTailSettings | None = None,
        *,
        look_seconds_max: float = LOOK_SECONDS_MAX,
    ) -> None:
        self._paths = dict(paths)
        self._clock = clock
        self._settings = settings or LogTailSettings()
        self._look_seconds_max = look_seconds_max

    async def follow(self, name: str, resume: LogPosition | None) -> AsyncIterator[LogChunk]:
        """Whole lines from `resume` on. Ends by raising a TransportError."""
        path = self._paths.get(name)
        if path is None:
            raise Unreachable(f"no path is known for the log {name!r}")
        settings, nonce = replace(self._settings, path=path), secrets.token_hex(12)
        reader = TailReader(resume, settings, nonce=nonce)
        tail = LocalTail(settings, resume, nonce=nonce)
        hand = _Hand(f"log {name}", tail.look, tail.close)
        try:
            while True:
                told = await self._look(hand, path)
                if not told:
                    await self._clock.sleep(settings.poll.total_seconds())
                    continue
                now = self._clock.now()
                for chunk in reader.feed(told):
                    yield LogChunk(
                        data=chunk.data,
                        start=chunk.start,
                        end=chunk.end,
                        received_at=now,
                        gap_bytes_min=chunk.gap_bytes_min,
                        behind_bytes=chunk.behind_bytes,
                    )
        except TailGarbled as trouble:
            raise Garbled(f"{path}: {trouble}") from trouble
        finally:
            hand.let_go()

    async def _look(self, hand: "_Hand", path: str) -> bytes:
        try:
            async with asyncio.timeout(self._look_seconds_max):
                return await hand.do()
        except TimeoutError as error:
            raise TimedOut(f"{path}: no answer of the file system") from error
        except OSError as error:
            raise Unreachable(f"{path}: {error.strerror or error}") from error


class _Hand:
    """A thread that does one thing whenever it is asked, until it is let go."""

    def __init__(self, name: str, work: Callable[[], bytes], end: Callable[[], None]) -> None:
        self._work = work
        self._end = end
        self._asked: SimpleQueue[asyncio.Future[bytes] | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    async def do(self) -> bytes:
        """Have it done; what it raised is raised here."""
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._asked.put(answer)
        return await answer

    def let_go(self) -> None:
        self._asked.put(None)

    def _run(self) -> None:
        while (answer := self._asked.get()) is not None:
            told, trouble = b"", None
            try:
                told = self._work()
            except Exception as error:  # carried to whoever asked
                trouble = error
            with suppress(RuntimeError):  # that loop is closed: nobody is there to hear it
                self._loop.call_soon_threadsafe(_answer, answer, told, trouble)
        self._end()


def _answer(answer: "asyncio.Future[bytes]", told: bytes, trouble: Exception | None) -> None:
    if answer.done():
        return  # whoever asked does not wait any more
    if trouble is None:
        answer.set_result(told)
    else:
        answer.set_exception(trouble)
