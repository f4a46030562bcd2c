"""The clock of the machine: the one place that may ask what time it is."""

import asyncio
import time
from datetime import UTC, datetime


class SystemClock:
    """`ports.Clock` on the machine's own clocks."""

    def now(self) -> datetime:
        """The wall clock, aware and in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go backwards, from an arbitrary start."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Let others run for at least this long."""
        await asyncio.sleep(seconds)
