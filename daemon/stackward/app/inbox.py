"""The bounded mailbox of the control loop.

What happens when it is full: an observation replaces the waiting one of the same target and source
(newer news of the same kind), else the oldest waiting one that will be told anew is dropped and
counted; sightings are counted and dropped. Outcomes and listings are never dropped: they are few.
One stretch of a log can hold hundreds of sightings, so these have a limit of their own: beyond it
a stretch keeps its place and a ready line, and of the others their numbers.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import replace

from stackward.model.event import Event, ManagementSaid, Observed, PathTold, Sighted
from stackward.model.sighting import EventClass

Key = tuple[str, ...]


class Inbox:
    """Implements `EventSink`. One reader, many writers, all on one loop."""

    def __init__(self, capacity: int = 50_000, sightings_max: int = 20_000) -> None:
        self._capacity = capacity
        self._sightings_max = sightings_max
        self._sightings = 0  # in all the stretches that wait
        self._waiting: OrderedDict[Key, Event] = OrderedDict()
        self._arrivals = 0
        self.dropped: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def sighted(self) -> Iterator[Sighted]:
        """The stretches of logs that wait, in the order of their arrival."""
        return (event for event in self._waiting.values() if isinstance(event, Sighted))

    def put(self, event: Event) -> None:
        """Take one event in; never blocks."""
        self._arrivals += 1
        is_full = len(self._waiting) >= self._capacity
        match event:
            case Observed() if is_full:
                key: Key = ("observed", event.target_id, event.source.value)
                if self._waiting.pop(key, None) is not None:
                    self.dropped["observed"] += 1
            case Sighted() if is_full and (event.sightings or event.counted):
                self.dropped["sighted"] += len(event.sightings) + sum(event.counted.values())
                return
            case ManagementSaid() if is_full:
                self.dropped["management-said"] += len(event.lines)
                return
            case Sighted() if self._sightings + len(event.sightings) > self._sightings_max:
                event = self._thinned(event)
                key = (str(self._arrivals),)
            case _:
                key = (str(self._arrivals),)
        self._waiting[key] = event
        self._sightings += _sightings_of(event)
        if len(self._waiting) > 2 * self._capacity:
            self._drop_oldest()

    def _thinned(self, event: Sighted) -> Sighted:
        """The stretch of log with its sightings as numbers, but for one that can prove a step."""
        ready = [one for one in event.sightings if one.event is EventClass.AGENT_READY]
        kept = tuple(ready[-1:])
        self.dropped["sighted"] += len(event.sightings) - len(kept)
        counted = Counter(one.event for one in event.sightings if one not in kept)
        return replace(event, sightings=kept, counted=counted + Counter(event.counted))

    def _drop_oldest(self) -> None:
        for key, event in self._waiting.items():
            if isinstance(event, Observed | PathTold | Sighted | ManagementSaid):
                del self._waiting[key]
                self._sightings -= _sightings_of(event)
                self.dropped["oldest"] += 1
                return

    def take(self, most: int) -> list[Event]:
        """Up to `most` events in the order of their arrival."""
        taken: list[Event] = []
        while self._waiting and len(taken) < most:
            event = self._waiting.popitem(last=False)[1]
            self._sightings -= _sightings_of(event)
            taken.append(event)
        return taken


def _sightings_of(event: Event) -> int:
    return len(event.sightings) if isinstance(event, Sighted) else 0
