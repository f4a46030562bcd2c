"""Why a target is judged as it is, and what follows: one value for the CLI, the page and JSON."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from stackward.core.correlate import correlate
from stackward.core.diagnose import row_words
from stackward.core.diagnoses import row_of
from stackward.core.evidence import is_stale
from stackward.core.log_pace import silence_told
from stackward.core.policy import Policy
from stackward.core.snapshot import Snapshot
from stackward.core.state import ProbeMemory, TargetState
from stackward.core.wording import plain
from stackward.model.correlation import Correlation, Culprit
from stackward.model.diagnosis import Diagnosis
from stackward.model.health import Health, HealthState, Overall
from stackward.model.identity import TargetId
from stackward.model.plan import ActionName, Guard, Mode, Plan
from stackward.model.verdict import Failed, Passed, ProbeName, Source, Unknown


class DecisionKind(StrEnum):
    """What the plan says about a target."""

    STEP = "step"
    HOLD = "hold"
    ESCALATION = "escalation"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceLine:
    """One witness's newest word. `count`: how many times in a row it was said."""

    witness: Source
    probe: ProbeName
    verdict: Overall
    text: str
    age: timedelta
    count: int
    is_stale: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionTaken:
    """What is done, not done, or asked of a person, and why. None: does not apply."""

    kind: DecisionKind
    reason: str
    action: ActionName | None = None
    mode: Mode | None = None
    guard: Guard | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One target, explained. `causes` holds a sentence for each diagnosis after the first.

    `wider_cause` is the sentence of a diagnosis of many targets that covers this one.
    """

    target_id: TargetId
    name: str
    role: str
    zone: str
    host: str | None
    state: HealthState
    verdict: Overall
    sentence: str
    diagnosis: str | None
    since: datetime | None
    reasons: tuple[str, ...]
    causes: tuple[str, ...]
    wider_cause: str | None
    evidence: tuple[EvidenceLine, ...]
    follows: str
    advice: str
    never: str
    decision: DecisionTaken
    tried: tuple[str, ...]
    logs: Correlation | None = None  # where the cause lies by the logs; None: they say nothing
    silence: str = ""  # that its log says nothing, where it should


def explain_target(snapshot: Snapshot, target_id: TargetId) -> Explanation | None:
    """Explain one target as the snapshot shows it; None when it is not there."""
    state = snapshot.fleet.targets.get(target_id)
    if state is None:
        return None
    unjudged = Health(HealthState.UNKNOWN, Overall.UNKNOWN, ("not judged yet",))
    health = snapshot.health.get(target_id, unjudged)
    found = snapshot.diagnoses.get(target_id, ())
    lead = next((one for one in found if one.suppressed_by is None), found[0] if found else None)
    wider = next((one for one in snapshot.fleet_diagnoses if target_id in one.suppresses), None)
    words = row_words(state)
    row = row_of(lead) if lead is not None else None
    return Explanation(
        target_id=target_id,
        name=state.target.name,
        role=state.target.role.spoken,
        zone=state.target.zone_name,
        host=state.target.host_name,
        state=health.state,
        verdict=health.verdict,
        sentence=lead.sentence if lead is not None else _sentence(state, health),
        diagnosis=lead.code.value if lead is not None else None,
        since=lead.since if lead is not None else None,
        reasons=health.reasons,
        causes=tuple(one.sentence for one in found if one is not lead),
        wider_cause=wider.sentence if wider is not None else None,
        evidence=_evidence(state, snapshot.policy, snapshot.taken_at),
        follows=row.follows.format_map(words) if row is not None else "",
        advice=row.advice.format_map(words) if row is not None else "",
        never=row.never if row is not None else "",
        decision=_decision(snapshot.plan, target_id, lead),
        tried=_tried(state),
        logs=_logs(state, health, snapshot),
        silence=silence_told(state, snapshot.policy.thresholds, snapshot.taken_at),
    )


def _logs(state: TargetState, health: Health, snapshot: Snapshot) -> Correlation | None:
    """What the logs say; of a VM that is well it is about what is over."""
    found = correlate(state, snapshot.fleet.management_logs, snapshot.taken_at)
    if found is None or state.episode is not None or health.state is not HealthState.HEALTHY:
        return found
    is_over = "Nothing is wrong now."
    if found.culprit is not Culprit.UNDECIDED:
        is_over += f" Of what was: {found.sentence}"
    return replace(found, sentence=is_over)


def _sentence(state: TargetState, health: Health) -> str:
    who = f"{state.target.role.spoken} {state.target.name} in zone {state.target.zone_name}"
    match health.state:
        case HealthState.HEALTHY:
            return f"{who} is well."
        case HealthState.SUSPECT:
            return f"{who} gave a bad answer that is not confirmed yet."
        case HealthState.UNHEALTHY:
            return f"{who} is sick, and no cause is sure yet."
        case HealthState.RECOVERING:
            return f"{who} is on the way back."
        case HealthState.UNKNOWN:
            return f"Nobody can say how {who} is."


def _evidence(state: TargetState, policy: Policy, now: datetime) -> tuple[EvidenceLine, ...]:
    return tuple(
        EvidenceLine(
            witness=memory.source,
            probe=probe,
            verdict=_overall(memory),
            text=_text(memory),
            age=now - memory.observed_at,
            count=memory.failed_in_a_row or memory.passed_in_a_row,
            is_stale=is_stale(probe, memory.observed_at, policy.thresholds, now),
        )
        for probe in ProbeName
        if (memory := state.probes.get(probe)) is not None
    )


def _overall(memory: ProbeMemory) -> Overall:
    match memory.verdict:
        case Passed():
            return Overall.PASSED
        case Failed():
            return Overall.FAILED
        case Unknown():
            return Overall.UNKNOWN


def _text(memory: ProbeMemory) -> str:
    match memory.verdict:
        case Passed(evidence=text) | Failed(evidence=text) | Unknown(reason=text):
            return plain(text)


def _decision(plan: Plan, target_id: TargetId, lead: Diagnosis | None) -> DecisionTaken:
    for step in plan.steps:
        if step.target_id == target_id:
            return DecisionTaken(
                kind=DecisionKind.STEP,
                reason=step.explanation,
                action=step.action,
                mode=step.mode,
            )
    for hold in plan.holds:
        if hold.target_id == target_id:
            return DecisionTaken(
                kind=DecisionKind.HOLD,
                reason=hold.reason.text,
                action=hold.action,
                guard=hold.reason.guard,
                until=hold.reason.until,
            )
    for call in plan.escalations:
        if call.subject.target_id == target_id:
            return DecisionTaken(kind=DecisionKind.ESCALATION, reason=call.sentence)
    why = "the wider cause speaks for it" if lead is not None else "there is nothing to do"
    return DecisionTaken(kind=DecisionKind.NONE, reason=why)


def _tried(state: TargetState) -> tuple[str, ...]:
    attempts = state.episode.attempts if state.episode is not None else ()
    return tuple(
        f"{one.at:%Y-%m-%d %H:%M:%S} {one.action.value}: "
        f"{one.outcome.value if one.outcome is not None else 'no outcome yet'}"
        for one in attempts
    )
