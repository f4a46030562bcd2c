"""A second opinion on a finished plan: the ten promises, as ten functions.

Rule: nothing here comes from the planner, the guards, the ladder or the reading of evidence; it
reasons from the plan and the remembered state alone, so that one mistake is not made twice.
A promise broken is a bug: the plan is refused, and the daemon only advises from then on.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

from stackward.core.policy import Policy, Rung
from stackward.core.state import FleetView, TargetState
from stackward.core.wording import spoken
from stackward.model.health import Health, HealthState
from stackward.model.identity import TargetId, ZoneId
from stackward.model.outcome import OutcomeKind
from stackward.model.plan import (
    ActionName,
    BrokenPromise,
    Escalation,
    Hold,
    Plan,
    PromiseName,
    Step,
)
from stackward.model.verdict import Failed, Passed, ProbeName, Sign, Source

_AHEAD_MAX = timedelta(seconds=5)
_SLOW = (ProbeName.STORAGE, ProbeName.DISK, ProbeName.MANAGEMENT)
_NOT_SENT = (OutcomeKind.WITHDRAWN, OutcomeKind.WOULD_HAVE)

# Only a dead agent is cured by machine, so only these bad answers from inside justify anything.
_DEAD_INSIDE = (Sign.UNIT_FAILED, Sign.UNIT_EXITED, Sign.UNIT_RESTARTING, Sign.JVM_MISSING)

_Promise = Callable[[Plan, FleetView, Policy, Mapping[TargetId, Health]], Iterator[str]]


def broken_promises(
    plan: Plan,
    fleet: FleetView,
    policy: Policy,
    now: datetime,
    health: Mapping[TargetId, Health],
    *,
    again: Plan | None = None,
) -> tuple[BrokenPromise, ...]:
    """Every promise that this plan breaks, and how. `again`: the plan made a second time."""
    broken = [
        BrokenPromise(name, detail)
        for name, promise in PROMISES.items()
        for detail in promise(plan, fleet, policy, health)
    ]
    if plan.made_at != now:
        broken.append(BrokenPromise(PromiseName.DETERMINISM, "the plan is of another moment"))
    if again is not None and again != plan:
        broken.append(BrokenPromise(PromiseName.DETERMINISM, "made again, the plan differs"))
    return tuple(broken)


def _fresh_evidence(
    plan: Plan, fleet: FleetView, policy: Policy, _health: Mapping[TargetId, Health]
) -> Iterator[str]:
    """1: no step on evidence that is stale, unknown, or speaks against it."""
    listed_at = fleet.inventory_at
    limit = policy.thresholds.inventory_stale_after
    for step in plan.steps:
        state = fleet.targets.get(step.target_id)
        if state is None:
            yield f"{step.target_name} is not a target"
            continue
        if listed_at is None or not _is_recent(listed_at, limit, plan.made_at):
            yield f"{step.target_name}: the listing is old"
        if fleet.unreadable:
            yield f"{step.target_name}: the listing has holes"
        for why in (*_doubts_inside(state, policy, plan), *_doubts_outside(state, fleet)):
            yield f"{step.target_name}: {why}"


def _doubts_inside(state: TargetState, policy: Policy, plan: Plan) -> Iterator[str]:
    asked = {p: m for p, m in state.probes.items() if p not in policy.disabled_probes}
    fresh = {
        probe: memory
        for probe, memory in asked.items()
        if _is_recent(
            memory.observed_at,
            policy.thresholds.slow_stale_after if probe in _SLOW else policy.thresholds.stale_after,
            plan.made_at,
        )
    }
    dead = [
        memory
        for memory in fresh.values()
        if isinstance(memory.verdict, Failed)
        and memory.verdict.sign in _DEAD_INSIDE
        and memory.failed_in_a_row >= policy.thresholds.fall
    ]
    running = fresh.get(ProbeName.CLOUD_STATE)
    link = fresh.get(ProbeName.AGENT_LINK)
    if not dead:
        yield "no fresh answer says that the agent is dead"
    if running is None or not isinstance(running.verdict, Passed):
        yield "no fresh answer says that the VM is running"
    if link is not None and isinstance(link.verdict, Passed):
        yield "the agent has a connection"
    if state.path is not None and state.path.leg is not None:
        yield "the way in is broken"
    inside = [memory for memory in asked.values() if memory.source is Source.SSH]
    last = max((memory.observed_at for memory in inside), default=None)
    newest = [memory.verdict for memory in inside if memory.observed_at == last]
    if not any(isinstance(verdict, Passed | Failed) for verdict in newest):
        yield "the newest answer from inside is unknown"


def _doubts_outside(state: TargetState, fleet: FleetView) -> Iterator[str]:
    """What CloudStack must have said: silence about any of it is evidence that is missing."""
    target = state.target
    zone = fleet.zones.get(target.zone_id)
    host = fleet.hosts.get(target.host_id) if target.host_id is not None else None
    if not target.is_running:
        yield f"CloudStack says {target.cloud_state}"
    if target.job_id is not None:
        yield "a job is pending on it"
    if zone is None or zone.is_enabled is not True:
        yield "its zone is not known to be enabled"
    if host is None or host.is_up is not True:
        yield "its hypervisor is not known to be up"
    if state.log.position is None:
        yield "its log is not followed"


def _is_recent(at: datetime, limit: timedelta, now: datetime) -> bool:
    return -_AHEAD_MAX <= now - at <= limit


def _zone_budget(
    plan: Plan, fleet: FleetView, policy: Policy, _health: Mapping[TargetId, Health]
) -> Iterator[str]:
    """2: never more disruptive steps in a zone than its budget, nor more at once than may be."""
    limits = policy.limits
    at_once: Counter[ZoneId] = Counter(step.zone_id for step in plan.steps)
    in_window: Counter[ZoneId] = Counter(s.zone_id for s in plan.steps if s.is_disruptive)
    planned = frozenset(at_once)
    for zone_id in planned:
        earlier = fleet.zone_actions.get(zone_id, ())
        in_window[zone_id] += sum(plan.made_at - at < limits.zone_window for at in earlier)
    for state in fleet.targets.values() if planned else ():
        if state.in_flight is not None:
            at_once[state.target.zone_id] += 1
    for zone_id in planned:
        if at_once[zone_id] > limits.zone_in_flight_max:
            yield f"zone {zone_id}: {at_once[zone_id]} steps at once"
        if in_window[zone_id] > limits.zone_disruptive_max:
            yield f"zone {zone_id}: {in_window[zone_id]} steps within {spoken(limits.zone_window)}"
    if planned and at_once.total() > limits.fleet_in_flight_max:
        yield f"{at_once.total()} steps at once in the cloud"


def _redundancy(
    plan: Plan, fleet: FleetView, _policy: Policy, _health: Mapping[TargetId, Health]
) -> Iterator[str]:
    """3: never two of those that stand in for each other, nor the same one twice."""
    planned = [
        fleet.targets[step.target_id].target.service
        for step in plan.steps
        if step.target_id in fleet.targets
    ]
    if not planned:
        return
    flying = [s.target.service for s in fleet.targets.values() if s.in_flight is not None]
    count = Counter([*planned, *flying])
    for service in dict.fromkeys(planned):
        if count[service] > 1:
            yield f"{count[service]} steps at once on the {service.role} of zone {service.zone_id}"


def _cooldown(
    plan: Plan, fleet: FleetView, policy: Policy, _health: Mapping[TargetId, Health]
) -> Iterator[str]:
    """4: no step within the cooldown of the previous one, nor while that has no outcome."""
    for step in plan.steps:
        state = fleet.targets.get(step.target_id)
        if state is None:
            continue
        attempts = state.episode.attempts if state.episode is not None else ()
        if state.in_flight is not None or None in [attempt.outcome for attempt in attempts]:
            yield f"{step.target_name}: an earlier step has no outcome"
        if state.last_action_at is not None:
            wait = max(
                (
                    rung.cooldown
                    for rule in policy.rules
                    for rung in rule.ladder
                    if state.last_action in (None, rung.action)
                ),
                default=Rung(action=step.action).cooldown,
            )
            if plan.made_at - state.last_action_at < wait:
                yield f"{step.target_name}: {state.last_action} was at {state.last_action_at}"


def _storm(
    plan: Plan, fleet: FleetView, policy: Policy, health: Mapping[TargetId, Health]
) -> Iterator[str]:
    """5: no step when too much is sick at once, in the whole or in a whole zone."""
    if not plan.steps:
        return
    sick = [
        state
        for target_id, state in fleet.targets.items()
        if (known := health.get(target_id)) is not None and known.state is HealthState.UNHEALTHY
    ]
    share = len(sick) / len(fleet.targets) if fleet.targets else 1.0
    if len(sick) >= policy.limits.storm_count and share >= policy.limits.storm_share:
        yield f"{len(sick)} of {len(fleet.targets)} are sick"
    in_zone = Counter(state.target.zone_id for state in fleet.targets.values())
    sick_in_zone = Counter(state.target.zone_id for state in sick)
    for step in plan.steps:
        if sick_in_zone[step.zone_id] == in_zone[step.zone_id] > 1:
            yield f"every VM of zone {step.zone_id} is sick, {step.target_name} is one"


def _pause(
    plan: Plan, fleet: FleetView, _policy: Policy, _health: Mapping[TargetId, Health]
) -> Iterator[str]:
    """6: no step while a person, or trouble with the journal or the API, says stop."""
    if not plan.steps:
        return
    if fleet.pause_reason is not None:
        yield f"paused: {fleet.pause_reason}"
    if fleet.journal_trouble:
        yield f"the journal: {fleet.journal_trouble}"
    api = fleet.sources.get(Source.API)
    if api is None or not api.is_up:
        yield "the API does not answer"


def _nothing_ignored(
    plan: Plan, fleet: FleetView, _policy: Policy, health: Mapping[TargetId, Health]
) -> Iterator[str]:
    """7: every sick target is in the plan exactly once, and no target is in it twice."""
    parts: tuple[Step | Hold | Escalation, ...] = (*plan.steps, *plan.holds, *plan.escalations)
    told = Counter(_target_of(part) for part in parts)
    for target_id, count in told.items():
        if target_id is not None and count > 1:
            yield f"{target_id} is in the plan {count} times"
    for target_id, known in health.items():
        is_sick = known.state is HealthState.UNHEALTHY and target_id in fleet.targets
        if is_sick and told[target_id] == 0:
            yield f"{fleet.targets[target_id].target.name} is sick, and not in the plan"


def _target_of(part: Step | Hold | Escalation) -> TargetId | None:
    return part.subject.target_id if isinstance(part, Escalation) else part.target_id


def _determinism(
    plan: Plan, _fleet: FleetView, _policy: Policy, _health: Mapping[TargetId, Health]
) -> Iterator[str]:
    """8: same state, same plan: its parts are in an order that no dictionary can change."""
    names = [step.target_name for step in plan.steps]
    for zone_id in {step.zone_id for step in plan.steps}:
        in_zone = [step.target_name for step in plan.steps if step.zone_id == zone_id]
        if in_zone != sorted(in_zone):
            yield f"the steps are in no order: {names}"
    if plan.next_check_at is not None and plan.next_check_at <= plan.made_at:
        yield "the next check lies in the past"


def _ladder(
    plan: Plan, fleet: FleetView, policy: Policy, _health: Mapping[TargetId, Health]
) -> Iterator[str]:
    """9: within an episode a ladder only goes up, each rung as often as allowed, then a person."""
    for step in plan.steps:
        state = fleet.targets.get(step.target_id)
        rule = next((rule for rule in policy.rules if rule.name == step.rule), None)
        if state is None or state.episode is None or state.episode.id != step.episode_id:
            yield f"{step.target_name}: a step outside its episode"
            continue
        if rule is None or step.rung >= len(rule.ladder):
            yield f"{step.target_name}: no such rung"
            continue
        rung = rule.ladder[step.rung]
        done = [one.action for one in state.episode.attempts if one.outcome not in _NOT_SENT]
        higher = {above.action for above in rule.ladder[step.rung + 1 :]} - {
            below.action for below in rule.ladder[: step.rung + 1]
        }
        allowed = sum(r.attempts_max for r in rule.ladder[: step.rung + 1])
        if rung.action is not step.action:
            yield f"{step.target_name}: rung {step.rung} is not {step.action}"
        if higher & set(done):
            yield f"{step.target_name}: {step.action} after {', '.join(sorted(higher & set(done)))}"
        if step.attempt > rung.attempts_max or len(done) >= allowed:
            yield f"{step.target_name}: attempt {step.attempt} of {rung.attempts_max}"


def _two_kinds_of_evidence(
    plan: Plan, fleet: FleetView, policy: Policy, _health: Mapping[TargetId, Health]
) -> Iterator[str]:
    """10: what ends everything in a VM needs two witnesses who differ in kind."""
    for step in plan.steps:
        state = fleet.targets.get(step.target_id)
        if state is None or step.action is not ActionName.REBOOT_SYSTEM_VM:
            continue
        kinds = {
            memory.source
            for probe, memory in state.probes.items()
            if isinstance(memory.verdict, Failed)
            and probe not in policy.disabled_probes
            and _is_recent(memory.observed_at, policy.thresholds.slow_stale_after, plan.made_at)
        }
        if len(kinds) < 2:
            yield f"{step.target_name}: {step.action} on the word of {len(kinds)} witness"


PROMISES: Mapping[PromiseName, _Promise] = MappingProxyType(
    {
        PromiseName.FRESH_EVIDENCE: _fresh_evidence,
        PromiseName.ZONE_BUDGET: _zone_budget,
        PromiseName.REDUNDANCY: _redundancy,
        PromiseName.COOLDOWN: _cooldown,
        PromiseName.STORM: _storm,
        PromiseName.PAUSE: _pause,
        PromiseName.NOTHING_IGNORED: _nothing_ignored,
        PromiseName.DETERMINISM: _determinism,
        PromiseName.LADDER: _ladder,
        PromiseName.TWO_KINDS_OF_EVIDENCE: _two_kinds_of_evidence,
    }
)
