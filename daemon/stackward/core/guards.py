"""Reasons to wait: one small function for each, the most fleet-wide first.

Rule: a guard sees the steps already chosen in this same plan, or "one per zone" lets two through.
Rule: a guard that cannot tell returns a reason.
Rule: the order of `GUARDS` is the order in which reasons are reported.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from stackward.core.diagnose import is_storm
from stackward.core.diagnoses import HOST_KEY_LEGS, rows_of
from stackward.core.evidence import (
    CLOCK_TOLERANCE,
    Evidence,
    is_stale,
    is_younger,
    read_evidence,
    running_since,
)
from stackward.core.ladder import API_COMMANDS, DRASTIC
from stackward.core.policy import Policy, Rule, Rung
from stackward.core.state import FleetView, TargetState
from stackward.core.wording import plain, spoken
from stackward.model.diagnosis import Diagnosis, DiagnosisCode
from stackward.model.health import Health, HealthState
from stackward.model.identity import TargetId, ZoneId
from stackward.model.plan import ActionName, Guard, HoldReason, Mode, Step
from stackward.model.verdict import ProbeName, Source

# After a look that ended in nothing, the next one waits a little: each leaves rows in the journal.
LOOK_AGAIN_AFTER = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What the guards see: the fleet as judged, with the counts that a whole plan shares."""

    fleet: FleetView
    fleet_diagnoses: tuple[Diagnosis, ...]
    sick: frozenset[TargetId]
    in_flight: tuple[TargetState, ...]
    zone_sizes: Counter[ZoneId]
    zone_sick: Counter[ZoneId]


def set_scene(
    fleet: FleetView, health: Mapping[TargetId, Health], fleet_diagnoses: Sequence[Diagnosis]
) -> Scene:
    """Count once what every guard of a plan asks for."""
    sick = frozenset(
        target_id
        for target_id, one in health.items()
        if one.state is HealthState.UNHEALTHY and target_id in fleet.targets
    )
    states = fleet.targets.values() if sick else ()  # in a quiet cloud nobody asks
    return Scene(
        fleet=fleet,
        fleet_diagnoses=tuple(fleet_diagnoses),
        sick=sick,
        in_flight=tuple(state for state in states if state.in_flight is not None),
        zone_sizes=Counter(state.target.zone_id for state in states),
        zone_sick=Counter(fleet.targets[target_id].target.zone_id for target_id in sick),
    )


GuardFunction = Callable[[Step, Scene, Sequence[Step], Policy, datetime], HoldReason | None]


def _paused(
    _step: Step, scene: Scene, _chosen: Sequence[Step], _policy: Policy, _now: datetime
) -> HoldReason | None:
    reason = scene.fleet.pause_reason
    return HoldReason(Guard.PAUSED, f"paused: {reason}") if reason is not None else None


def _journal_down(
    _step: Step, scene: Scene, _chosen: Sequence[Step], _policy: Policy, _now: datetime
) -> HoldReason | None:
    trouble = scene.fleet.journal_trouble
    return HoldReason(Guard.JOURNAL_DOWN, f"journal: {trouble}") if trouble else None


def _inventory_stale(
    step: Step, scene: Scene, _chosen: Sequence[Step], policy: Policy, now: datetime
) -> HoldReason | None:
    listed_at = scene.fleet.inventory_at
    if listed_at is None:
        return HoldReason(Guard.INVENTORY_STALE, "the cloud was never listed")
    age = now - listed_at
    if age > policy.thresholds.inventory_stale_after or age < -CLOCK_TOLERANCE:
        return HoldReason(Guard.INVENTORY_STALE, f"the last listing is of {listed_at:%H:%M:%S}")
    if scene.fleet.targets[step.target_id].listed_at < listed_at:
        return HoldReason(Guard.INVENTORY_STALE, "the last listing did not name this VM")
    return None


