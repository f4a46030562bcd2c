"""How much of a stretch of log is told one by one, and what is only counted.

A log in a storm says the same thousands of times. Of each class the first and the last are told,
and of all together so many; the rest is counted by class, exactly. What is benign is only counted.
"""

from collections import Counter
from collections.abc import Iterator

from stackward.catalog.signatures import Hit
from stackward.model.sighting import EventClass

TOLD_MAX = 32


class Telling:
    """The hits of one stretch, given in their order."""

    def __init__(self, told_max: int = TOLD_MAX) -> None:
        self.counted: Counter[EventClass] = Counter()
        self._told_max = told_max
        self._first: list[Hit] = []
        self._last: dict[EventClass, Hit] = {}
        self._seen: set[EventClass] = set()

    def add(self, hit: Hit) -> None:
        """Take the next one."""
        event = hit.event
        if event in self._last:
            self.counted[event] += 1
            self._last[event] = hit
        elif event is EventClass.BENIGN:
            self.counted[event] += 1
        elif event not in self._seen or len(self._first) < self._told_max:
            self._seen.add(event)
            self._first.append(hit)
        else:
            self._last[event] = hit

    def count(self, shed: Counter[EventClass]) -> None:
        """Take what was counted already between a first and a last one."""
        self.counted += shed
        shed.clear()

    @property
    def shed(self) -> int:
        """How many events are only counted that would have been told."""
        return self.counted.total() - self.counted[EventClass.BENIGN]

    def told(self) -> Iterator[Hit]:
        """What is to be told, class by class behind the first ones: it has a place to sort by."""
        yield from self._first
        yield from self._last.values()
