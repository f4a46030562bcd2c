"""Is it still so, right now? The judgement of the look right before acting. Pure.

What cannot be told is a reason not to. Nothing here makes a step bolder.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from stackward.catalog.action import Action
from stackward.core.planner import effective_mode, rule_for
from stackward.core.snapshot import Snapshot
from stackward.model.diagnosis import DiagnosisCode
from stackward.model.guest import GuestMarks
from stackward.model.plan import Step
from stackward.model.verdict import Failed, Observation, Passed, ProbeName, Sign, Unknown
from stackward.ports import Look


@dataclass(frozen=True, slots=True)
class Fit:
    """Still so. `marks` name the life of the agent that the request is meant for."""

    marks: GuestMarks
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unfit:
    """Not to be done: well again, changed, or cannot be told."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotYet:
    """These facts are too old or not there: ask once more."""

    reason: str


_DEAD = {
    ProbeName.AGENT_UNIT: frozenset({Sign.UNIT_FAILED, Sign.UNIT_EXITED, Sign.UNIT_RESTARTING}),
    ProbeName.AGENT_PROCESS: frozenset({Sign.JVM_MISSING}),
}


def judge_permission(step: Step, action: Action, snapshot: Snapshot | None) -> Unfit | None:
    """May it be done at all, by the policy in force now and by what the API user may call?

    An API user who could not look for the request gets no action.
    """
    if snapshot is None:
        return Unfit("there is no picture of the fleet yet")
    if snapshot.fleet.demotion is not None:
        return Unfit(f"the daemon only advises: {snapshot.fleet.demotion}")
    return _judge_policy(step, snapshot) or _judge_capabilities(action, snapshot)


def _judge_policy(step: Step, snapshot: Snapshot) -> Unfit | None:
    """A person may have made the daemon more careful since the step was chosen."""
    state = snapshot.fleet.targets.get(step.target_id)
    if state is None:
        return Unfit("the VM is not listed any more")
    rule = rule_for(step.diagnosis.code, state, snapshot.policy)
    if rule is None or rule.name != step.rule:
        return Unfit(f"rule {step.rule} is not the one in force for this VM any more")
    if step.action not in {rung.action for rung in rule.ladder}:
        return Unfit(f"rule {step.rule} does not allow {step.action} any more")
    allowed = effective_mode(rule, state.target.zone_name, snapshot.fleet, snapshot.policy)
    if allowed.mode.boldness < step.mode.boldness:
        return Unfit(f"{allowed.mode} is all that is allowed now, by {allowed.because}")
    return None


def _judge_capabilities(action: Action, snapshot: Snapshot) -> Unfit | None:
    if not action.commands:
        return None
    known = snapshot.fleet.capabilities
    if known is None:
        return Unfit("it is not known yet what the API user may call")
    if missing := sorted(action.commands - known):
        return Unfit(f"the API user may not call {', '.join(missing)}")
    return None


def judge_cloud(look: Look, step: Step) -> Unfit | None:
    """What CloudStack says of the VM, its zone and its hypervisor."""
    target, zone, host = look.target, look.zone, look.host
    if target is None or target.id != step.target_id:
        return Unfit("CloudStack knows no such VM any more")
    if not target.is_running:
        return Unfit(f"CloudStack calls the VM {target.cloud_state}")
    if target.job_id is not None:
        return Unfit(f"CloudStack is at work on the VM: job {target.job_id}")
    if zone is None or zone.id != target.zone_id or zone.is_enabled is None:
        return Unfit("it cannot be told whether the zone is enabled")
    if not zone.is_enabled:
        return Unfit(f"zone {zone.name} is disabled")
    if host is None or host.id != target.host_id or host.is_up is None:
        return Unfit("it cannot be told whether the hypervisor is Up")
    if not host.is_up:
        return Unfit(f"hypervisor {host.name} is not Up: {host.detail}")
    return None


def judge_facts(
    step: Step, observations: Iterable[Observation], marks: GuestMarks, not_before: datetime
) -> Fit | Unfit | NotYet:
    """What the VM itself says: the same life as diagnosed, and its agent still dead."""
    if step.diagnosis.code is not DiagnosisCode.AGENT_DOWN:
        return Unfit(f"{step.diagnosis.code} cannot be looked at again")
    fresh = {
        observation.probe: observation.verdict
        for observation in observations
        if observation.observed_at >= not_before
    }
    match fresh.get(ProbeName.AGENT_LINK):
        case Passed(evidence):
            return Unfit(f"well again: {evidence or 'the agent is connected'}")
        case _:
            pass
    match fresh.get(ProbeName.AGENT_UNIT):
        case Failed(Sign.UNIT_STOPPED, evidence):
            return Unfit(f"changed: {evidence}")
        case _:
            pass
    found = {
        probe: verdict
        for probe, verdict in fresh.items()
        if isinstance(verdict, Failed) and verdict.sign in _DEAD.get(probe, frozenset())
    }
    if found:
        is_restarting = any(verdict.sign is Sign.UNIT_RESTARTING for verdict in found.values())
        if not is_restarting and isinstance(fresh.get(ProbeName.AGENT_PROCESS), Passed):
            return NotYet("a JVM is there, and systemd's word on the unit is older")
        seen = tuple(f"{probe}: {verdict.evidence}" for probe, verdict in found.items())
        return _judge_marks(step.marks, marks, seen, is_restarting=is_restarting)
    if all(isinstance(fresh.get(probe), Passed) for probe in _DEAD):
        return Unfit("well again: the unit is active and its JVM is there")
    return NotYet(_unanswered(fresh.get(probe) for probe in _DEAD))


def _judge_marks(
    diagnosed: GuestMarks, found: GuestMarks, evidence: tuple[str, ...], *, is_restarting: bool
) -> Fit | Unfit | NotYet:
    if diagnosed.boot_id is None:
        return Unfit("cannot tell: the diagnosis names no boot")
    if found.boot_id is None:
        return NotYet("the VM did not tell its boot_id")
    if found.boot_id != diagnosed.boot_id:
        return Unfit("changed: the VM has booted since")
    if found.invocation_id == diagnosed.invocation_id:
        return Fit(found, evidence)
    if found.invocation_id is None:
        return NotYet("the VM did not tell the unit's InvocationID")
    if is_restarting:
        # systemd starts it again and again, each time as a new life: it is dead all the same.
        return Fit(found, evidence)
    return Unfit("changed: the agent was started anew since")


def _unanswered(verdicts: Iterable[Failed | Passed | Unknown | None]) -> str:
    reasons = [verdict.reason for verdict in verdicts if isinstance(verdict, Unknown)]
    return "; ".join(reasons) or "no fresh facts about the agent"