def _inventory_incomplete(
    _step: Step, scene: Scene, _chosen: Sequence[Step], _policy: Policy, _now: datetime
) -> HoldReason | None:
    rows = scene.fleet.unreadable
    if not rows:
        return None
    return HoldReason(Guard.INVENTORY_INCOMPLETE, f"{len(rows)} rows could not be read: {rows[0]}")


def _storm(
    _step: Step, scene: Scene, _chosen: Sequence[Step], policy: Policy, _now: datetime
) -> HoldReason | None:
    sick, total, limits = len(scene.sick), len(scene.fleet.targets), policy.limits
    if not is_storm(sick, total, limits):
        return None
    return HoldReason(
        Guard.STORM, f"{sick} of {total} targets unhealthy, limit {limits.storm_share:.0%}"
    )


def _fleet_cause(
    step: Step, scene: Scene, _chosen: Sequence[Step], _policy: Policy, _now: datetime
) -> HoldReason | None:
    for cause in scene.fleet_diagnoses:
        if cause.code is DiagnosisCode.STORM:
            continue  # has a guard of its own
        is_all = cause.subject.zone_id is None and cause.subject.host_id is None
        if is_all or cause.subject.zone_id == step.zone_id or step.target_id in cause.suppresses:
            return HoldReason(Guard.FLEET_CAUSE, cause.sentence)
    api = scene.fleet.sources.get(Source.API)
    if api is None or not api.is_up:
        why = "was not asked yet" if api is None else plain(api.detail)
        return HoldReason(Guard.FLEET_CAUSE, f"the CloudStack API does not answer: {why}")
    size = scene.zone_sizes[step.zone_id]
    if size > 1 and scene.zone_sick[step.zone_id] >= size:
        return HoldReason(Guard.FLEET_CAUSE, f"all {size} VMs of the zone are sick")
    return None


def _fleet_busy(
    _step: Step, scene: Scene, chosen: Sequence[Step], policy: Policy, _now: datetime
) -> HoldReason | None:
    running = len(scene.in_flight) + len(chosen)
    if running < policy.limits.fleet_in_flight_max:
        return None
    return HoldReason(Guard.FLEET_BUSY, f"{running} steps are under way in the cloud")


def _zone_disabled(
    step: Step, scene: Scene, _chosen: Sequence[Step], _policy: Policy, _now: datetime
) -> HoldReason | None:
    zone = scene.fleet.zones.get(step.zone_id)
    if zone is None or zone.is_enabled is None:
        return HoldReason(Guard.ZONE_DISABLED, "nobody said whether the zone is enabled")
    return None if zone.is_enabled else HoldReason(Guard.ZONE_DISABLED, "the zone is disabled")


def _hypervisor_down(
    step: Step, scene: Scene, _chosen: Sequence[Step], _policy: Policy, _now: datetime
) -> HoldReason | None:
    host_id = scene.fleet.targets[step.target_id].target.host_id
    host = scene.fleet.hosts.get(host_id) if host_id is not None else None
    if host is None or host.is_up is None:
        return HoldReason(Guard.HYPERVISOR_DOWN, "nobody said how the hypervisor is")
    if host.is_up:
        return None
    return HoldReason(Guard.HYPERVISOR_DOWN, f"hypervisor {host.name} is {host.detail or 'not Up'}")


def _zone_busy(
    step: Step, scene: Scene, chosen: Sequence[Step], policy: Policy, _now: datetime
) -> HoldReason | None:
    services = [state.target.service for state in scene.in_flight]
    services += [scene.fleet.targets[other.target_id].target.service for other in chosen]
    in_zone = [service for service in services if service.zone_id == step.zone_id]
    if len(in_zone) >= policy.limits.zone_in_flight_max:
        return HoldReason(Guard.ZONE_BUSY, f"{len(in_zone)} steps are under way in the zone")
    if scene.fleet.targets[step.target_id].target.service in in_zone:
        return HoldReason(Guard.ZONE_BUSY, "a step is under way on another VM of the same service")
    return None


