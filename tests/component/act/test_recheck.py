"""The judgement right before acting, over what the probes made of a VM's facts."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from stackward.act.recheck import Fit, NotYet, Unfit, judge_facts
from stackward.catalog.guest_reader import observe_block
from stackward.model.diagnosis import DiagnosisCode
from stackward.model.guest import GuestMarks
from stackward.model.plan import ActionName
from stackward.model.verdict import (
    Failed,
    Observation,
    Passed,
    ProbeName,
    Sign,
    Source,
    Unknown,
    Verdict,
)
from tests.builders import NOW, seconds
from tests.component.act.stage import a_step
from tests.fakes.small_cloud import TARGET
from tests.unit.catalog.blocks import BOOT_ID, INVOCATION, THRESHOLDS, a_block, unit

DEAD = Failed(Sign.UNIT_FAILED, "failed")
NO_JVM = Failed(Sign.JVM_MISSING, "no java")
FINE = Passed("fine")
NO_ANSWER = Unknown("no answer")
MARKS = a_step().marks


def judge(
    unit: Verdict | None = None,
    process: Verdict | None = None,
    link: Verdict | None = None,
    *,
    marks: GuestMarks = MARKS,
    age: timedelta = timedelta(0),
    **step: Any,
) -> Fit | Unfit | NotYet:
    told = {
        ProbeName.AGENT_UNIT: unit,
        ProbeName.AGENT_PROCESS: process,
        ProbeName.AGENT_LINK: link,
    }
    observations = [
        Observation(TARGET.id, probe, Source.SSH, verdict, NOW - age)
        for probe, verdict in told.items()
        if verdict is not None
    ]
    return judge_facts(a_step(**step), observations, marks, NOW - seconds(5))


def failed(sign: Sign) -> Failed:
    return Failed(sign, str(sign))


@pytest.mark.parametrize("action", list(ActionName))
@pytest.mark.parametrize(
    ("unit", "process"),
    [
        (DEAD, NO_ANSWER),
        (DEAD, None),
        (failed(Sign.UNIT_EXITED), NO_ANSWER),
        (failed(Sign.UNIT_RESTARTING), FINE),
        (FINE, NO_JVM),
        (NO_ANSWER, NO_JVM),
    ],
)
def test_a_dead_unit_or_a_missing_jvm_is_still_so(
    action: ActionName, unit: Verdict, process: Verdict
):
    fit = judge(unit, process, action=action)
    assert isinstance(fit, Fit)
    assert fit.marks == MARKS
    assert fit.evidence


@pytest.mark.parametrize(
    ("unit", "process", "link"),
    [
        (FINE, FINE, None),
        (FINE, FINE, Failed(Sign.LINK_DOWN, "alive, not connected")),
        (DEAD, None, FINE),
        (failed(Sign.UNIT_STOPPED), NO_ANSWER, None),
        (failed(Sign.UNIT_STOPPED), NO_JVM, None),
    ],
)
def test_well_again_or_stopped_by_a_person_is_left_alone(
    unit: Verdict, process: Verdict, link: Verdict
):
    assert isinstance(judge(unit, process, link), Unfit)


@pytest.mark.parametrize(
    ("unit", "process"),
    [
        (None, None),
        (NO_ANSWER, NO_ANSWER),
        (FINE, NO_ANSWER),
        (NO_ANSWER, FINE),
        (FINE, None),
        (DEAD, FINE),  # systemd's word is older than the JVM
    ],
)
def test_what_cannot_be_told_is_asked_again(unit: Verdict, process: Verdict):
    assert isinstance(judge(unit, process), NotYet)


def test_old_facts_say_nothing():
    assert isinstance(judge(DEAD, NO_JVM, age=seconds(5)), Fit)
    assert isinstance(judge(DEAD, NO_JVM, age=seconds(5.1)), NotYet)


@pytest.mark.parametrize(
    ("marks", "kind"),
    [
        (GuestMarks(boot_id="boot-2", invocation_id=MARKS.invocation_id), Unfit),
        (GuestMarks(boot_id="boot-1", invocation_id="f" * 32), Unfit),
        (GuestMarks(boot_id=None, invocation_id=MARKS.invocation_id), NotYet),
        (GuestMarks(boot_id="boot-1", invocation_id=None), NotYet),
    ],
)
def test_another_life_is_not_the_one_that_was_diagnosed(marks: GuestMarks, kind: type):
    assert isinstance(judge(DEAD, marks=marks), kind)


def test_a_diagnosis_that_names_no_boot_cannot_be_compared():
    assert isinstance(judge(DEAD, marks=GuestMarks()), NotYet)
    nameless = GuestMarks(boot_id=None, invocation_id=MARKS.invocation_id)
    assert isinstance(
        judge_facts(
            a_step(marks=nameless),
            [Observation(TARGET.id, ProbeName.AGENT_UNIT, Source.SSH, DEAD, NOW)],
            MARKS,
            NOW,
        ),
        Unfit,
    )


@pytest.mark.parametrize("code", sorted(set(DiagnosisCode) - {DiagnosisCode.AGENT_DOWN}))
def test_no_other_diagnosis_can_be_looked_at_again(code: DiagnosisCode):
    assert isinstance(judge(DEAD, diagnosis=replace(a_step().diagnosis, code=code)), Unfit)


# --- with the real probes

DIAGNOSED = GuestMarks(boot_id=BOOT_ID, invocation_id=INVOCATION, agent_pid=None)
FAILED: dict[str, Any] = {
    "ActiveState": "failed",
    "SubState": "failed",
    "Result": "exit-code",
    "ExecMainCode": "1",
    "ExecMainStatus": "127",
    "MainPID": "0",
    "NRestarts": "5",
    "ControlGroup": "",
}


def judge_block(*, age: float = 2.0, jvm: tuple[str, ...] = ("none",), **properties: str):
    block = a_block(ages={"unit": seconds(age)}, jvm=jvm, link=("none",), unit=unit(**properties))
    observations, marks, _ = observe_block(block, TARGET, THRESHOLDS)
    return judge_facts(a_step(marks=DIAGNOSED), observations, marks, NOW - seconds(8))


def test_a_failed_unit_as_systemd_tells_it_is_still_so():
    fit = judge_block(**FAILED)
    assert isinstance(fit, Fit), fit
    assert fit.marks.invocation_id == INVOCATION


def test_a_failed_unit_of_long_ago_is_asked_for_again():
    assert isinstance(judge_block(age=12.0, **FAILED), NotYet)


def test_an_active_unit_with_its_jvm_is_well_again():
    assert isinstance(judge_block(jvm=("734",)), Unfit)


def test_a_unit_stopped_by_hand_is_left_alone():
    stopped: dict[str, Any] = {"ActiveState": "inactive", "SubState": "dead", "ExecMainCode": "2"}
    assert isinstance(judge_block(**stopped, ExecMainStatus="15", MainPID="0"), Unfit)


def test_a_new_start_that_failed_again_is_another_life():
    assert isinstance(judge_block(**FAILED, InvocationID="f" * 32), Unfit)
