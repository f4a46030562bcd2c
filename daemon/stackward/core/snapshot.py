"""The published, immutable picture of one round: what `web`, `telemetry` and `act` read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from stackward.core.policy import Policy
from stackward.core.state import FleetView
from stackward.model.diagnosis import Diagnosis
from stackward.model.health import Health
from stackward.model.identity import TargetId
from stackward.model.log_flow import LogFlow
from stackward.model.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Counters since the start of the process; they only grow. Keys are label values."""

    polls: Mapping[str, int] = field(default_factory=dict)  # by source
    poll_failures: Mapping[str, int] = field(default_factory=dict)  # by source
    steps_begun: Mapping[str, int] = field(default_factory=dict)  # by action
    outcomes: Mapping[tuple[str, str], int] = field(default_factory=dict)  # (action, outcome)
    held: Mapping[str, int] = field(default_factory=dict)  # by guard, counted when a hold appears
    escalations: Mapping[str, int] = field(default_factory=dict)  # by diagnosis
    log_gaps: int = 0
    events_dropped: Mapping[str, int] = field(default_factory=dict)  # by kind
    walls_hit: Mapping[str, int] = field(default_factory=dict)  # contained crashes, by wall
    warnings_logged: int = 0
    loop_lag_seconds: Mapping[str, float] = field(default_factory=dict)  # by quantile, of late
    management_flows: Mapping[str, LogFlow] = field(default_factory=dict)  # by log
    management_events: Mapping[tuple[str, str], int] = field(default_factory=dict)  # (log, event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One round, whole. `overdue` is how late the round was."""

    taken_at: datetime
    started_at: datetime
    round_number: int
    fleet: FleetView
    policy: Policy
    health: Mapping[TargetId, Health]
    diagnoses: Mapping[TargetId, tuple[Diagnosis, ...]]
    fleet_diagnoses: tuple[Diagnosis, ...]
    plan: Plan
    totals: Totals
    round_duration: timedelta = timedelta(0)
    inbox_length: int = 0
    is_ready: bool = False  # the first full inventory is in
    config_loaded_at: datetime | None = None
    config_reload_ok: bool = True
