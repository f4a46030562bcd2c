"""Moments at which many sleepers wake up together: one timer for all, not one for each."""

import asyncio
from math import ceil, floor

from stackward.ports import Clock


class Slots:
    """Wakes up who sleeps until a slot. Slots lie `seconds` apart, which may be changed."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._sleepers: dict[float, list[asyncio.Future[None]]] = {}
        self.seconds = seconds

    def after(self, due: float) -> float:
        """The first slot that is not before this moment, both on the monotonic clock."""
        return ceil(due / self.seconds) * self.seconds

    async def sleep_until(self, slot: float) -> None:
        """Sleep until a slot that `after` gave; needs `run`."""
        waker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.setdefault(slot, []).append(waker)
        await waker

    async def run(self) -> None:
        """Wake up sleepers until cancelled."""
        while True:
            now, seconds = self._clock.monotonic(), self.seconds
            # A timer may be early by its own grain: who is due in a moment is due now.
            soon = now + seconds / 4
            for slot in [slot for slot in self._sleepers if slot <= soon]:
                for waker in self._sleepers.pop(slot):
                    if not waker.done():  # its sleeper may have been cancelled
                        waker.set_result(None)
            await self._clock.sleep((floor(soon / seconds) + 1) * seconds - now)
