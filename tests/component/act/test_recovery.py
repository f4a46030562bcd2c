"""Open intents after a restart: looked at, followed, concluded, and never sent again."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from stackward.act.recovery import recover
from stackward.errors import TimedOut, Unreachable
from stackward.model.entry import EntryKind, OpenIntent
from stackward.model.event import StepFinished
from stackward.model.outcome import OutcomeKind
from stackward.model.plan import ActionName, Step
from tests.component.act.stage import Stage, a_step
from tests.fakes.kill import Killed, KillSwitch, Manner
from tests.fakes.virtual_loop import run_virtually

RESTART, REBOOT = ActionName.RESTART_AGENT, ActionName.REBOOT_SYSTEM_VM
BOTH = pytest.mark.parametrize("action", [RESTART, REBOOT])
SENDING = {RESTART: "run", REBOOT: "reboot_system_vm"}


async def die_at(stage: Stage, step: Step, call: str, manner: Manner) -> None:
    """Run the step and die at its first call of this name."""
    counting = KillSwitch()
    rehearsal = Stage()
    await rehearsal.run(rehearsal.tools(counting), step)
    switch = KillSwitch(counting.calls.index(call) + 1, manner)
    with pytest.raises(Killed):
        await stage.run(stage.tools(switch), step)


def die_and_recover(stage: Stage, step: Step, call: str, manner: Manner) -> OutcomeKind:
    async def play() -> None:
        await die_at(stage, step, call, manner)
        stage.cloud.forget_the_log()
        await recover(await stage.journal.open_intents(), stage.tools())

    run_virtually(play())
    (outcome,) = stage.outcomes
    assert stage.told[-1] is StepFinished
    assert len(stage.cloud.ledger) <= 1
    return outcome.kind


@BOTH
def test_an_intent_without_begun_is_withdrawn(action: ActionName):
    stage = Stage()
    assert die_and_recover(stage, a_step(action), "look", Manner.BEFORE) is OutcomeKind.WITHDRAWN


@BOTH
def test_a_request_that_never_left_is_unknown_since_nobody_can_know(action: ActionName):
    stage = Stage()
    kind = die_and_recover(stage, a_step(action), SENDING[action], Manner.BEFORE)
    assert kind is OutcomeKind.UNKNOWN
    assert stage.cloud.ledger == []


@BOTH
def test_a_request_that_left_is_found_and_proved(action: ActionName):
    stage = Stage()
    kind = die_and_recover(stage, a_step(action), SENDING[action], Manner.AFTER)
    assert kind is OutcomeKind.SUCCEEDED
    assert len(stage.cloud.ledger) == 1
    assert (EntryKind.ACCEPTED in stage.kinds) is (action is REBOOT)


def test_a_job_that_was_noted_is_polled_further():
    stage = Stage()
    kind = die_and_recover(stage, a_step(REBOOT), "job", Manner.BEFORE)
    assert kind is OutcomeKind.SUCCEEDED
    assert stage.kinds.count(EntryKind.ACCEPTED) == 1


def test_a_lying_job_is_still_a_lie_after_a_restart():
    stage = Stage()
    stage.cloud.faults.job_lies = True
    kind = die_and_recover(stage, a_step(REBOOT), "job", Manner.BEFORE)
    assert kind is OutcomeKind.FAILED


@BOTH
def test_a_restart_hours_later_still_finds_the_truth(action: ActionName):
    stage = Stage()

    async def play() -> None:
        await die_at(stage, a_step(action), SENDING[action], Manner.AFTER)
        await stage.cloud.clock.sleep(4 * 3600)
        stage.cloud.forget_the_log()
        await recover(await stage.journal.open_intents(), stage.tools())

    run_virtually(play())
    assert [outcome.kind for outcome in stage.outcomes] == [OutcomeKind.SUCCEEDED]


def test_a_request_still_on_its_way_after_the_restart_is_found_when_it_arrives():
    stage = Stage()
    stage.cloud.faults.arrival = 60.0

    async def play() -> None:
        stage.cloud.faults.reply = TimedOut("silence")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await stage.run(stage.tools(), a_step(REBOOT))
        assert stage.cloud.ledger == []
        await recover(await stage.journal.open_intents(), stage.tools())

    run_virtually(play())
    assert [outcome.kind for outcome in stage.outcomes] == [OutcomeKind.SUCCEEDED]
    assert len(stage.cloud.ledger) == 1


def test_an_api_that_is_down_for_long_does_not_hold_recovery_for_ever():
    stage = Stage()
    stage.cloud.faults.jobs = Unreachable("down")
    kind = die_and_recover(stage, a_step(REBOOT), "reboot_system_vm", Manner.BEFORE)
    assert kind is OutcomeKind.UNKNOWN


def test_a_clock_that_was_set_back_does_not_hold_recovery_for_ever():
    stage = Stage()

    async def play() -> float:
        await die_at(stage, a_step(REBOOT), "reboot_system_vm", Manner.BEFORE)
        (found,) = await stage.journal.open_intents()
        assert found.begun is not None
        later = replace(found.begun, at=found.begun.at + timedelta(days=2))
        started = stage.cloud.clock.monotonic()
        await recover([replace(found, begun=later)], stage.tools())
        return stage.cloud.clock.monotonic() - started

    assert run_virtually(play()) < 1800
    assert [outcome.kind for outcome in stage.outcomes] == [OutcomeKind.UNKNOWN]


def test_a_row_that_names_no_target_is_concluded_as_unknown():
    stage = Stage()

    async def play() -> None:
        await die_at(stage, a_step(), "run", Manner.BEFORE)
        (found,) = await stage.journal.open_intents()
        nameless = replace(found.intent, target_id=None)
        await recover([OpenIntent(intent=nameless, begun=found.begun)], stage.tools())

    run_virtually(play())
    assert [outcome.kind for outcome in stage.outcomes] == [OutcomeKind.UNKNOWN]


def test_a_crash_in_recovery_is_contained_and_the_others_go_on():
    stage = Stage()

    async def play() -> None:
        await die_at(stage, a_step(REBOOT), "job", Manner.BEFORE)
        (found,) = await stage.journal.open_intents()
        stage.cloud.faults.jobs = ZeroDivisionError("a bug")
        await recover([found], stage.tools())

    run_virtually(play())
    assert [outcome.kind for outcome in stage.outcomes] == [OutcomeKind.UNKNOWN]
    assert stage.crashes == ["step"]
