"""The containment wall of this room: counts the crashes that were stopped, by name."""

from collections import Counter


class Walls:
    """How often each wall was hit. The numbers go to the metrics; a crash is logged as well."""

    def __init__(self) -> None:
        self.hits: Counter[str] = Counter()

    def hit(self, wall: str) -> None:
        """Count one crash stopped at this wall."""
        self.hits[wall] += 1
