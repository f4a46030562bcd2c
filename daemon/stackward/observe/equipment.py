"""What every observer is handed: where to tell, the time, the wall that counts crashes."""

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from stackward.ports import Clock, EventSink, Log, SnapshotSource


class Walls:
    """How often each containment wall was hit. The numbers go to the metrics."""

    def __init__(self) -> None:
        self.hits: Counter[str] = Counter()

    def hit(self, wall: str) -> None:
        """Count one crash stopped at this wall."""
        self.hits[wall] += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """The same for discovery, prober and tailer."""

    sink: EventSink
    snapshots: SnapshotSource
    clock: Clock
    log: Log
    random: Random
    walls: Walls = field(default_factory=Walls)
