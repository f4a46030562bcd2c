"""Everything the daemon remembers, frozen per target and bounded.

The map of targets has one owner, the control loop; folding an event replaces one target's value.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from stackward.errors import Leg
from stackward.model.correlation import ManagementLog, Timeline
from stackward.model.diagnosis import DiagnosisCode
from stackward.model.guest import GuestMarks, GuestReadings, LogPosition
from stackward.model.identity import HostId, IntentId, ServiceId, TargetId, ZoneId
from stackward.model.log_flow import LogFlow, LogHabit
from stackward.model.outcome import OutcomeKind
from stackward.model.plan import ActionName, Mode
from stackward.model.sighting import EventClass, Sighting
from stackward.model.target import HypervisorHost, Target, Witness, Zone
from stackward.model.verdict import Observation, ProbeName, Source, Verdict

SIGHTINGS_KEPT = 32
ATTEMPTS_KEPT = 32


class ProbeMemory(NamedTuple):
    """What is remembered of one probe. The counts are of answers in a row, Unknown left aside.

    `since`: from when on the verdict has been of this kind (and, when failed, of this sign).
    `last_known` is the newest verdict that was not Unknown, with its time.
    """

    verdict: Verdict
    source: Source
    observed_at: datetime
    since: datetime
    failed_in_a_row: int = 0
    passed_in_a_row: int = 0
    last_known: Observation | None = None


class PathMemory(NamedTuple):
    """The way into the VM. `leg` None: open. `failed_in_a_row` counts attempts."""

    leg: Leg | None
    detail: str
    since: datetime
    told_at: datetime
    failed_in_a_row: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMemory:
    """What is remembered of the VM's log. `position` None: it is not followed now.

    `read_to` is the place up to which lines have had their effect here, followed now or not. It is
    saved together with the counts, so that a line counts once however often it is read.
    """

    position: LogPosition | None = None
    read_to: LogPosition | None = None
    told_at: datetime | None = None
    ready_position: LogPosition | None = None  # where the newest ready line begins
    ready_seen_at: datetime | None = None
    recent: tuple[Sighting, ...] = ()
    counts: Mapping[EventClass, int] = field(default_factory=dict)
    gaps: int = 0
    gap_bytes: int = 0
    flow: LogFlow = field(default_factory=LogFlow)
    habit: LogHabit = field(default_factory=LogHabit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One intent that was begun in an episode. `outcome` None: still open."""

    action: ActionName
    intent_id: IntentId
    at: datetime
    outcome: OutcomeKind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One time of being sick: the episode, not the condition, owns the ladder and its clock.

    `called_for`: the diagnoses that a person was called for in it.
    """

    id: str
    opened_at: datetime
    diagnosis: DiagnosisCode
    attempts: tuple[Attempt, ...] = ()
    called_for: frozenset[DiagnosisCode] = frozenset()
    well_since: datetime | None = None

    @property
    def is_escalated(self) -> bool:
        """True when a person was called in it."""
        return bool(self.called_for)


class TargetState(NamedTuple):
    """One target and all that is remembered of it. A tuple: each answer makes a new one."""

    target: Target
    first_seen_at: datetime
    listed_at: datetime
    state_since: datetime  # since when cloud_state has been what it is, as far as we saw
    predecessor_id: TargetId | None = None
    probes: Mapping[ProbeName, ProbeMemory] = MappingProxyType({})
    path: PathMemory | None = None
    log: LogMemory = LogMemory()
    timeline: Timeline = Timeline()  # of both logs
    marks: GuestMarks = GuestMarks()
    marks_at: datetime | None = None
    booted_at: datetime | None = None
    readings: GuestReadings = GuestReadings()
    round_trip: timedelta | None = None
    episode: Episode | None = None
    in_flight: IntentId | None = None
    in_flight_action: ActionName | None = None
    last_finished: IntentId | None = None  # its late and repeated events change nothing
    last_action: ActionName | None = None
    last_action_at: datetime | None = None
    withdrawn_at: datetime | None = None  # when a step was last looked at again and not done
    advised_at: datetime | None = None  # when a step was last only advised


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceMemory:
    """A source of the whole fleet: up or not, since when."""

    is_up: bool
    detail: str
    since: datetime
    told_at: datetime
    last_up_at: datetime | None = None
    latency: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """The whole picture, read only, as the planner and the promises see it.

    `zone_actions` holds when disruptive steps were begun in each zone, within the longest window.
    `is_paused`, `is_demoted`, `journal_trouble` ("" = none) come from the durable memory.
    `capabilities` None: not asked yet; else the API commands that may be called.
    """

    targets: Mapping[TargetId, TargetState]
    zones: Mapping[ZoneId, Zone]
    hosts: Mapping[HostId, HypervisorHost]
    inventory_at: datetime | None = None
    inventory_witness: Witness | None = None
    unreadable: tuple[str, ...] = ()
    sources: Mapping[Source, SourceMemory] = field(default_factory=dict)
    zone_actions: Mapping[ZoneId, tuple[datetime, ...]] = field(default_factory=dict)
    successors: Mapping[ServiceId, TargetId] = field(default_factory=dict)
    pause_reason: str | None = None  # None: not paused
    demotion: str | None = None  # None: not demoted
    journal_trouble: str = ""
    capabilities: frozenset[str] | None = None
    management_logs: Mapping[str, ManagementLog] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveMode:
    """The mode that counts for a target under a rule, and what made it so."""

    mode: Mode
    because: str
