"""Leases: at most one step per target, and so many per zone. In this process only.

One daemon per state directory is kept by the journal's lock; the planner's guards should make a
refused lease impossible. This is the second lock on the door.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from stackward.model.identity import TargetId, ZoneId


class Leases:
    """Who works where. `zone_max`: disruptive steps at the same time in one zone."""

    def __init__(self, zone_max: int = 1) -> None:
        self._zone_max = zone_max
        self._targets: set[TargetId] = set()
        self._zones: Counter[ZoneId] = Counter()

    @contextmanager
    def lease(self, target_id: TargetId, zone_id: ZoneId | None) -> Iterator[str]:
        """Hold the target, and the zone too unless None. Yields why not, or "" when it is held."""
        if target_id in self._targets:
            yield "another step is at work on this VM"
            return
        if zone_id is not None and self._zones[zone_id] >= self._zone_max:
            yield f"{self._zones[zone_id]} disruptive steps are at work in this zone"
            return
        self._targets.add(target_id)
        if zone_id is not None:
            self._zones[zone_id] += 1
        try:
            yield ""
        finally:
            self._targets.discard(target_id)
            if zone_id is not None:
                self._zones[zone_id] -= 1
