"""What the rooms tell the control loop: the closed union that `reduce` consumes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from stackward.errors import Leg
from stackward.model.correlation import LogLine
from stackward.model.guest import GuestMarks, GuestReadings, LogPosition
from stackward.model.identity import IntentId, TargetId
from stackward.model.log_flow import LogFlow
from stackward.model.outcome import Outcome
from stackward.model.plan import ActionName
from stackward.model.sighting import EventClass, Sighting
from stackward.model.target import Inventory
from stackward.model.verdict import Observation, Source


@dataclass(frozen=True, slots=True)
class TargetsListed:
    """Discovery listed the cloud."""

    inventory: Inventory


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTold:
    """A source of the whole fleet answered, or did not."""

    source: Source
    is_up: bool
    detail: str
    at: datetime
    latency: timedelta | None = None


class Observed(NamedTuple):
    """All that one answer of one source said about one target."""

    target_id: TargetId
    source: Source
    observations: tuple[Observation, ...]
    observed_at: datetime
    marks: GuestMarks | None = None
    readings: GuestReadings | None = None
    round_trip: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PathTold:
    """The way into one VM: open (`leg` None) or broken at a leg."""

    target_id: TargetId
    leg: Leg | None
    detail: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighted:
    """One stretch of a log was read up to `position`, with these events in it (maybe none).

    `position` None: the log is no longer followed. `gap_bytes_min` as in LogChunk. `counted` are
    events that came in too great numbers to be told one by one: they count, beside `sightings`.
    `flow` holds the counters of this log up to here, None where nobody keeps them.
    """

    target_id: TargetId
    sightings: tuple[Sighting, ...]
    position: LogPosition | None
    at: datetime
    gap_bytes_min: int | None = 0
    counted: Mapping[EventClass, int] = field(default_factory=dict)
    flow: LogFlow | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted:
    """The executor took a step on and wrote its intent."""

    target_id: TargetId
    intent_id: IntentId
    action: ActionName
    episode_id: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBegun:
    """The request was about to leave: from here on it counts."""

    target_id: TargetId
    intent_id: IntentId
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFinished:
    """A step has its outcome."""

    target_id: TargetId
    intent_id: IntentId
    action: ActionName
    outcome: Outcome
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementSaid:
    """Lines of a management server's log that speak of one VM."""

    target_id: TargetId
    lines: tuple[LogLine, ...]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementLogTold:
    """A management server's log is followed, or is not; and what it said of the server itself.

    `spoke_at`: a minute, on our clock, in which it said anything. None: nothing new.
    """

    name: str
    is_followed: bool
    at: datetime
    detail: str = ""
    clock_offset: timedelta | None = None
    spoke_at: datetime | None = None
    position: LogPosition | None = None
    lines: tuple[LogLine, ...] = ()
    dropped: int = 0  # since the log is followed
    gaps: int = 0  # new ones: stretches that were destroyed before they could be read
    gap_bytes: int = 0


TargetEvent = (
    Observed | PathTold | Sighted | ManagementSaid | StepStarted | StepBegun | StepFinished
)
Event = TargetEvent | TargetsListed | SourceTold | ManagementLogTold
