"""Why a target is judged as it is."""

from dataclasses import replace

import pytest

from stackward.core.explain import DecisionKind, Explanation, explain_target
from stackward.core.snapshot import Snapshot, Totals
from stackward.core.state import Attempt, FleetView, TargetState
from stackward.core.timeline import keep
from stackward.errors import Leg
from stackward.model.correlation import LogLine, Origin, Timeline
from stackward.model.health import HealthState, Overall
from stackward.model.identity import IntentId, TargetId
from stackward.model.outcome import OutcomeKind
from stackward.model.plan import ActionName, Guard, Mode
from stackward.model.sighting import EventClass, Severity
from stackward.model.verdict import ProbeName, Sign, Source
from tests.builders import (
    DEAD_AGENT,
    INSIDE_PROBES,
    NOW,
    VM,
    a_broken_path,
    a_fleet,
    a_sick_state,
    a_state,
    an_episode,
    minutes,
    probes_with,
    seconds,
)
from tests.judging import judge


def _snapshot(fleet: FleetView) -> Snapshot:
    judged = judge(fleet)
    return Snapshot(
        taken_at=NOW,
        started_at=NOW,
        round_number=1,
        fleet=fleet,
        policy=judged.policy,
        health=judged.health,
        diagnoses=judged.diagnoses,
        fleet_diagnoses=judged.fleet_diagnoses,
        plan=judged.plan,
        totals=Totals(),
    )


def _told(state: TargetState, *others: TargetState) -> Explanation:
    told = explain_target(_snapshot(a_fleet(state, *(others or (a_state("s-1-VM"),)))), VM)
    assert told is not None
    return told


def test_a_vm_that_is_not_there_cannot_be_explained():
    assert explain_target(_snapshot(a_fleet()), TargetId("nobody")) is None


def test_a_step_is_explained():
    told = _told(a_sick_state())
    assert told.sentence.startswith("The agent of CPVM v-2-VM in zone north is dead")
    assert (told.state, told.verdict) == (HealthState.UNHEALTHY, Overall.FAILED)
    assert told.follows == "CloudStack cannot use this VM: VM consoles of zone north stop."
    assert told.advice
    assert told.never
    decision = told.decision
    assert (decision.kind, decision.action, decision.mode) == (
        DecisionKind.STEP,
        ActionName.RESTART_AGENT,
        Mode.ACT,
    )


def test_a_hold_is_explained_with_its_end():
    acted = a_sick_state(last_action=ActionName.RESTART_AGENT, last_action_at=NOW - minutes(4))
    decision = _told(acted).decision
    assert (decision.kind, decision.guard) == (DecisionKind.HOLD, Guard.COOLING_DOWN)
    assert decision.until == NOW + minutes(6)


def test_a_call_for_a_person_is_explained():
    told = _told(a_state("v-2-VM", Sign.DISK_FULL))
    assert told.decision.kind is DecisionKind.ESCALATION
    assert told.diagnosis == "DiskFull"


def test_evidence_is_listed_by_witness_with_its_age():
    old = probes_with()[ProbeName.AGENT_UNIT]._replace(observed_at=NOW - minutes(2))
    state = a_state(probes={**probes_with(Sign.AGENT_NOT_UP), ProbeName.AGENT_UNIT: old})
    lines = {line.probe: line for line in _told(state).evidence}
    agent = lines[ProbeName.CLOUD_AGENT]
    assert (agent.witness, agent.verdict, agent.age) == (Source.API, Overall.FAILED, seconds(5))
    assert (agent.count, agent.is_stale) == (10, False)
    assert lines[ProbeName.AGENT_UNIT].is_stale
    silent = a_state(probes=probes_with(unknown=(ProbeName.DISK,)))
    shown = {line.probe: line for line in _told(silent).evidence}
    assert shown[ProbeName.DISK].verdict is Overall.UNKNOWN


def test_a_wider_cause_is_named():
    told = _told(a_sick_state(), a_sick_state("s-1-VM"))
    assert told.wider_cause is not None
    assert "All 2 system VMs" in told.wider_cause
    assert told.diagnosis == "AgentDown"
    assert told.decision.guard is Guard.SUPPRESSED
    cut = a_state(path=a_broken_path(Leg.JUMP_TCP))
    also = a_state("s-1-VM", path=a_broken_path(Leg.JUMP_TCP))
    assert _told(cut, also).decision.kind is DecisionKind.NONE


def test_what_was_tried_is_told():
    attempts = tuple(
        Attempt(action=ActionName.RESTART_AGENT, intent_id=IntentId("i"), at=NOW, outcome=outcome)
        for outcome in (OutcomeKind.FAILED, None)
    )
    tried = _told(a_sick_state(episode=an_episode(attempts=attempts))).tried
    assert tried == (
        "2026-03-01 12:00:00 restart-agent: failed",
        "2026-03-01 12:00:00 restart-agent: no outcome yet",
    )


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (a_state(), "is well"),
        (a_state(probes=probes_with(Sign.LINK_DOWN, times=1)), "not confirmed yet"),
        (a_state(probes={}), "Nobody can say"),
        (
            a_state(probes=probes_with(unknown=INSIDE_PROBES), episode=an_episode()),
            "on the way back",
        ),
        (
            a_state(probes=probes_with(Sign.AGENT_NOT_UP, unknown=INSIDE_PROBES, stood=minutes(1))),
            "no cause is sure yet",
        ),
    ],
)
def test_a_vm_without_a_cause_has_a_sentence_too(state: TargetState, words: str):
    told = _told(state)
    assert words in told.sentence
    assert told.diagnosis is None


def test_causes_beside_the_first_are_listed():
    told = _told(a_state("v-2-VM", *DEAD_AGENT, Sign.DISK_FULL, Sign.MOUNT_HUNG))
    assert told.diagnosis == "DiskFull"
    assert len(told.causes) == 1


def test_a_target_not_judged_yet_is_unknown():
    snapshot = replace(_snapshot(a_fleet(a_state())), health={}, diagnoses={})
    told = explain_target(snapshot, VM)
    assert told is not None
    assert told.verdict is Overall.UNKNOWN


def _line(event: EventClass, text: str) -> LogLine:
    at = NOW - minutes(9)
    severity = Severity.ERROR
    return LogLine(
        origin=Origin.VM, log="", event=event, severity=severity, text=text, at=at, seen_at=at
    )


def test_the_logs_of_a_sick_vm_say_where_the_cause_lies_and_those_of_a_well_one_where_it_lay():
    broken = keep(Timeline(), [_line(EventClass.OOM, "Java heap space")])
    lost = keep(Timeline(), [_line(EventClass.AGENT_LOST_CONNECTION, "Lost connection")])
    sick = _told(a_sick_state(timeline=broken, episode=an_episode())).logs
    well, vague = _told(a_state(timeline=broken)).logs, _told(a_state(timeline=lost)).logs
    assert sick is not None
    assert well is not None
    assert vague is not None
    assert sick.sentence.startswith("The cause lies in the VM itself")
    assert well.sentence.startswith("Nothing is wrong now. Of what was: The cause lies")
    assert vague.sentence == "Nothing is wrong now."
    assert _told(a_state()).logs is None
