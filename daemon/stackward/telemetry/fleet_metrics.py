"""The table of metrics of the daemon and the whole fleet: every family with its samples."""

from collections.abc import Callable, Iterator, Mapping

from stackward.core.log_pace import lag_of
from stackward.core.snapshot import Snapshot
from stackward.model.correlation import ManagementLog
from stackward.model.health import Overall
from stackward.model.log_flow import DropReason, LogFlow
from stackward.model.plan import Guard, Mode
from stackward.model.verdict import Source
from stackward.telemetry.samples import (
    FleetFamily,
    Kind,
    Sample,
    SnapshotSamples,
    escape,
    labels,
    optional,
    seconds,
    state_set,
)


def _counted(name: str, counts: Mapping[str, int]) -> Iterator[Sample]:
    for value, count in sorted(counts.items()):
        yield f'{name}="{escape(value)}"', count


def _source_up(snapshot: Snapshot) -> Iterator[Sample]:
    for source, memory in snapshot.fleet.sources.items():
        yield f'source="{source.value}"', int(memory.is_up)


def _source_last_success(snapshot: Snapshot) -> Iterator[Sample]:
    for source, memory in snapshot.fleet.sources.items():
        yield from optional(f'source="{source.value}"', seconds(memory.last_up_at))


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
            yield from optional(labels(log=name), read(log))

    return samples


def _management_flows(read: Callable[[LogFlow], float | None]) -> SnapshotSamples:
    """One sample for each log of a management server that was read."""

    def samples(snapshot: Snapshot) -> Iterator[Sample]:
        for name, flow in sorted(snapshot.totals.management_flows.items()):
            yield from optional(labels(log=name), read(flow))

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
        "What was read and not told as it stands there; events told as a count are counted.",
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
        _management_flows(lambda flow: seconds(flow.last_line_at)),
    ),
    FleetFamily(
        "stackward_mode",
        Kind.STATESET,
        "The mode in force for the whole daemon; zones and rules may be more careful.",
        lambda s: state_set(
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
        lambda s: optional("", seconds(s.fleet.inventory_at)),
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
        lambda s: optional("", seconds(s.config_loaded_at)),
    ),
    FleetFamily(
        "stackward_start_time_seconds",
        Kind.GAUGE,
        "When the daemon started.",
        lambda s: [("", s.started_at.timestamp())],
    ),
)
