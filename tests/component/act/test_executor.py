"""One step from intent to outcome, on virtual time, against a small cloud."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from stackward.errors import Garbled, RefusalKind, Refused, TimedOut, TransportError, Unreachable
from stackward.model.entry import EntryKind
from stackward.model.event import StepBegun, StepFinished, StepStarted
from stackward.model.identity import IntentId, JobId, TargetId
from stackward.model.outcome import Outcome, OutcomeKind
from stackward.model.plan import ActionName, Mode, Step
from stackward.model.target import AgentState, CloudState
from stackward.model.verdict import Sign
from stackward.ports import JobStatus, Pause
from tests.component.act.stage import ALL_TOLD, Stage, a_step
from tests.fakes.clock import EPOCH
from tests.fakes.virtual_loop import run_virtually

RESTART, REBOOT = ActionName.RESTART_AGENT, ActionName.REBOOT_SYSTEM_VM
BOTH = pytest.mark.parametrize("action", [RESTART, REBOOT])
WHOLE = [EntryKind.INTENT, EntryKind.BEGUN, EntryKind.OUTCOME]
WITH_JOB = [EntryKind.INTENT, EntryKind.BEGUN, EntryKind.ACCEPTED, EntryKind.OUTCOME]


def run(stage: Stage, step: Step | None = None, **tools: Any) -> Outcome:
    return run_virtually(stage.run(stage.tools(**tools), step or a_step()))


def assert_withdrawn(stage: Stage, outcome: Outcome, why: str) -> None:
    assert outcome.kind is OutcomeKind.WITHDRAWN
    assert why in outcome.reason
    assert stage.cloud.ledger == []
    assert stage.kinds[-1] is EntryKind.OUTCOME
    assert stage.told[-1] is StepFinished


# --- the straight way


def test_a_dead_agent_is_restarted_once_and_proved_from_three_sides():
    stage = Stage()
    outcome = run(stage)
    assert outcome.kind is OutcomeKind.SUCCEEDED
    for proof in ("InvocationID", "ready line", "cloud-agent"):
        assert proof in outcome.reason
    assert [request.what for request in stage.cloud.ledger] == ["restart"]
    assert stage.kinds == WHOLE
    assert stage.told == ALL_TOLD


def test_a_reboot_is_proved_by_a_new_boot_and_not_by_its_job():
    stage = Stage()
    outcome = run(stage, a_step(REBOOT))
    assert outcome.kind is OutcomeKind.SUCCEEDED
    assert "boot_id is now boot-2" in outcome.reason
    assert [request.what for request in stage.cloud.ledger] == ["reboot"]
    assert stage.kinds == WITH_JOB
    assert stage.journal.of(EntryKind.ACCEPTED)[0].job_id == "job-1"


def test_every_row_names_the_intent_the_target_the_episode_and_the_life_it_was_meant_for():
    stage = Stage()
    run(stage)
    step = a_step()
    for entry in stage.journal.written:
        assert (entry.intent_id, entry.target_id, entry.zone_id, entry.episode_id) == (
            IntentId("intent-1"),
            step.target_id,
            step.zone_id,
            step.episode_id,
        )
    intent, begun, _ = stage.journal.written
    assert (intent.marks, intent.log_position) == (step.marks, step.log_position)
    assert begun.marks == step.marks
    assert begun.at > intent.at


def test_advice_looks_again_and_says_what_it_would_have_done():
    stage = Stage()
    outcome = run(stage, a_step(mode=Mode.ADVISE))
    assert outcome.kind is OutcomeKind.WOULD_HAVE
    assert stage.kinds == [EntryKind.INTENT, EntryKind.WOULD_HAVE]
    assert stage.told == [StepStarted, StepFinished]
    assert stage.cloud.ledger == []


def test_advice_about_a_vm_that_is_well_again_is_withdrawn():
    stage = Stage()
    stage.cloud.is_agent_dead = False
    assert_withdrawn(stage, run(stage, a_step(mode=Mode.ADVISE)), "well again")


# --- reasons not to


def trouble(**changes: Any) -> Any:
    def make(stage: Stage) -> None:
        for name, value in changes.items():
            setattr(stage.cloud, name, value)

    return make


def target_with(**changes: Any) -> Any:
    def make(stage: Stage) -> None:
        stage.cloud.target = replace(stage.cloud.target, **changes)

    return make


def fault(**changes: Any) -> Any:
    def make(stage: Stage) -> None:
        for name, value in changes.items():
            setattr(stage.cloud.faults, name, value)

    return make


def zone_with(is_enabled: bool | None) -> Any:
    def make(stage: Stage) -> None:
        stage.cloud.zone = replace(stage.cloud.zone, is_enabled=is_enabled)

    return make


def host_with(is_up: bool | None) -> Any:
    def make(stage: Stage) -> None:
        stage.cloud.host = replace(stage.cloud.host, is_up=is_up)

    return make


@BOTH
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (trouble(is_agent_dead=False), "well again"),
        (trouble(is_gone=True), "no such VM"),
        (trouble(boot=2), "booted since"),
        (trouble(start=2), "started anew"),
        (trouble(sign=Sign.UNIT_STOPPED), "changed"),
        (trouble(facts_age=3600.0), "cannot tell"),
        (trouble(has_picture=False), "no picture"),
        (trouble(demotion="promise 4 was broken"), "only advises"),
        (target_with(cloud_state=CloudState.STOPPED), "Stopped"),
        (target_with(cloud_state=CloudState.UNRECOGNISED), "unrecognised"),
        (target_with(job_id=JobId("other")), "job other"),
        (target_with(host_id=None), "hypervisor"),
        (zone_with(None), "cannot be told"),
        (zone_with(False), "disabled"),
        (host_with(None), "cannot be told"),
        (host_with(False), "not Up"),
        (fault(look=Unreachable("no route")), "could not be asked"),
        (fault(look=Garbled("html")), "could not be asked"),
        (fault(ask=TimedOut("silence")), "could not be asked"),
    ],
)
def test_a_look_that_is_not_sure_withdraws_the_step(action: ActionName, make: Any, why: str):
    stage = Stage()
    make(stage)
    assert_withdrawn(stage, run(stage, a_step(action)), why)
    assert stage.kinds == [EntryKind.INTENT, EntryKind.OUTCOME]


@pytest.mark.parametrize("known", [None, frozenset(), frozenset({"rebootSystemVm"})])
def test_an_api_user_who_could_not_look_afterwards_reboots_nothing(known: frozenset[str] | None):
    stage = Stage()
    stage.cloud.capabilities_known = known
    assert_withdrawn(stage, run(stage, a_step(REBOOT)), "API user")
    assert run(Stage()).kind is OutcomeKind.SUCCEEDED


def test_facts_that_are_too_old_are_asked_for_again_until_they_are_young_enough():
    stage = Stage()
    stage.cloud.facts_age = 20.0

    async def play() -> Outcome:
        stage.cloud.later(6, lambda: setattr(stage.cloud, "facts_age", 1.0))
        return await stage.run(stage.tools(), a_step())

    assert run_virtually(play()).kind is OutcomeKind.SUCCEEDED


def test_a_unit_that_dies_again_and_again_is_restarted_in_its_newest_life():
    stage = Stage()
    stage.cloud.start, stage.cloud.sign = 7, Sign.UNIT_RESTARTING
    marks = stage.cloud.marks
    assert run(stage).kind is OutcomeKind.SUCCEEDED
    assert stage.journal.of(EntryKind.BEGUN)[0].marks == marks


def test_a_second_step_on_the_same_vm_or_zone_is_withdrawn():
    stage = Stage()
    tools = stage.tools()

    async def play() -> tuple[Outcome, Outcome, Outcome]:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(stage.run(tools, a_step()))
            await asyncio.sleep(0.01)
            same = await stage.run(tools, a_step())
            other = await stage.run(tools, a_step(target_id=TargetId("other")))
        return first.result(), same, other

    first, same, other = run_virtually(play())
    assert first.kind is OutcomeKind.SUCCEEDED
    assert "this VM" in same.reason
    assert "this zone" in other.reason
    assert len(stage.cloud.ledger) == 1
    with tools.leases.lease(a_step().target_id, a_step().zone_id) as taken_by:
        assert not taken_by


@BOTH
@pytest.mark.parametrize("reads", [0, 1])
def test_a_pause_at_the_last_moment_stops_the_request(action: ActionName, reads: int):
    stage = Stage()
    stage.pause.pause = Pause(reason="maintenance", by="ada", at=EPOCH)
    stage.pause.after = reads
    assert_withdrawn(stage, run(stage, a_step(action)), "paused by ada: maintenance")


# --- the journal


def test_without_an_intent_on_disk_nothing_is_done_at_all():
    stage = Stage()
    stage.journal.trouble = "disk full"
    outcome = run(stage)
    assert outcome.kind is OutcomeKind.WITHDRAWN
    assert "disk full" in outcome.reason
    assert stage.cloud.ledger == []
    assert stage.told == [StepFinished]  # the loop holds the VM for busy until it is told


@BOTH
def test_without_begun_on_disk_nothing_is_sent(action: ActionName):
    stage = Stage()
    stage.journal.trouble, stage.journal.fail_on = "disk full", frozenset({EntryKind.BEGUN})
    assert_withdrawn(stage, run(stage, a_step(action)), "disk full")
    assert StepBegun not in stage.told


def test_an_outcome_is_written_as_soon_as_the_journal_can_and_told_only_then():
    stage = Stage()

    async def play() -> Outcome:
        kinds = frozenset({EntryKind.OUTCOME})
        stage.journal.trouble, stage.journal.fail_on = "disk full", kinds
        stage.cloud.later(3600, lambda: setattr(stage.journal, "trouble", ""))
        stage.cloud.later(3599, lambda: seen.append(list(stage.told)))
        return await stage.run(stage.tools(), a_step())

    seen: list[list[type]] = []
    assert run_virtually(play()).kind is OutcomeKind.SUCCEEDED
    assert seen == [[StepStarted, StepBegun]]
    assert stage.kinds == WHOLE
    warnings = [event for level, event, _ in stage.log.told if level == "warning"]
    assert warnings == ["outcome not journalled"]


def test_a_job_that_cannot_be_journalled_is_followed_all_the_same():
    stage = Stage()
    stage.journal.trouble, stage.journal.fail_on = "disk full", frozenset({EntryKind.ACCEPTED})
    assert run(stage, a_step(REBOOT)).kind is OutcomeKind.SUCCEEDED
    assert stage.kinds == WHOLE


# --- the request


@BOTH
def test_a_request_that_surely_never_left_is_withdrawn(action: ActionName):
    stage = Stage()
    stage.cloud.faults.request = Unreachable("no route", maybe_sent=False)
    assert_withdrawn(stage, run(stage, a_step(action)), "no route")
    assert stage.kinds == WHOLE


@pytest.mark.parametrize(
    "kind",
    [
        RefusalKind.STANDING_DOWN,
        RefusalKind.THROTTLED,
        RefusalKind.GONE,
        RefusalKind.NOT_ALLOWED,
        RefusalKind.CREDENTIALS,
        RefusalKind.PARAMETER,
    ],
)
def test_a_refusal_before_any_job_is_withdrawn(kind: RefusalKind):
    stage = Stage()
    stage.cloud.faults.request = Refused("no", kind=kind)
    assert_withdrawn(stage, run(stage, a_step(REBOOT)), "refused")


def test_a_life_that_changed_between_look_and_act_is_left_alone():
    stage = Stage()
    stage.cloud.faults.reply_text = "stackward: changed " + "f" * 32 + "\n"
    outcome = run(stage)
    assert outcome.kind is OutcomeKind.WITHDRAWN
    assert "changed" in outcome.reason


LOST = [TimedOut("silence"), Unreachable("broke"), Garbled("half a reply")]


@BOTH
@pytest.mark.parametrize("error", LOST)
def test_a_lost_reply_is_no_loss_when_the_effect_can_be_proved(
    action: ActionName, error: TransportError
):
    stage = Stage()
    stage.cloud.faults.reply = error
    assert run(stage, a_step(action)).kind is OutcomeKind.SUCCEEDED
    assert len(stage.cloud.ledger) == 1
    assert (EntryKind.ACCEPTED in stage.kinds) is (action is REBOOT)


@BOTH
@pytest.mark.parametrize("error", [*LOST, Refused("oops", kind=RefusalKind.INTERNAL)])
def test_a_request_that_may_have_left_and_is_not_found_is_unknown_and_never_repeated(
    action: ActionName, error: TransportError
):
    stage = Stage()
    stage.cloud.faults.request = error
    outcome = run(stage, a_step(action))
    assert outcome.kind is OutcomeKind.UNKNOWN
    assert stage.cloud.ledger == []
    assert stage.kinds == WHOLE


@BOTH
def test_a_request_without_any_answer_ends_by_its_deadline(action: ActionName):
    stage = Stage()
    stage.cloud.faults.hangs = True
    assert run(stage, a_step(action)).kind is OutcomeKind.UNKNOWN


def test_a_request_that_arrives_late_is_found_by_its_job():
    stage = Stage()
    stage.cloud.faults.arrival = 70.0
    outcome = run(stage, a_step(REBOOT, verify_within=timedelta(minutes=5)))
    assert outcome.kind is OutcomeKind.SUCCEEDED
    assert stage.kinds == WITH_JOB


def test_an_api_that_does_not_answer_afterwards_leaves_it_unknown():
    stage = Stage()
    stage.cloud.faults.request = TimedOut("silence")
    stage.cloud.faults.jobs = Unreachable("down")
    assert run(stage, a_step(REBOOT)).kind is OutcomeKind.UNKNOWN


@pytest.mark.parametrize("text", ["", "stackward: unclear systemctl restart: timed out\n", "sh: x"])
def test_a_strange_reply_may_hide_a_restart(text: str):
    stage = Stage()
    stage.cloud.faults.reply_text = text
    assert run(stage).kind is OutcomeKind.SUCCEEDED


# --- the proof


def test_a_job_that_lies_is_a_failure():
    stage = Stage()
    stage.cloud.faults.job_lies = True
    outcome = run(stage, a_step(REBOOT))
    assert outcome.kind is OutcomeKind.FAILED
    assert "no proof" in outcome.reason
    assert "no new boot_id" in outcome.reason


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.CANCELLED])
def test_a_failed_job_is_a_failure_unless_the_vm_has_booted(status: JobStatus):
    stage = Stage()
    stage.cloud.faults.job_ends_as = status
    assert run(stage, a_step(REBOOT)).kind is OutcomeKind.FAILED

    stage = Stage()
    stage.cloud.faults.job_ends_as = status

    async def play() -> Outcome:
        stage.cloud.later(5, stage.cloud.reboot)
        return await stage.run(stage.tools(), a_step(REBOOT))

    assert run_virtually(play()).kind is OutcomeKind.SUCCEEDED


def test_a_job_that_is_forgotten_proves_nothing_either_way():
    stage = Stage()
    stage.cloud.faults.job_vanishes = True
    assert run(stage, a_step(REBOOT)).kind is OutcomeKind.SUCCEEDED
    stage = Stage()
    stage.cloud.faults.job_vanishes = stage.cloud.faults.job_lies = True
    assert run(stage, a_step(REBOOT)).kind is OutcomeKind.UNKNOWN


def test_a_job_that_is_never_told_ends_in_time():
    stage = Stage()
    stage.cloud.faults.jobs = Unreachable("down")
    stage.cloud.faults.job_lies = True
    assert run(stage, a_step(REBOOT)).kind is OutcomeKind.UNKNOWN


@BOTH
def test_without_a_ready_line_it_is_a_failure(action: ActionName):
    stage = Stage()
    stage.cloud.faults.is_silent = True
    outcome = run(stage, a_step(action))
    assert outcome.kind is OutcomeKind.FAILED
    assert "no ready line" in outcome.reason


def test_a_ready_line_from_before_the_request_is_no_proof():
    stage = Stage()
    stage.cloud.faults.is_silent = True
    stage.cloud.ready_at, stage.cloud.ready_seen_at = a_step().log_position, EPOCH
    assert run(stage).kind is OutcomeKind.FAILED


def test_an_agent_that_stays_dead_is_a_failure():
    stage = Stage()
    stage.cloud.faults.agent_stays_dead = True
    assert run(stage).kind is OutcomeKind.FAILED


def test_without_a_second_witness_it_is_a_failure():
    stage = Stage()
    stage.cloud.faults.api_agent_stays = True
    outcome = run(stage)
    assert outcome.kind is OutcomeKind.FAILED
    assert "no witness" in outcome.reason


def test_an_up_that_was_never_anything_else_counts_only_when_it_outlives_two_pings():
    stage = Stage()
    stage.cloud.target = replace(stage.cloud.target, agent_state=AgentState.UP)
    brief = a_step(verify_within=timedelta(minutes=2))
    assert run(stage, brief).kind is OutcomeKind.FAILED
    stage = Stage()
    stage.cloud.target = replace(stage.cloud.target, agent_state=AgentState.UP)
    assert run(stage, a_step(verify_within=timedelta(minutes=3))).kind is OutcomeKind.SUCCEEDED


# --- the wall, and stopping


@BOTH
def test_a_crash_before_begun_is_withdrawn_and_counted(action: ActionName):
    stage = Stage()

    def crash(*_: object) -> Any:
        raise ZeroDivisionError("a bug")

    assert_withdrawn(stage, run(stage, a_step(action), read_facts=crash), "ZeroDivisionError")
    assert stage.crashes == ["step"]


@BOTH
def test_a_crash_after_begun_is_unknown_and_counted(action: ActionName):
    stage = Stage()
    stage.cloud.faults.reply = ZeroDivisionError("a bug")
    outcome = run(stage, a_step(action))
    assert outcome.kind is OutcomeKind.UNKNOWN
    assert stage.kinds[-1] is EntryKind.OUTCOME
    assert stage.crashes == ["step"]


def test_stopping_in_mid_step_leaves_the_intent_open():
    stage = Stage()

    async def play() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await stage.run(stage.tools(), a_step())

    run_virtually(play())
    assert stage.kinds == [EntryKind.INTENT, EntryKind.BEGUN]
    assert StepFinished not in stage.told


def test_what_remote_machines_say_is_redacted_before_it_is_kept():
    stage = Stage()
    stage.cloud.faults.request = Unreachable("password=hunter2", maybe_sent=False)
    outcome = run(stage, redact=lambda text: text.replace("hunter2", "***"))
    kept = repr(stage.journal.written) + repr(stage.sink.events) + outcome.reason
    assert "hunter2" not in kept + repr(stage.log.told)
    assert "***" in outcome.reason
