"""Makes the plan of a round. All branches about what to do meet here.

It walks the sick, not the fleet, in a fixed order, and says something about each exactly once:
a step, a hold with its reason, or a call for a person.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from stackward.core.diagnoses import ACTIONABLE, row_of
from stackward.core.guards import GUARDS, GuardFunction, Scene, first_reason, set_scene
from stackward.core.ladder import DISRUPTIVE, Exhausted, NextRung, next_rung
from stackward.core.policy import Policy, Rule
from stackward.core.state import EffectiveMode, Episode, FleetView, TargetState
from stackward.model.diagnosis import Diagnosis, DiagnosisCode
from stackward.model.health import Health
from stackward.model.identity import TargetId
from stackward.model.plan import (
    ActionName,
    Escalation,
    Guard,
    Hold,
    HoldReason,
    Mode,
    Plan,
    Step,
    most_careful,
)

Decision = Step | Hold | Escalation


def make_plan(
    fleet: FleetView,
    health: Mapping[TargetId, Health],
    diagnoses: Mapping[TargetId, tuple[Diagnosis, ...]],
    fleet_diagnoses: Sequence[Diagnosis],
    policy: Policy,
    now: datetime,
    *,
    guards: Mapping[Guard, GuardFunction] = GUARDS,
) -> Plan:
    """The plan of this moment. `health` and `diagnoses` need to hold the sick and diagnosed only.

    A step of mode OBSERVE is shown and not handed out.
    """
    scene = set_scene(fleet, health, fleet_diagnoses)
    steps: list[Step] = []
    holds: list[Hold] = []
    escalations = [_for_fleet(cause, fleet) for cause in fleet_diagnoses]
    for state in _subjects(fleet, scene, diagnoses):
        found = diagnoses.get(state.target.id, ())
        match _decide(state, found, scene, policy):
            case Step() as step:
                reason = first_reason(step, scene, steps, policy, now, guards)
                if reason is None:
                    steps.append(step)
                else:
                    holds.append(_hold(state, step.diagnosis, reason, step.action))
            case Hold() as hold:
                holds.append(hold)
            case Escalation() as escalation:
                escalations.append(escalation)
            case None:
                pass
    return Plan(
        made_at=now,
        steps=tuple(steps),
        holds=tuple(holds),
        escalations=tuple(escalations),
        next_check_at=_next_check_at(holds, now),
    )


def effective_mode(rule: Rule, zone_name: str, fleet: FleetView, policy: Policy) -> EffectiveMode:
    """The most careful of what the whole, the zone, the rule and a demotion allow."""
    said = [
        (policy.mode, "the global mode"),
        (
            policy.zone_modes.get(zone_name, policy.unnamed_zones),
            f"the mode of zone {zone_name}",
        ),
        (rule.mode, f"the mode of rule {rule.name}"),
    ]
    if fleet.demotion is not None:
        said.append((Mode.ADVISE, f"a broken promise: {fleet.demotion}"))
    mode = most_careful(*(one for one, _ in said))
    return EffectiveMode(mode=mode, because=next(why for one, why in said if one is mode))


def rule_for(code: DiagnosisCode, state: TargetState, policy: Policy) -> Rule | None:
    """The first rule that speaks of this diagnosis on this VM."""
    target = state.target
    for rule in policy.rules:
        is_here = rule.every_zone or target.zone_name in rule.zones
        if rule.diagnosis is code and target.role in rule.roles and is_here:
            return rule
    return None


def _subjects(
    fleet: FleetView, scene: Scene, diagnoses: Mapping[TargetId, Sequence[Diagnosis]]
) -> Iterable[TargetState]:
    """The sick and the diagnosed, in an order that does not depend on how they were found."""
    ids = scene.sick | {target_id for target_id, found in diagnoses.items() if found}
    states = [fleet.targets[target_id] for target_id in ids if target_id in fleet.targets]

    def place(state: TargetState) -> tuple[str, str, str, str]:
        target = state.target
        zone = fleet.zones.get(target.zone_id)
        zone_name = zone.name if zone is not None else target.zone_name
        return (zone_name, target.zone_id, target.name, target.id)

    return sorted(states, key=place)


def _decide(
    state: TargetState, found: Sequence[Diagnosis], scene: Scene, policy: Policy
) -> Decision | None:
    """What to say about one target, before any guard is asked."""
    lead = next((one for one in found if one.suppressed_by is None), None)
    is_sick = state.target.id in scene.sick
    if lead is None and not is_sick:
        return None  # the wider cause speaks for it
    if lead is None and found:
        wider = found[0].suppressed_by
        return _hold(
            state, found[0], HoldReason(Guard.SUPPRESSED, f"a symptom of {wider}"), action=None
        )
    if lead is None:
        why = "sick, and no cause is sure yet"
        return _hold(state, None, HoldReason(Guard.NOT_CONFIRMED, why), action=None)
    if state.in_flight is not None:
        why = "a step is under way"
        action = state.in_flight_action
        return _hold(state, lead, HoldReason(Guard.OUTCOME_OPEN, why), action)
    if lead.code not in ACTIONABLE:
        return _escalation(state, lead, lead.sentence)
    return _climb(state, lead, scene.fleet, policy)


def _climb(state: TargetState, lead: Diagnosis, fleet: FleetView, policy: Policy) -> Decision:
    rule = rule_for(lead.code, state, policy)
    if rule is None:
        why = f"no rule for {lead.code.value} on this VM"
        return _hold(state, lead, HoldReason(Guard.NO_RULE, why), action=None)
    if state.episode is None:
        why = "its episode is not open yet"
        return _hold(state, lead, HoldReason(Guard.NOT_CONFIRMED, why), action=None)
    match next_rung(rule, state.episode):
        case Exhausted(tried=tried):
            names = ", ".join(action.value for action in tried) or "nothing"
            return _escalation(
                state,
                lead,
                f"{lead.sentence} All that rule {rule.name} allows was tried: {names}.",
            )
        case NextRung() as standing:
            mode = effective_mode(rule, state.target.zone_name, fleet, policy)
            return _step(state, state.episode, lead, rule, standing, mode)


def _step(
    state: TargetState,
    episode: Episode,
    lead: Diagnosis,
    rule: Rule,
    standing: NextRung,
    mode: EffectiveMode,
) -> Step:
    action = standing.rung.action
    return Step(
        target_id=state.target.id,
        target_name=state.target.name,
        zone_id=state.target.zone_id,
        action=action,
        diagnosis=lead,
        rule=rule.name,
        rung=standing.number,
        attempt=standing.attempt,
        mode=mode.mode,
        is_disruptive=action in DISRUPTIVE,
        marks=state.marks,
        log_position=state.log.position,
        verify_within=standing.rung.verify_within,
        explanation=(
            f"{lead.sentence} Rule {rule.name}, rung {standing.number + 1} of {len(rule.ladder)}, "
            f"attempt {standing.attempt}: {action.value} ({mode.mode.value} by {mode.because})."
        ),
        episode_id=episode.id,
    )


def _hold(
    state: TargetState, diagnosis: Diagnosis | None, reason: HoldReason, action: ActionName | None
) -> Hold:
    return Hold(
        target_id=state.target.id,
        target_name=state.target.name,
        diagnosis=diagnosis.code if diagnosis is not None else None,
        action=action,
        reason=reason,
    )


def _escalation(state: TargetState, lead: Diagnosis, sentence: str) -> Escalation:
    return Escalation(
        subject=lead.subject,
        subject_name=state.target.name,
        diagnosis=lead.code,
        sentence=sentence,
        advice=_advice(lead),
    )


def _for_fleet(cause: Diagnosis, fleet: FleetView) -> Escalation:
    zone_id, host_id = cause.subject.zone_id, cause.subject.host_id
    name = "the cloud"
    if zone_id is not None:
        name = fleet.zones[zone_id].name if zone_id in fleet.zones else zone_id
    elif host_id is not None:
        name = fleet.hosts[host_id].name if host_id in fleet.hosts else host_id
    return Escalation(
        subject=cause.subject,
        subject_name=name,
        diagnosis=cause.code,
        sentence=cause.sentence,
        advice=_advice(cause),
    )


def _advice(cause: Diagnosis) -> str:
    row = row_of(cause)
    return f"{row.advice} {row.never}"


def _next_check_at(holds: Sequence[Hold], now: datetime) -> datetime | None:
    later = [one.reason.until for one in holds if one.reason.until and one.reason.until > now]
    return min(later, default=None)