def _zone_budget_spent(
    step: Step, scene: Scene, chosen: Sequence[Step], policy: Policy, now: datetime
) -> HoldReason | None:
    if not step.is_disruptive:
        return None
    limits = policy.limits
    actions = scene.fleet.zone_actions.get(step.zone_id, ())
    # A row from the future counts as just now.
    begun = sorted(min(at, now) for at in actions if now - at < limits.zone_window)
    waiting = [s for s in scene.in_flight if s.target.zone_id == step.zone_id and not _is_begun(s)]
    planned = [one for one in chosen if one.zone_id == step.zone_id and one.is_disruptive]
    spent = len(begun) + len(waiting) + len(planned)
    if spent < limits.zone_disruptive_max:
        return None
    until = begun[0] + limits.zone_window if begun else None
    return HoldReason(
        Guard.ZONE_BUDGET_SPENT,
        f"{spent} of {limits.zone_disruptive_max} steps spent within {spoken(limits.zone_window)}",
        until,
    )


def _is_begun(state: TargetState) -> bool:
    attempts = state.episode.attempts if state.episode is not None else ()
    return any(attempt.intent_id == state.in_flight for attempt in attempts)


def _vm_not_running(
    step: Step, scene: Scene, _chosen: Sequence[Step], policy: Policy, now: datetime
) -> HoldReason | None:
    state = scene.fleet.targets[step.target_id]
    if not state.target.is_running:
        return HoldReason(Guard.VM_NOT_RUNNING, f"CloudStack says {state.target.cloud_state.value}")
    if ProbeName.CLOUD_STATE not in read_evidence(state, policy, now).passed:
        return HoldReason(Guard.VM_NOT_RUNNING, "nobody has just said that the VM is running")
    return None


def _cloud_busy(
    step: Step, scene: Scene, _chosen: Sequence[Step], _policy: Policy, _now: datetime
) -> HoldReason | None:
    job = scene.fleet.targets[step.target_id].target.job_id
    return HoldReason(Guard.CLOUD_BUSY, f"job {job} is pending on the VM") if job else None


def _outcome_open(
    step: Step, scene: Scene, chosen: Sequence[Step], _policy: Policy, _now: datetime
) -> HoldReason | None:
    state = scene.fleet.targets[step.target_id]
    attempts = state.episode.attempts if state.episode is not None else ()
    if state.in_flight is not None or any(one.outcome is None for one in attempts):
        return HoldReason(Guard.OUTCOME_OPEN, "an earlier step has no outcome yet")
    if any(other.target_id == step.target_id for other in chosen):
        return HoldReason(Guard.OUTCOME_OPEN, "a step for this VM is in this plan already")
    return None


def _cooling_down(
    step: Step, scene: Scene, _chosen: Sequence[Step], policy: Policy, now: datetime
) -> HoldReason | None:
    state = scene.fleet.targets[step.target_id]
    waits = [
        (state.last_action_at, cooldown_of(state.last_action, policy), "the last action"),
        (state.withdrawn_at, LOOK_AGAIN_AFTER, "a look that found no need or no certainty"),
    ]
    if step.mode is Mode.ADVISE:
        waits.append((state.advised_at, cooldown_of(step.action, policy), "the last advice"))
    for at, span, what in waits:
        # What lies in the future counts as just now: a clock went back.
        if at is not None and now - min(at, now) < span:
            return HoldReason(Guard.COOLING_DOWN, f"cools down after {what}", min(at, now) + span)
    return None


def cooldown_of(action: ActionName | None, policy: Policy) -> timedelta:
    """The longest cooldown that any rule asks for after an action; None: after any."""
    rungs = [rung for rule in policy.rules for rung in rule.ladder]
    asked = [rung.cooldown for rung in rungs if action is None or rung.action is action]
    return max(asked, default=Rung(action=ActionName.RESTART_AGENT).cooldown)


