"""Patience for ways that fail: when to try again, and whose turn it is. No SSH in here."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from math import ceil
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


STEP_SECONDS = 0.25


class GivesUp(Protocol):
    """Who waits for something until a deadline."""

    def give_up(self) -> None:
        """The deadline has come; in the same moment it may have been dropped."""
        ...


class Deadlines:
    """Deadlines of which most are never reached: one timer for all who wait, not one for each.

    They are kept in steps of a quarter of a second: none is called before its time, and some are
    called by so much later.
    """

    __slots__ = ("_next", "_step_of", "_steps", "_timer")

    def __init__(self) -> None:
        self._steps: dict[int, dict[GivesUp, None]] = {}
        self._step_of: dict[GivesUp, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0  # the step that the timer is set to

    def add(self, who: GivesUp, deadline: float) -> None:
        """Call `who.give_up` soon after this loop time, unless it is dropped before."""
        step = ceil(deadline / STEP_SECONDS)
        self.drop(who)
        self._step_of[who] = step
        waiting = self._steps.get(step)
        if waiting is None:
            waiting = self._steps[step] = {}
            if self._timer is None or step < self._next:
                self._wake_at(step)
        waiting[who] = None

    def drop(self, who: GivesUp) -> None:
        """It waits no longer. The timer runs on: when it is due, it finds nobody."""
        step = self._step_of.pop(who, None)
        if step is not None:
            del self._steps[step][who]

    def _wake_at(self, step: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = step
        self._timer = asyncio.get_running_loop().call_at(step * STEP_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        reached = tuple(self._steps.pop(self._next, ()))
        for who in reached:
            del self._step_of[who]
        if self._steps:
            self._wake_at(min(self._steps))
        loop = asyncio.get_running_loop()
        for who in reached:
            loop.call_soon(who.give_up)  # each for itself: one that fails must not cost the others


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
