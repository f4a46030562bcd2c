"""Makes the plan of a round. All branches about what to do meet here.

It walks the sick, not the fleet, in a fixed order, and says something about each exactly once:
a step, a hold with its reason, or a call for a person.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from stackward.core.diagnose import row_words
from stackward.core.diagnoses import ACTIONABLE, row_of
from stackward.core.guards import GUARDS, GuardFunction, Scene, first_reason, set_scene
from stackward.core.ladder import DISRUPTIVE, Exhausted, NextRung, next_rung
from stackward.core.policy import Policy, Rule
from stackward.core.state import EffectiveMode, Episode, FleetView, TargetState
from stackward.core.wording import spoken
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

# A person said stop, a step is under way, or a call for all has been made.
_PATIENT = frozenset({Guard.PAUSED, Guard.OUTCOME_OPEN, Guard.STORM})


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
    changes_at: list[datetime | None] = []
    escalations = [_for_fleet(cause, fleet) for cause in fleet_diagnoses]
    for state in _subjects(fleet, scene, diagnoses):
        found = diagnoses.get(state.target.id, ())
        decision = _decide(state, found, scene, policy)
        if isinstance(decision, Step):
            reason = first_reason(decision, scene, steps, policy, now, guards)
            if reason is not None:
                decision = _hold(state, decision.diagnosis, reason, decision.action)
        if isinstance(decision, Hold):
            changes_at.append(decision.reason.until)
            decision = _end_of_patience(decision, state, found, scene, policy, now)
        match decision:
            case Step() as step:
                steps.append(step)
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
        next_check_at=min((at for at in changes_at if at and at > now), default=None),
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
    lead = _lead(found)
    is_sick = state.target.id in scene.sick
    if lead is None and not is_sick:
        return None  # the wider cause speaks for it
    if lead is None and found:
        wider = found[0].suppressed_by
        return _hold(
            state, found[0], HoldReason(Guard.SUPPRESSED, f"a symptom of {wider}"), action=None
        )
    if lead is None:
        why = "sick, and no cause is sure yet: waiting for newer evidence"
        return _hold(state, None, HoldReason(Guard.NOT_CONFIRMED, why), action=None)
    if state.in_flight is not None:
        why = "a step is under way"
        action = state.in_flight_action
        return _hold(state, lead, HoldReason(Guard.OUTCOME_OPEN, why), action)
    if lead.code not in ACTIONABLE:
        return _escalation(state, lead, lead.sentence)
    return _climb(state, lead, scene.fleet, policy)


def _lead(found: Sequence[Diagnosis]) -> Diagnosis | None:
    return next((one for one in found if one.suppressed_by is None), None)


def _end_of_patience(
    hold: Hold,
    state: TargetState,
    found: Sequence[Diagnosis],
    scene: Scene,
    policy: Policy,
    now: datetime,
) -> Hold | Escalation:
    """A person is called for what could be repaired, is sick, and has been held for too long."""
    lead = _lead(found)
    if lead is None or lead.code not in ACTIONABLE or state.target.id not in scene.sick:
        return hold
    if hold.reason.guard in _PATIENT:
        return hold
    done = (at for at in (state.last_action_at, state.advised_at) if at is not None)
    patience = policy.limits.hold_escalates_after
    if now - max((lead.since, *done)) <= patience:
        return hold
    why = f"Held for more than {spoken(patience)}: {hold.reason.text.rstrip('.')}."
    return _escalation(state, lead, f"{lead.sentence} {why}")


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
        advice=_advice(lead, row_words(state)),
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
        advice=_advice(cause, {}),
    )


def _advice(cause: Diagnosis, words: Mapping[str, str]) -> str:
    row = row_of(cause)
    return f"{row.advice} {row.never}".format_map(words)
