"""What a probe is, and the thresholds it is read with.

What lives here: the two kinds of probes. What does not: the probes (probes/), the asking, and how
often an answer must be bad before it is believed (core).

A probe is pure and total. `Unknown` is for what could not be asked or read; it never stands for
sick. An answer that rests on something asked a while ago says so with its age.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from stackward.catalog.facts import GuestFacts
from stackward.model.identity import VmRole
from stackward.model.verdict import ProbeName, Verdict

EVERY_ROLE = frozenset(VmRole)
_FRESH = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeThresholds:
    """From when on a number is bad. The operator's policy fills it in."""

    disk_used_ratio_max: float
    inodes_used_ratio_max: float
    memory_available_ratio_min: float
    clock_offset_max: timedelta
    mount_hung_after: timedelta
    slow_stale_after: timedelta


class Answer(NamedTuple):
    """A verdict, and the sections of the block that it rests on: it is as old as the oldest.

    None are named where all that it rests on is read at every tick.
    """

    verdict: Verdict
    rests_on: tuple[str, ...] = ()

    def age(self, ages: Mapping[str, timedelta]) -> timedelta:
        """How old the verdict was when a block with these ages was sent."""
        if len(self.rests_on) == 1:
            return ages.get(self.rests_on[0], _FRESH)
        return max((ages.get(name, _FRESH) for name in self.rests_on), default=_FRESH)


@dataclass(frozen=True, slots=True)
class GuestProbe:
    """A question that a block of facts answers, for VMs of these roles.

    `is_lasting`: as long as its sections stay the same and fresh, a passed answer stays passed,
    whatever the time. Only then may it be given again without being read (guest_reader.py).
    """

    name: ProbeName
    roles: frozenset[VmRole]
    interpret: Callable[[GuestFacts, ProbeThresholds], Answer]
    is_lasting: bool = False
