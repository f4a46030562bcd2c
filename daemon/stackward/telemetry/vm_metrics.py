"""The table of metrics of each VM: every family with how its samples are read."""

from collections.abc import Callable, Iterator

from stackward.core.log_pace import usual_pause
from stackward.model.health import HealthState, Overall
from stackward.model.log_flow import DropReason
from stackward.model.target import AgentState, CloudState
from stackward.model.verdict import Failed, Passed
from stackward.telemetry.samples import (
    Kind,
    Sample,
    VmFamily,
    VmView,
    labels,
    optional,
    seconds,
    state_set,
)


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
        yield from optional(view.labels, getattr(view.state.readings, name))

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
        lambda view: state_set(
            view.labels, "stackward_system_vm_verdict", Overall, view.health.verdict
        ),
    ),
    VmFamily(
        "stackward_system_vm_health",
        Kind.STATESET,
        "The health of a system VM with its rise and fall.",
        lambda view: state_set(
            view.labels, "stackward_system_vm_health", HealthState, view.health.state
        ),
    ),
    VmFamily(
        "stackward_system_vm_state",
        Kind.STATESET,
        "The state of the VM by CloudStack's word.",
        lambda view: state_set(
            view.labels, "stackward_system_vm_state", CloudState, view.state.target.cloud_state
        ),
    ),
    VmFamily(
        "stackward_agent_state",
        Kind.STATESET,
        "The state of the agent by CloudStack's word; absent means that it never connected.",
        lambda view: state_set(
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
        lambda view: optional(
            view.labels, None if view.state.path is None else int(view.state.path.leg is None)
        ),
    ),
    VmFamily(
        "stackward_ssh_round_trip_seconds",
        Kind.GAUGE,
        "From the question to the end of the answer, newest poll.",
        lambda view: optional(
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
        "What was read and not told as it stands there; events told as a count are counted.",
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
        lambda view: optional(view.labels, seconds(view.state.log.flow.last_line_at)),
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
        lambda view: optional(view.labels, None if view.is_silent is None else int(view.is_silent)),
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
