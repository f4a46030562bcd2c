"""The metrics page: a projection of the newest snapshot. This is the only door to Prometheus.

The table `PER_VM` and `FLEET` below name every family: name, kind, help, and how its samples are
read from the snapshot. Nothing is counted here and nothing is remembered but rendered text: the
values of a VM are frozen, so the lines made from the same values are used again (the cache), and
a VM that is gone takes its series with it at once.

Formats: text 0.0.4 and OpenMetrics 1.0
(prometheus.io/docs/instrumenting/exposition_formats and prometheus.io/docs/specs/om).
A state set is a gauge in the older format. Samples carry no time stamps and no exemplars.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from stackward import __version__
from stackward.core.evidence import SLOW_PROBES
from stackward.core.log_pace import is_silent, lag, lag_of, silent_from, usual_pause
from stackward.core.policy import Thresholds
from stackward.core.snapshot import Snapshot
from stackward.core.state import TargetState
from stackward.model.correlation import ManagementLog
from stackward.model.diagnosis import Diagnosis
from stackward.model.health import Health, HealthState, Overall
from stackward.model.identity import TargetId
from stackward.model.log_flow import DropReason, LogFlow
from stackward.model.plan import Guard, Mode
from stackward.model.target import AgentState, CloudState
from stackward.model.verdict import Failed, Passed, ProbeName, Source

CONTENT_TYPE_TEXT = "text/plain; version=0.0.4; charset=utf-8"
CONTENT_TYPE_OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


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


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


def _seconds(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment is not None else None


def _optional(prefix: str, value: float | None) -> Iterator[Sample]:
    if value is not None:
        yield prefix, value


def _state_set(prefix: str, family: str, states: Iterable[str], current: str) -> Iterator[Sample]:
    comma = "," if prefix else ""
    for state in states:
        yield f'{prefix}{comma}{family}="{state}"', int(state == current)


def _info(view: VmView) -> Iterator[Sample]:
    target = view.state.target
    extra = labels(
        vm_uuid=target.id,
        zone=target.zone_name,
        host=target.host_name or "",
        hypervisor=target.hypervisor.value,
        template=target.template_id or "",
        agent_version=target.agent_version or "",
        release=view.state.readings.release or "",
    )
    yield f"{view.labels},{extra}", 1


def _probe_success(view: VmView) -> Iterator[Sample]:
    for probe, memory in view.state.probes.items():
        if probe not in view.stale and isinstance(memory.verdict, Passed | Failed):
            yield f'{view.labels},probe="{probe.value}"', int(isinstance(memory.verdict, Passed))


def _probe_last_success(view: VmView) -> Iterator[Sample]:
    for probe, memory in view.state.probes.items():
        known = memory.last_known
        if known is not None and isinstance(known.verdict, Passed):
            yield f'{view.labels},probe="{probe.value}"', known.observed_at.timestamp()


def _probe_observed(view: VmView) -> Iterator[Sample]:
    for probe, memory in view.state.probes.items():
        yield f'{view.labels},probe="{probe.value}"', memory.observed_at.timestamp()


def _diagnoses(view: VmView) -> Iterator[Sample]:
    for diagnosis in view.diagnoses:
        suppressed = diagnosis.suppressed_by.value if diagnosis.suppressed_by else ""
        yield f'{view.labels},diagnosis="{diagnosis.code}",suppressed_by="{suppressed}"', 1


def _log_events(view: VmView) -> Iterator[Sample]:
    for event, count in view.state.log.counts.items():
        yield f'{view.labels},event="{event.value}"', count


def _log_dropped(view: VmView) -> Iterator[Sample]:
    dropped = view.state.log.flow.dropped
    for reason in DropReason:
        yield f'{view.labels},reason="{reason.value}"', dropped.get(reason, 0)


def _log_lag_bytes(view: VmView) -> Iterator[Sample]:
    if view.state.log.position is not None:
        yield view.labels, view.state.log.flow.behind_bytes


def _log_lag_seconds(view: VmView) -> Iterator[Sample]:
    if view.state.log.position is not None and view.lag is not None:
        yield view.labels, view.lag.total_seconds()


def _log_usual_pause(view: VmView) -> Iterator[Sample]:
    usual = usual_pause(view.state.log.habit)
    if usual is not None:
        yield view.labels, usual.total_seconds()


def _reading(name: str) -> Callable[[VmView], Iterator[Sample]]:
    def read(view: VmView) -> Iterator[Sample]:
        yield from _optional(view.labels, getattr(view.state.readings, name))

    return read


PER_VM: tuple[VmFamily, ...] = (
    VmFamily(
        "stackward_system_vm_info",
        Kind.INFO,
        "What is known of a system VM, to be joined by vm and role.",
        _info,
    ),
    VmFamily(
        "stackward_system_vm_verdict",
        Kind.STATESET,
        "The one verdict on a system VM. Unknown means that nobody could tell.",
        lambda view: _state_set(
            view.labels, "stackward_system_vm_verdict", Overall, view.health.verdict
        ),
    ),
    VmFamily(
        "stackward_system_vm_health",
        Kind.STATESET,
        "The health of a system VM with its rise and fall.",
        lambda view: _state_set(
            view.labels, "stackward_system_vm_health", HealthState, view.health.state
        ),
    ),
    VmFamily(
        "stackward_system_vm_state",
        Kind.STATESET,
        "The state of the VM by CloudStack's word.",
        lambda view: _state_set(
            view.labels, "stackward_system_vm_state", CloudState, view.state.target.cloud_state
        ),
    ),
    VmFamily(
        "stackward_agent_state",
        Kind.STATESET,
        "The state of the agent by CloudStack's word; absent means that it never connected.",
        lambda view: _state_set(
            view.labels, "stackward_agent_state", AgentState, view.state.target.agent_state
        ),
    ),
    VmFamily(
        "stackward_probe_success",
        Kind.GAUGE,
        "1 passed, 0 failed; no series while the answer is unknown or stale.",
        _probe_success,
    ),
    VmFamily(
        "stackward_probe_last_success_timestamp_seconds",
        Kind.GAUGE,
        "When a probe passed last.",
        _probe_last_success,
    ),
    VmFamily(
        "stackward_probe_last_observation_timestamp_seconds",
        Kind.GAUGE,
        "When a probe gave its newest verdict, of whatever kind.",
        _probe_observed,
    ),
    VmFamily(
        "stackward_system_vm_diagnosis",
        Kind.GAUGE,
        "1 for each cause found; suppressed_by names a wider cause that explains it.",
        _diagnoses,
    ),
    VmFamily(
        "stackward_ssh_path_open",
        Kind.GAUGE,
        "1 while the way into the VM over SSH is open, 0 while it is broken.",
        lambda view: _optional(
            view.labels, None if view.state.path is None else int(view.state.path.leg is None)
        ),
    ),
    VmFamily(
        "stackward_ssh_round_trip_seconds",
        Kind.GAUGE,
        "From the question to the end of the answer, newest poll.",
        lambda view: _optional(
            view.labels,
            view.state.round_trip.total_seconds() if view.state.round_trip is not None else None,
        ),
    ),
    VmFamily(
        "stackward_log_followed",
        Kind.GAUGE,
        "1 while the VM's log is followed.",
        lambda view: [(view.labels, int(view.state.log.position is not None))],
    ),
    VmFamily(
        "stackward_log_events_total",
        Kind.COUNTER,
        "Log events by class; a line counts once, across restarts of the daemon.",
        _log_events,
    ),
    VmFamily(
        "stackward_log_lines_total",
        Kind.COUNTER,
        "Lines read from the log since the daemon started.",
        lambda view: [(view.labels, view.state.log.flow.lines)],
    ),
    VmFamily(
        "stackward_log_read_bytes_total",
        Kind.COUNTER,
        "Bytes read from the log since the daemon started.",
        lambda view: [(view.labels, view.state.log.flow.bytes)],
    ),
    VmFamily(
        "stackward_log_unparsed_lines_total",
        Kind.COUNTER,
        "Lines read that belong to no record of a known form.",
        lambda view: [(view.labels, view.state.log.flow.unparsed)],
    ),
    VmFamily(
        "stackward_log_dropped_total",
        Kind.COUNTER,
        "Lines, records and events that were not told as they stand there, by reason.",
        _log_dropped,
    ),
    VmFamily(
        "stackward_log_lag_bytes",
        Kind.GAUGE,
        "What the log held behind the place that was read last.",
        _log_lag_bytes,
    ),
    VmFamily(
        "stackward_log_lag_seconds",
        Kind.GAUGE,
        "Age of the newest line read while more waits behind it; 0 at the end of the log.",
        _log_lag_seconds,
    ),
    VmFamily(
        "stackward_log_last_line_timestamp_seconds",
        Kind.GAUGE,
        "When a line came last; no series before the first one.",
        lambda view: _optional(view.labels, _seconds(view.state.log.flow.last_line_at)),
    ),
    VmFamily(
        "stackward_log_usual_pause_seconds",
        Kind.GAUGE,
        "No pause of the log was longer of late; no series while it has no habit.",
        _log_usual_pause,
    ),
    VmFamily(
        "stackward_log_silent",
        Kind.GAUGE,
        "1 while a log says nothing against its habit; no series while nobody can tell.",
        lambda view: _optional(
            view.labels, None if view.is_silent is None else int(view.is_silent)
        ),
    ),
    VmFamily(
        "stackward_log_gaps_total",
        Kind.COUNTER,
        "Places in the log where lines may have been lost before they were read.",
        lambda view: [(view.labels, view.state.log.gaps)],
    ),
    VmFamily(
        "stackward_log_gap_bytes_total",
        Kind.COUNTER,
        "Bytes known to have been destroyed in those gaps.",
        lambda view: [(view.labels, view.state.log.gap_bytes)],
    ),
    VmFamily(
        "stackward_guest_memory_available_bytes",
        Kind.GAUGE,
        "MemAvailable inside the VM.",
        _reading("memory_available_bytes"),
    ),
    VmFamily(
        "stackward_guest_memory_bytes",
        Kind.GAUGE,
        "MemTotal inside the VM.",
        _reading("memory_total_bytes"),
    ),
    VmFamily(
        "stackward_guest_disk_used_ratio",
        Kind.GAUGE,
        "The fullest local file system inside the VM.",
        _reading("disk_used_ratio"),
    ),
    VmFamily(
        "stackward_guest_inodes_used_ratio",
        Kind.GAUGE,
        "The local file system with the fewest inodes left inside the VM.",
        _reading("inodes_used_ratio"),
    ),
    VmFamily(
        "stackward_guest_load1",
        Kind.GAUGE,
        "Load average over one minute inside the VM.",
        _reading("load_1m"),
    ),
    VmFamily(
        "stackward_guest_uptime_seconds",
        Kind.GAUGE,
        "Uptime of the VM when it was asked last.",
        _reading("uptime_seconds"),
    ),
    VmFamily(
        "stackward_guest_clock_offset_seconds",
        Kind.GAUGE,
        "The VM's clock minus ours, corrected by half a round trip.",
        _reading("clock_offset_seconds"),
    ),
    VmFamily(
        "stackward_agent_restarts",
        Kind.GAUGE,
        "systemd's count of automatic restarts of cloud.service.",
        _reading("agent_restarts"),
    ),
    VmFamily(
        "stackward_agent_open_files_ratio",
        Kind.GAUGE,
        "Descriptors that the agent's JVM holds, over its limit.",
        _reading("open_files_ratio"),
    ),
)


def _counted(name: str, counts: Mapping[str, int]) -> Iterator[Sample]:
    for value, count in sorted(counts.items()):
        yield f'{name}="{escape(value)}"', count


def _source_up(snapshot: Snapshot) -> Iterator[Sample]:
    for source, memory in snapshot.fleet.sources.items():
        yield f'source="{source.value}"', int(memory.is_up)


def _source_last_success(snapshot: Snapshot) -> Iterator[Sample]:
    for source, memory in snapshot.fleet.sources.items():
        yield from _optional(f'source="{source.value}"', _seconds(memory.last_up_at))


def _source_latency(snapshot: Snapshot) -> Iterator[Sample]:
    for source, memory in snapshot.fleet.sources.items():
        if memory.latency is not None:
            yield f'source="{source.value}"', memory.latency.total_seconds()


def _fleet_diagnoses(snapshot: Snapshot) -> Iterator[Sample]:
    fleet = snapshot.fleet
    for diagnosis in snapshot.fleet_diagnoses:
        subject = diagnosis.subject
        zone = fleet.zones.get(subject.zone_id) if subject.zone_id else None
        host = fleet.hosts.get(subject.host_id) if subject.host_id else None
        yield (
            labels(
                diagnosis=diagnosis.code,
                zone=zone.name if zone else (subject.zone_id or ""),
                host=host.name if host else (subject.host_id or ""),
            ),
            1,
        )


def _held_now(snapshot: Snapshot) -> Iterator[Sample]:
    counts = dict.fromkeys(Guard, 0)
    for hold in snapshot.plan.holds:
        counts[hold.reason.guard] += 1
    for guard, count in counts.items():
        yield f'guard="{guard.value}"', count


def _polls(snapshot: Snapshot) -> Iterator[Sample]:
    counts = dict.fromkeys((source.value for source in Source), 0) | dict(snapshot.totals.polls)
    yield from _counted("source", counts)


def _poll_failures(snapshot: Snapshot) -> Iterator[Sample]:
    counts = dict.fromkeys((source.value for source in Source), 0)
    yield from _counted("source", counts | dict(snapshot.totals.poll_failures))


def _outcomes(snapshot: Snapshot) -> Iterator[Sample]:
    for (action, outcome), count in sorted(snapshot.totals.outcomes.items()):
        yield labels(action=action, outcome=outcome), count


def _management_logs(read: Callable[[ManagementLog], float | None]) -> SnapshotSamples:
    """One sample for each log of a management server that somebody told of."""

    def samples(snapshot: Snapshot) -> Iterator[Sample]:
        for name, log in sorted(snapshot.fleet.management_logs.items()):
            yield from _optional(labels(log=name), read(log))

    return samples


def _management_flows(read: Callable[[LogFlow], float | None]) -> SnapshotSamples:
    """One sample for each log of a management server that was read."""

    def samples(snapshot: Snapshot) -> Iterator[Sample]:
        for name, flow in sorted(snapshot.totals.management_flows.items()):
            yield from _optional(labels(log=name), read(flow))

    return samples


def _management_dropped(snapshot: Snapshot) -> Iterator[Sample]:
    for name, flow in sorted(snapshot.totals.management_flows.items()):
        for reason in DropReason:
            yield labels(log=name, reason=reason.value), flow.dropped.get(reason, 0)


def _management_lag(snapshot: Snapshot) -> Iterator[Sample]:
    for name, flow in sorted(snapshot.totals.management_flows.items()):
        log = snapshot.fleet.management_logs.get(name)
        offset = log.clock_offset if log is not None else None
        behind = lag_of(flow, offset, snapshot.taken_at)
        if behind is not None:
            yield labels(log=name), behind.total_seconds()


def _management_events(snapshot: Snapshot) -> Iterator[Sample]:
    for (name, event), count in sorted(snapshot.totals.management_events.items()):
        yield labels(log=name, event=event), count


def _targets_by_verdict(snapshot: Snapshot) -> Iterator[Sample]:
    counts = dict.fromkeys(Overall, 0)
    for health in snapshot.health.values():
        counts[health.verdict] += 1
    for verdict, count in counts.items():
        yield f'verdict="{verdict.value}"', count


FLEET: tuple[FleetFamily, ...] = (
    FleetFamily("stackward_system_vms", Kind.GAUGE, "System VMs by verdict.", _targets_by_verdict),
    FleetFamily(
        "stackward_fleet_diagnosis",
        Kind.GAUGE,
        "1 for each cause that concerns a zone, a hypervisor host or the cloud.",
        _fleet_diagnoses,
    ),
    FleetFamily(
        "stackward_source_up",
        Kind.GAUGE,
        "1 while a source of the whole fleet answers.",
        _source_up,
    ),
    FleetFamily(
        "stackward_source_last_success_timestamp_seconds",
        Kind.GAUGE,
        "When a source answered last.",
        _source_last_success,
    ),
    FleetFamily(
        "stackward_source_latency_seconds",
        Kind.GAUGE,
        "How long the newest answer of a source took.",
        _source_latency,
    ),
    FleetFamily("stackward_polls_total", Kind.COUNTER, "Questions asked, by source.", _polls),
    FleetFamily(
        "stackward_poll_failures_total",
        Kind.COUNTER,
        "Questions that got no answer, by source.",
        _poll_failures,
    ),
    FleetFamily(
        "stackward_management_log_followed",
        Kind.GAUGE,
        "1 while the log of a management server is followed.",
        _management_logs(lambda log: int(log.is_followed)),
    ),
    FleetFamily(
        "stackward_management_log_clock_offset_seconds",
        Kind.GAUGE,
        "The management server's clock minus ours, by the times in its log.",
        _management_logs(
            lambda log: None if log.clock_offset is None else log.clock_offset.total_seconds()
        ),
    ),
    FleetFamily(
        "stackward_management_log_events_total",
        Kind.COUNTER,
        "Events in the log of a management server by class, since the daemon started.",
        _management_events,
    ),
    FleetFamily(
        "stackward_management_log_lines_total",
        Kind.COUNTER,
        "Lines read from the log of a management server.",
        _management_flows(lambda flow: flow.lines),
    ),
    FleetFamily(
        "stackward_management_log_read_bytes_total",
        Kind.COUNTER,
        "Bytes read from the log of a management server.",
        _management_flows(lambda flow: flow.bytes),
    ),
    FleetFamily(
        "stackward_management_log_unparsed_lines_total",
        Kind.COUNTER,
        "Lines read that belong to no record of a known form.",
        _management_flows(lambda flow: flow.unparsed),
    ),
    FleetFamily(
        "stackward_management_log_dropped_total",
        Kind.COUNTER,
        "Lines, records and events that were not told as they stand there, by reason.",
        _management_dropped,
    ),
    FleetFamily(
        "stackward_management_log_lag_bytes",
        Kind.GAUGE,
        "What the log held behind the place that was read last.",
        _management_flows(lambda flow: flow.behind_bytes),
    ),
    FleetFamily(
        "stackward_management_log_lag_seconds",
        Kind.GAUGE,
        "Age of the newest line read while more waits behind it; 0 at the end of the log.",
        _management_lag,
    ),
    FleetFamily(
        "stackward_management_log_gaps_total",
        Kind.COUNTER,
        "Stretches of the log that were destroyed before they could be read.",
        _management_logs(lambda log: log.gaps),
    ),
    FleetFamily(
        "stackward_management_log_gap_bytes_total",
        Kind.COUNTER,
        "Bytes known to have been destroyed, at least.",
        _management_logs(lambda log: log.gap_bytes),
    ),
    FleetFamily(
        "stackward_management_log_last_line_timestamp_seconds",
        Kind.GAUGE,
        "When a line came last.",
        _management_flows(lambda flow: _seconds(flow.last_line_at)),
    ),
    FleetFamily(
        "stackward_mode",
        Kind.STATESET,
        "The mode in force for the whole daemon; zones and rules may be more careful.",
        lambda s: _state_set(
            "", "stackward_mode", Mode, Mode.ADVISE if s.fleet.demotion else s.policy.mode
        ),
    ),
    FleetFamily(
        "stackward_paused",
        Kind.GAUGE,
        "1 while all action is paused.",
        lambda s: [("", int(s.fleet.pause_reason is not None))],
    ),
    FleetFamily(
        "stackward_demoted",
        Kind.GAUGE,
        "1 after a broken promise: the daemon only advises until a person clears it.",
        lambda s: [("", int(s.fleet.demotion is not None))],
    ),
    FleetFamily(
        "stackward_journal_up",
        Kind.GAUGE,
        "1 while the journal can be written.",
        lambda s: [("", int(not s.fleet.journal_trouble))],
    ),
    FleetFamily(
        "stackward_remediation_begun_total",
        Kind.COUNTER,
        "Steps whose request was about to leave, by action.",
        lambda s: _counted("action", s.totals.steps_begun),
    ),
    FleetFamily(
        "stackward_remediation_outcomes_total",
        Kind.COUNTER,
        "Steps that ended, by action and outcome.",
        _outcomes,
    ),
    FleetFamily(
        "stackward_remediation_holds",
        Kind.GAUGE,
        "Sick VMs with nothing done to them now, by reason.",
        _held_now,
    ),
    FleetFamily(
        "stackward_remediation_held_total",
        Kind.COUNTER,
        "Holds that appeared, by reason.",
        lambda s: _counted("guard", dict.fromkeys(Guard, 0) | dict(s.totals.held)),
    ),
    FleetFamily(
        "stackward_escalations_total",
        Kind.COUNTER,
        "Times a person was called, by diagnosis.",
        lambda s: _counted("diagnosis", s.totals.escalations),
    ),
    FleetFamily(
        "stackward_escalations_open",
        Kind.GAUGE,
        "Subjects that wait for a person now.",
        lambda s: [("", len(s.plan.escalations))],
    ),
    FleetFamily(
        "stackward_inventory_last_success_timestamp_seconds",
        Kind.GAUGE,
        "When the fleet was listed last.",
        lambda s: _optional("", _seconds(s.fleet.inventory_at)),
    ),
    FleetFamily(
        "stackward_inventory_unreadable_rows",
        Kind.GAUGE,
        "Rows of the newest listing that nobody could read; any of them holds all steps.",
        lambda s: [("", len(s.fleet.unreadable))],
    ),
    FleetFamily(
        "stackward_rounds_total",
        Kind.COUNTER,
        "Rounds completed.",
        lambda s: [("", s.round_number)],
    ),
    FleetFamily(
        "stackward_last_round_timestamp_seconds",
        Kind.GAUGE,
        "When the newest round was completed.",
        lambda s: [("", s.taken_at.timestamp())],
    ),
    FleetFamily(
        "stackward_round_duration_seconds",
        Kind.GAUGE,
        "How long the newest round took to decide.",
        lambda s: [("", s.round_duration.total_seconds())],
    ),
    FleetFamily(
        "stackward_loop_lag_seconds",
        Kind.SUMMARY,  # quantiles alone: their label is a summary's
        "How late the event loop woke a sleeper over the last 40 s, by quantile.",
        lambda s: [
            (f'quantile="{quantile}"', lag)
            for quantile, lag in sorted(s.totals.loop_lag_seconds.items())
        ],
    ),
    FleetFamily(
        "stackward_inbox_length",
        Kind.GAUGE,
        "Events waiting when the round began.",
        lambda s: [("", s.inbox_length)],
    ),
    FleetFamily(
        "stackward_events_dropped_total",
        Kind.COUNTER,
        "Events dropped because the inbox was full.",
        lambda s: _counted("kind", s.totals.events_dropped),
    ),
    FleetFamily(
        "stackward_contained_crashes_total",
        Kind.COUNTER,
        "Crashes stopped at a containment wall.",
        lambda s: _counted("wall", s.totals.walls_hit),
    ),
    FleetFamily(
        "stackward_log_warnings_total",
        Kind.COUNTER,
        "Lines of level warning or worse in the daemon's own log.",
        lambda s: [("", s.totals.warnings_logged)],
    ),
    FleetFamily(
        "stackward_config_last_reload_successful",
        Kind.GAUGE,
        "1 if the newest configuration that was offered is in force.",
        lambda s: [("", int(s.config_reload_ok))],
    ),
    FleetFamily(
        "stackward_config_last_reload_success_timestamp_seconds",
        Kind.GAUGE,
        "When the configuration in force was read.",
        lambda s: _optional("", _seconds(s.config_loaded_at)),
    ),
    FleetFamily(
        "stackward_start_time_seconds",
        Kind.GAUGE,
        "When the daemon started.",
        lambda s: [("", s.started_at.timestamp())],
    ),
)

CacheKey = tuple[TargetState, Health, tuple[Diagnosis, ...], Thresholds]


@dataclass(frozen=True, slots=True)
class _Rendered:
    """The lines of one VM, from what they were made, and when time alone will change them."""

    key: CacheKey
    lines: tuple[str, ...]
    made_at: datetime
    good_until: datetime

    def is_good(self, key: CacheKey, now: datetime) -> bool:
        """Identity is enough: the values are frozen, and comparing them would cost more."""
        state, health, diagnoses, thresholds = self.key
        return (
            state is key[0]
            and health is key[1]
            and diagnoses is key[2]
            and thresholds is key[3]
            and self.made_at <= now <= self.good_until
        )


class MetricsPage:
    """Renders snapshots. One thread at a time; holds the lines of the last rendering."""

    def __init__(self, python: str, revision: str = "") -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._build = labels(version=__version__, revision=revision, python=python)
        self._cache: dict[TargetId, _Rendered] = {}

    def render(
        self, snapshot: Snapshot | None, *, openmetrics: bool, names: frozenset[str] = frozenset()
    ) -> bytes:
        """The page in one of the two formats: whole, or only the families of these names."""
        parts: list[str] = []
        if not names or "stackward_build_info" in names:
            self._family(parts, "stackward_build_info", Kind.INFO, "What runs here.", openmetrics)
            parts.append(f"stackward_build_info{{{self._build}}} 1\n")
        if snapshot is not None:
            self._render_vms(parts, snapshot, openmetrics, names)
            for family in FLEET:
                if names and family.name not in names:
                    continue
                lines = _lines(family.name, family.samples(snapshot))
                if lines:
                    self._family(parts, family.name, family.kind, family.help, openmetrics)
                    parts.append(lines)
        own = "".join(parts).encode()
        registry = self._registry.restricted_registry(names) if names else self._registry
        if openmetrics:
            process: bytes = generate_openmetrics(registry)  # type: ignore[no-untyped-call]  # the library leaves this one untyped
            return own + process
        return own + generate_latest(registry)

    def _render_vms(
        self, parts: list[str], snapshot: Snapshot, openmetrics: bool, names: frozenset[str]
    ) -> None:
        cache: dict[TargetId, _Rendered] = {}
        now, thresholds = snapshot.taken_at, snapshot.policy.thresholds
        for target_id, state in snapshot.fleet.targets.items():
            health = snapshot.health.get(target_id)
            if health is None:
                continue
            key = (state, health, snapshot.diagnoses.get(target_id, ()), thresholds)
            kept = self._cache.get(target_id)
            if kept is None or not kept.is_good(key, now):
                kept = _render_vm(key, now)
            cache[target_id] = kept
        self._cache = cache
        for index, family in enumerate(PER_VM):
            if names and family.name not in names:
                continue
            block = "".join(kept.lines[index] for kept in cache.values())
            if block:
                self._family(parts, family.name, family.kind, family.help, openmetrics)
                parts.append(block)

    @staticmethod
    def _family(
        parts: list[str], name: str, kind: Kind, description: str, openmetrics: bool
    ) -> None:
        if openmetrics:
            family = name.removesuffix("_total") if kind is Kind.COUNTER else name
            family = family.removesuffix("_info") if kind is Kind.INFO else family
            parts.append(f"# HELP {family} {description}\n# TYPE {family} {kind.value}\n")
        else:
            shown = Kind.GAUGE if kind in (Kind.INFO, Kind.STATESET) else kind
            parts.append(f"# HELP {name} {description}\n# TYPE {name} {shown.value}\n")


def _render_vm(key: CacheKey, now: datetime) -> _Rendered:
    state, health, diagnoses, thresholds = key
    name = labels(vm=state.target.name, role=state.target.role.value)
    # Two clouds' zones may both have an s-1-VM: the zone is CloudStack's own word for the place.
    ends = {
        probe: memory.observed_at
        + (thresholds.slow_stale_after if probe in SLOW_PROBES else thresholds.stale_after)
        for probe, memory in state.probes.items()
    }
    stale = frozenset(probe for probe, end in ends.items() if end < now)
    view = VmView(
        state, health, diagnoses, name, stale, lag(state, now), is_silent(state, thresholds, now)
    )
    lines = tuple(_lines(family.name, family.samples(view)) for family in PER_VM)
    ahead = [end for end in (*ends.values(), silent_from(state.log)) if end and end >= now]
    if state.log.flow.behind_bytes:
        ahead.append(now)  # its lag grows
    return _Rendered(key, lines, now, min(ahead, default=datetime.max.replace(tzinfo=UTC)))


def _lines(name: str, samples: Iterable[Sample]) -> str:
    return "".join(
        f"{name}{{{text}}} {_number(value)}\n" if text else f"{name} {_number(value)}\n"
        for text, value in samples
    )
