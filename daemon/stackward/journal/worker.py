"""One thread that owns one SQLite connection and does jobs in order.

The loop side hands over a job and waits for it under a deadline; the thread side drains all that
waits into one transaction (group commit), so a thousand appends cost a handful of syncs.
"""

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from stackward.errors import JournalError

QUEUE_MAX = 10_000  # jobs; when full, the next call is refused at once
BATCH_MAX = 512

Answer = TypeVar("Answer")
Work = Callable[[sqlite3.Connection], Any]


@dataclass(slots=True, eq=False)
class _Job:
    """`is_given_up`: nobody waits any more. What has not begun by then is never done."""

    work: Work
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[Any]"
    is_given_up: bool = False


class Worker:
    """The thread. It starts with the first job, opens its connection then, and anew after trouble.

    With `in_transactions` jobs are batched: a batch is committed before any of it is answered, and
    a batch that fails fails whole.
    """

    def __init__(
        self, name: str, connect: Callable[[], sqlite3.Connection], *, in_transactions: bool
    ) -> None:
        self._name = name
        self._connect = connect
        self._in_transactions = in_transactions
        self._connection: sqlite3.Connection | None = None
        self._jobs: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._is_closing = False
        self._thread: threading.Thread | None = None

    async def do(self, work: Callable[[sqlite3.Connection], Answer], *, deadline: float) -> Answer:
        """Have the work done in the thread. Raises JournalError, at the deadline at the latest."""
        loop = asyncio.get_running_loop()
        job = _Job(work, loop, loop.create_future())
        self._hand_over(job)
        try:
            async with asyncio.timeout(deadline):
                return cast("Answer", await job.answer)
        except TimeoutError as error:
            raise JournalError(f"the journal did not answer within {deadline:g} s") from error
        finally:
            job.is_given_up = True

    def _hand_over(self, job: _Job) -> None:
        with self._wake:
            if self._is_closing:
                raise JournalError("the journal is closed")
            if len(self._jobs) >= QUEUE_MAX:
                raise JournalError(f"{QUEUE_MAX} calls already wait for the journal")
            if self._thread is None:
                # A daemon thread: a disk that hangs must not keep the process from ending.
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._jobs.append(job)
            self._wake.notify()

    async def close(self, *, deadline: float) -> None:
        """Take no more jobs; what waits is still done, then the connection is closed."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, deadline)

    def _run(self) -> None:
        while batch := self._next_batch():
            answers = self._do_batch(batch)
            for loop, answered in _by_loop(batch, answers).items():
                try:
                    loop.call_soon_threadsafe(_answer, answered)
                except RuntimeError:
                    continue  # that loop is closed: nobody is there to hear the answer
        self._disconnect()

    def _next_batch(self) -> list[_Job]:
        size = BATCH_MAX if self._in_transactions else 1
        with self._wake:
            while not self._jobs and not self._is_closing:
                self._wake.wait()
            return [self._jobs.popleft() for _ in range(min(size, len(self._jobs)))]

    def _do_batch(self, batch: list[_Job]) -> list[object]:
        """One answer per job: what its work returned, or the exception it gets."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            return self._do_connected(self._connection, batch)
        except (sqlite3.Error, OSError) as error:
            self._disconnect()
            return [JournalError(f"{self._name}: {error}") for _ in batch]
        except JournalError as error:
            self._disconnect()
            return [type(error)(f"{self._name}: {error}") for _ in batch]
        except Exception as error:  # a bug: carried to whoever asked, and the thread lives on
            self._disconnect()
            return [error for _ in batch]

    def _do_connected(self, connection: sqlite3.Connection, batch: list[_Job]) -> list[object]:
        live = [not job.is_given_up for job in batch]
        if self._in_transactions:
            connection.execute("BEGIN IMMEDIATE")
        answers = [
            job.work(connection) if is_live else None
            for job, is_live in zip(batch, live, strict=True)
        ]
        if self._in_transactions:
            connection.execute("COMMIT")
        return answers

    def _disconnect(self) -> None:
        """Closing rolls back what is open."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error:
                return  # it was in trouble already, and is gone either way


def _by_loop(
    batch: list[_Job], answers: list[object]
) -> dict[asyncio.AbstractEventLoop, list[tuple[_Job, object]]]:
    grouped: dict[asyncio.AbstractEventLoop, list[tuple[_Job, object]]] = {}
    for job, answer in zip(batch, answers, strict=True):
        grouped.setdefault(job.loop, []).append((job, answer))
    return grouped


def _answer(answered: list[tuple[_Job, object]]) -> None:
    for job, answer in answered:
        if job.answer.done():
            continue
        if isinstance(answer, Exception):
            job.answer.set_exception(answer)
        else:
            job.answer.set_result(answer)
