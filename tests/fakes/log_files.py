"""`ports.LogFiles` in memory: lines are written to it, and whoever follows gets them at once."""

import asyncio
from collections.abc import AsyncIterator

from stackward.errors import TransportError
from stackward.model.guest import LogChunk, LogPosition
from stackward.ports import Clock
from tests.builders import a_position


class MemoryLogFiles:
    """Logs by name. `followed` says who was followed from where."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._texts: dict[str, bytes] = {}
        self._gaps: dict[str, int] = {}
        self._troubles: dict[str, TransportError] = {}
        self.followed: list[tuple[str, LogPosition | None]] = []

    def write(self, name: str, *lines: str) -> None:
        """Whole lines at the end of a log."""
        text = "".join(f"{line}\n" for line in lines).encode()
        self._texts[name] = self._texts.get(name, b"") + text

    def destroy(self, name: str, size: int) -> None:
        """So many bytes are gone before anybody could read them."""
        self._gaps[name] = size

    def break_off(self, name: str, trouble: TransportError) -> None:
        """Whoever follows is told this, until the log is written to again."""
        self._troubles[name] = trouble

    def mend(self, name: str) -> None:
        """It can be followed again."""
        self._troubles.pop(name, None)

    async def follow(self, name: str, resume: LogPosition | None) -> AsyncIterator[LogChunk]:
        """From `resume`, else from the end as it is now."""
        self.followed.append((name, resume))
        at = resume.offset if resume is not None else len(self._texts.get(name, b""))
        yield self._chunk(name, at, at)
        while True:
            if name in self._troubles:
                raise self._troubles[name]
            end = len(self._texts.get(name, b""))
            if end > at:
                yield self._chunk(name, at, end)._replace(gap_bytes_min=self._gaps.pop(name, 0))
                at = end
            await asyncio.sleep(0.05)

    def _chunk(self, name: str, start: int, end: int) -> LogChunk:
        place = a_position(start)
        return LogChunk(
            data=self._texts.get(name, b"")[start:end],
            start=place,
            end=place.at(end),
            received_at=self._clock.now(),
        )