def _evidence_stale(
    step: Step, scene: Scene, _chosen: Sequence[Step], policy: Policy, now: datetime
) -> HoldReason | None:
    state = scene.fleet.targets[step.target_id]
    evidence = read_evidence(state, policy, now)
    signs = frozenset().union(*(g for row in rows_of(step.diagnosis.code) for g in row.groups))
    bearing = [memory for sign, memory in evidence.believed.items() if sign in signs]
    if not bearing:
        return HoldReason(Guard.EVIDENCE_STALE, "what the diagnosis rests on is no longer fresh")
    newest = max(memory.observed_at for memory in bearing)
    if state.last_action_at is not None and newest <= state.last_action_at <= now:
        return HoldReason(Guard.EVIDENCE_STALE, "the evidence is older than the last action")
    leg = state.path.leg if state.path is not None else None
    if leg is not None and leg not in HOST_KEY_LEGS:
        return HoldReason(Guard.EVIDENCE_STALE, "the way in has broken since")
    if _newest_is_silent(state, evidence, policy):
        return HoldReason(Guard.EVIDENCE_STALE, "the newest answer from inside is unknown")
    if step.marks.boot_id is None or step.marks.invocation_id is None:
        return HoldReason(Guard.EVIDENCE_STALE, "the VM has not shown its marks")
    if state.marks_at is None or is_stale(
        ProbeName.AGENT_UNIT, state.marks_at, policy.thresholds, now
    ):
        return HoldReason(Guard.EVIDENCE_STALE, "the marks of the VM are no longer fresh")
    return None


def _newest_is_silent(state: TargetState, evidence: Evidence, policy: Policy) -> bool:
    """True when the newest words from inside hold nothing that is known."""
    inside = {
        probe: memory
        for probe, memory in state.probes.items()
        if memory.source is Source.SSH and probe not in policy.disabled_probes
    }
    newest = max((memory.observed_at for memory in inside.values()), default=None)
    last = [probe for probe, memory in inside.items() if memory.observed_at == newest]
    return all(probe in evidence.silent for probe in last)


def _host_key_changed(
    step: Step, scene: Scene, _chosen: Sequence[Step], _policy: Policy, _now: datetime
) -> HoldReason | None:
    path = scene.fleet.targets[step.target_id].path
    if path is None or path.leg not in HOST_KEY_LEGS:
        return None
    return HoldReason(Guard.HOST_KEY_CHANGED, f"another host key: {plain(path.detail)}")


def _log_not_followed(
    step: Step, _scene: Scene, _chosen: Sequence[Step], _policy: Policy, _now: datetime
) -> HoldReason | None:
    if step.log_position is not None:
        return None
    return HoldReason(
        Guard.LOG_NOT_FOLLOWED, "the VM's log is not followed, so success could not be proven"
    )


def _too_young(
    step: Step, scene: Scene, _chosen: Sequence[Step], policy: Policy, now: datetime
) -> HoldReason | None:
    state = scene.fleet.targets[step.target_id]
    since = running_since(state)
    if since is None:
        return HoldReason(Guard.TOO_YOUNG, "nobody said how long the VM has been up")
    if not is_younger(state, policy.thresholds.boot_grace, now):
        return None
    until = since + policy.thresholds.boot_grace
    return HoldReason(Guard.TOO_YOUNG, f"the VM is up since {since:%H:%M:%S} only", until)


def _not_long_enough(
    step: Step, _scene: Scene, _chosen: Sequence[Step], policy: Policy, now: datetime
) -> HoldReason | None:
    rule = _rule_named(step.rule, policy)
    if rule is None or now - step.diagnosis.since >= rule.stands_for:
        return None
    return HoldReason(
        Guard.NOT_LONG_ENOUGH,
        f"must stand for {spoken(rule.stands_for)}",
        step.diagnosis.since + rule.stands_for,
    )


