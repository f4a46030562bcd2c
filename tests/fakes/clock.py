"""A clock that follows the running loop: virtual on a virtual loop, real on a real one."""

import asyncio
from datetime import UTC, datetime, timedelta

EPOCH = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class LoopClock:
    """Time is EPOCH at loop time zero; `set_by` is by how much somebody has set the wall clock."""

    set_by = timedelta(0)

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.monotonic()) + self.set_by

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class FixedClock:
    """Stands still until somebody moves it; `sleep` moves it."""

    def __init__(self, now: datetime = EPOCH) -> None:
        self.moment = now

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return (self.moment - EPOCH).total_seconds()

    async def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)
        await asyncio.sleep(0)
