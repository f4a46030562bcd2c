"""Patience for ways that fail: when to try again, and whose turn it is. No SSH in here."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random
from typing import Protocol

from stackward.errors import Garbled, Leg, Refused, TimedOut, TransportError, Unreachable
from stackward.ports import Clock


class BackOff:
    """How long one way is left alone after it failed.

    The wait doubles with every failure in a row, between two bounds, and is shortened by up to
    half at random, so that what failed together is not tried again together.
    """

    __slots__ = ("_clock", "_dice", "_failures", "_last", "_longest", "_shortest", "_until")

    def __init__(
        self, clock: Clock, dice: Random, *, shortest: timedelta, longest: timedelta
    ) -> None:
        self._clock = clock
        self._dice = dice
        self._shortest = shortest
        self._longest = longest
        self._failures = 0
        self._until = 0.0
        self._last: TransportError | None = None

    def check(self) -> None:
        """Raise the last failure again while it is too early for a new attempt.

        When the next one may come is only a note: what people read of one trouble stays the same.
        """
        if self._last is None:
            return
        left = self._until - self._clock.monotonic()
        if left > 0:
            until = self._clock.now() + timedelta(seconds=left)
            again = _unsent(self._last, str(self._last))
            again.add_note(f"not tried again before {until:%H:%M:%S} UTC")
            raise again

    def failed(self, error: TransportError) -> None:
        """An attempt was made and failed."""
        doublings = min(self._failures, 20)  # enough for any bounds, and no float overflow
        wait = min(self._longest, self._shortest * 2**doublings)
        self._failures += 1
        self._until = self._clock.monotonic() + wait.total_seconds() * self._dice.uniform(0.5, 1)
        self._last = _unsent(error, str(error))  # without the frames that the traceback keeps alive

    def succeeded(self) -> None:
        """The way works: the next failure is a first one."""
        self._failures = 0
        self._last = None


def _unsent(error: TransportError, text: str) -> TransportError:
    """The same failure in other words; this time nothing was sent."""
    match error:
        case Refused(kind=kind, code=code, leg=leg):
            return Refused(text, kind=kind, code=code, leg=leg, maybe_sent=False)
        case TimedOut(leg=leg):
            return TimedOut(text, leg=leg, maybe_sent=False)
        case Garbled(leg=leg):
            return Garbled(text, leg=leg, maybe_sent=False)
        case _:
            return Unreachable(text, leg=error.leg, maybe_sent=False)


class GivesUp(Protocol):
    """Who waits for something until a deadline."""

    def give_up(self) -> None:
        """The deadline has come."""
        ...


class Deadlines:
    """Deadlines of which most are never reached: one timer for all who wait, not one for each."""

    __slots__ = ("_due", "_timer", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[GivesUp, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def add(self, who: GivesUp, deadline: float) -> None:
        """Call `who.give_up` at this loop time, unless it is dropped before."""
        self._waiting[who] = deadline
        if self._timer is None or deadline < self._due:
            self._wake_at(deadline)

    def drop(self, who: GivesUp) -> None:
        """It waits no longer. The timer runs on: it is looked at when it is due."""
        self._waiting.pop(who, None)

    def _wake_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = asyncio.get_running_loop().call_at(due, self._look)

    def _look(self) -> None:
        self._timer = None
        # A loop counts milliseconds: it may wake up a little early.
        reached = [who for who, due in self._waiting.items() if due <= self._due]
        for who in reached:
            del self._waiting[who]
        if self._waiting:
            self._wake_at(min(self._waiting.values()))
        for who in reached:
            who.give_up()


@asynccontextmanager
async def turn(
    gate: asyncio.Lock | asyncio.Semaphore, deadline: float, *, waiting_for: str, leg: Leg
) -> AsyncIterator[None]:
    """Hold `gate` inside; when the deadline (loop time) comes first, say what was waited for."""
    try:
        async with asyncio.timeout_at(deadline):
            await gate.acquire()
    except TimeoutError:
        raise TimedOut(f"waited in vain for {waiting_for}", leg=leg, maybe_sent=False) from None
    try:
        yield
    finally:
        gate.release()