def _rule_named(name: str, policy: Policy) -> Rule | None:
    return next((rule for rule in policy.rules if rule.name == name), None)


def _no_rule(
    step: Step, _scene: Scene, _chosen: Sequence[Step], policy: Policy, _now: datetime
) -> HoldReason | None:
    if _rule_named(step.rule, policy) is not None:
        return None
    return HoldReason(Guard.NO_RULE, f"no rule {step.rule}")


def _not_confirmed(
    step: Step, scene: Scene, _chosen: Sequence[Step], policy: Policy, now: datetime
) -> HoldReason | None:
    if step.target_id not in scene.sick:
        return HoldReason(Guard.NOT_CONFIRMED, "the VM is not judged unhealthy")
    evidence = read_evidence(scene.fleet.targets[step.target_id], policy, now)
    sources = {memory.source for memory in evidence.believed.values()}
    if step.action in DRASTIC and len(sources) < 2:
        return HoldReason(Guard.NOT_CONFIRMED, f"{step.action.value} needs two kinds of evidence")
    return None


def _suppressed(
    step: Step, _scene: Scene, _chosen: Sequence[Step], _policy: Policy, _now: datetime
) -> HoldReason | None:
    wider = step.diagnosis.suppressed_by
    return HoldReason(Guard.SUPPRESSED, f"a symptom of {wider.value}") if wider else None


def _capability_missing(
    step: Step, scene: Scene, _chosen: Sequence[Step], _policy: Policy, _now: datetime
) -> HoldReason | None:
    needed, may = API_COMMANDS[step.action], scene.fleet.capabilities
    if not needed:
        return None
    if may is None:
        return HoldReason(Guard.CAPABILITY_MISSING, "nobody said yet what the API user may call")
    missing = sorted(needed - may)
    if not missing:
        return None
    return HoldReason(Guard.CAPABILITY_MISSING, f"the API user may not call {', '.join(missing)}")


GUARDS: Mapping[Guard, GuardFunction] = MappingProxyType(
    {
        Guard.PAUSED: _paused,
        Guard.JOURNAL_DOWN: _journal_down,
        Guard.INVENTORY_STALE: _inventory_stale,
        Guard.INVENTORY_INCOMPLETE: _inventory_incomplete,
        Guard.STORM: _storm,
        Guard.FLEET_CAUSE: _fleet_cause,
        Guard.FLEET_BUSY: _fleet_busy,
        Guard.ZONE_DISABLED: _zone_disabled,
        Guard.HYPERVISOR_DOWN: _hypervisor_down,
        Guard.ZONE_BUSY: _zone_busy,
        Guard.ZONE_BUDGET_SPENT: _zone_budget_spent,
        Guard.VM_NOT_RUNNING: _vm_not_running,
        Guard.CLOUD_BUSY: _cloud_busy,
        Guard.OUTCOME_OPEN: _outcome_open,
        Guard.COOLING_DOWN: _cooling_down,
        Guard.EVIDENCE_STALE: _evidence_stale,
        Guard.HOST_KEY_CHANGED: _host_key_changed,
        Guard.LOG_NOT_FOLLOWED: _log_not_followed,
        Guard.TOO_YOUNG: _too_young,
        Guard.NOT_LONG_ENOUGH: _not_long_enough,
        Guard.NO_RULE: _no_rule,
        Guard.NOT_CONFIRMED: _not_confirmed,
        Guard.SUPPRESSED: _suppressed,
        Guard.CAPABILITY_MISSING: _capability_missing,
    }
)


def first_reason(
    step: Step,
    scene: Scene,
    chosen: Sequence[Step],
    policy: Policy,
    now: datetime,
    guards: Mapping[Guard, GuardFunction] = GUARDS,
) -> HoldReason | None:
    """The first reason to wait, or None: it may be done."""
    for guard in guards.values():
        reason = guard(step, scene, chosen, policy, now)
        if reason is not None:
            return reason
    return None
