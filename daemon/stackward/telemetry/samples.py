"""What the tables of metrics are made of: kinds, samples, and the text of labels and numbers."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from stackward.core.snapshot import Snapshot
from stackward.core.state import TargetState
from stackward.model.diagnosis import Diagnosis
from stackward.model.health import Health
from stackward.model.verdict import ProbeName


class Kind(StrEnum):
    """Metric types that we use."""

    GAUGE = "gauge"
    COUNTER = "counter"
    INFO = "info"
    STATESET = "stateset"
    SUMMARY = "summary"


@dataclass(frozen=True, slots=True)
class VmView:
    """One VM as the samples read it; `labels` is the ready text that names it.

    `stale` names the probes whose newest answer is too old to count. `lag` and `is_silent` are
    those of its log (None: nobody can tell).
    """

    state: TargetState
    health: Health
    diagnoses: tuple[Diagnosis, ...]
    labels: str
    stale: frozenset[ProbeName] = frozenset()
    lag: timedelta | None = None
    is_silent: bool | None = None


Sample = tuple[str, float]  # (label text without braces, value)


@dataclass(frozen=True, slots=True)
class VmFamily:
    """One row of the table: a family with samples for each VM."""

    name: str
    kind: Kind
    help: str
    samples: Callable[[VmView], Iterable[Sample]]


SnapshotSamples = Callable[[Snapshot], Iterable[Sample]]


@dataclass(frozen=True, slots=True)
class FleetFamily:
    """One row of the table: a family with samples for the daemon or the whole fleet."""

    name: str
    kind: Kind
    help: str
    samples: SnapshotSamples


def escape(value: str) -> str:
    """Escape a label value as both formats ask."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def labels(**values: str) -> str:
    """Label text in the order given."""
    return ",".join(f'{name}="{escape(value)}"' for name, value in values.items())


def number(value: float) -> str:
    """As Prometheus writes numbers."""
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


def seconds(moment: datetime | None) -> float | None:
    """A moment as seconds since 1970."""
    return moment.timestamp() if moment is not None else None


def optional(prefix: str, value: float | None) -> Iterator[Sample]:
    """One sample; none where there is no value."""
    if value is not None:
        yield prefix, value


def state_set(prefix: str, family: str, states: Iterable[str], current: str) -> Iterator[Sample]:
    """A sample for each state, of which one is 1."""
    comma = "," if prefix else ""
    for state in states:
        yield f'{prefix}{comma}{family}="{state}"', int(state == current)
