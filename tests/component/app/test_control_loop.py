"""The heart on virtual time: its rhythm, its one owner, what it hands out and what it holds."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from stackward.app import control_loop
from stackward.app.bulletin import Bulletin
from stackward.app.control_loop import EVENTS_PER_SLICE
from stackward.core.policy import Thresholds
from stackward.core.replay import Remembered, replay
from stackward.core.snapshot import Snapshot
from stackward.core.state import LogMemory
from stackward.model.entry import EntryKind
from stackward.model.event import (
    Observed,
    Sighted,
    StepBegun,
    StepFinished,
    StepStarted,
    TargetsListed,
)
from stackward.model.health import HealthState
from stackward.model.identity import TargetId
from stackward.model.outcome import Outcome, OutcomeKind
from stackward.model.plan import ActionName, BrokenPromise, Guard, Mode, PromiseName
from stackward.model.sighting import EventClass, Severity, Sighting
from stackward.model.verdict import Passed, ProbeName, Source
from stackward.ports import Pause
from tests.builders import a_policy, a_position, a_rule, a_target, an_inventory, observed
from tests.component.app.room import Room
from tests.fakes.virtual_loop import virtually

VM = TargetId("id-v-2-VM")
ALL_WELL = tuple(
    (probe, Passed("fine"))
    for probe in (
        ProbeName.CLOUD_STATE,
        ProbeName.CLOUD_AGENT,
        ProbeName.AGENT_UNIT,
        ProbeName.AGENT_PROCESS,
        ProbeName.AGENT_LINK,
    )
)


def state_of(room: Room) -> HealthState:
    return room.snapshot.health[VM].state


def guards_of(room: Room) -> set[Guard]:
    return {hold.reason.guard for hold in room.snapshot.plan.holds}


# --- rhythm ---------------------------------------------------------------------------------------


@virtually
async def test_a_round_comes_every_second_though_nothing_happens():
    room = Room()

    async with room.running(is_telling=False):
        await room.clock.sleep(60.5)
    assert 58 <= room.snapshot.round_number <= 61


@virtually
async def test_a_flood_is_taken_in_slices_and_the_rounds_go_on():
    """Each slice costs time here; between two of them everybody else gets a turn."""
    room = Room()
    turns = 0
    slices: list[tuple[int, int]] = []  # how many events, and whose turn it was by then
    take = room.inbox.take
    loop: Any = asyncio.get_running_loop()

    def slow_take(most):
        taken = take(most)
        if taken:
            slices.append((len(taken), turns))
            loop._virtual.now += 0.02
        return taken

    vars(room.inbox)["take"] = slow_take

    async def flood() -> None:
        nonlocal turns
        while True:
            turns += 1
            now = room.clock.now()
            for _ in range(50):
                room.inbox.put(
                    Observed(target_id=VM, source=Source.SSH, observations=(), observed_at=now)
                )
            await room.clock.sleep(0.01)

    async with room.running(), asyncio.TaskGroup() as group:
        flooding = group.create_task(flood())
        await room.clock.sleep(5)
        flooding.cancel()
        during = list(slices)
    assert max(size for size, _ in during) == EVENTS_PER_SLICE
    # A sleeper needs a few turns of the event loop to wake up: so many slices may go before it.
    apart = zip(during, during[4:], strict=False)
    assert all(earlier < later for (_, earlier), (_, later) in apart)
    assert room.snapshot.round_number >= 3
    assert len(room.fed) == room.snapshot.round_number


@virtually
async def test_the_watchdog_is_fed_by_completed_rounds_alone():
    room = Room()

    async with room.running():
        await room.clock.sleep(10.5)
        assert len(room.fed) == room.snapshot.round_number
    assert "2 passed" in room.fed[-1]
    assert room.fed[0].startswith("mode act: ")


@virtually
async def test_readers_are_woken_by_every_snapshot():
    room = Room()
    seen: list[int] = []

    async def read() -> None:
        number = 0
        while True:
            number = (await room.bulletin.next_after(number)).round_number
            seen.append(number)

    async with room.running(), asyncio.TaskGroup() as group:
        reading = group.create_task(read())
        await room.clock.sleep(20.5)
        reading.cancel()
    assert seen == list(range(1, seen[-1] + 1))
    assert len(seen) >= 18


@virtually
async def test_it_is_ready_from_the_first_inventory_on():
    room = Room()

    async with room.running(is_telling=False):
        await room.clock.sleep(5)
        before = room.snapshot
        room.tell()
        await room.clock.sleep(2)
        assert (before.is_ready, room.snapshot.is_ready) == (False, True)
        assert {health.state for health in room.snapshot.health.values()} == {HealthState.HEALTHY}


@virtually
async def test_a_vm_of_which_nothing_more_is_heard_becomes_unknown_by_time_alone():
    room = Room()

    async with room.running(is_telling=False):
        room.tell()
        await room.clock.sleep(2)
        assert state_of(room) == HealthState.HEALTHY
        await room.clock.sleep(100)
        assert state_of(room) == HealthState.UNKNOWN


@virtually
async def test_an_answer_is_stale_from_the_first_round_after_its_time():
    room = Room()
    limit = room.loop.policy.thresholds.stale_after
    seen = set()

    async with room.running(is_telling=False):
        room.tell()
        told_at = room.clock.now()
        await room.clock.sleep(2)
        for _ in range(90):
            snapshot = await room.bulletin.next_after(room.snapshot.round_number)
            seen.add((snapshot.taken_at - told_at <= limit, snapshot.health[VM].state))
    assert seen == {(True, HealthState.HEALTHY), (False, HealthState.UNKNOWN)}


@virtually
async def test_a_vm_that_answers_as_well_as_before_is_not_judged_again():
    room = Room()

    async with room.running(is_telling=False):
        room.tell()
        await room.clock.sleep(2)
        judged = room.snapshot.health[VM]
        for _ in range(60):
            room.inbox.put(observed(*ALL_WELL, at=room.clock.now()))
            await room.clock.sleep(10)
            assert room.snapshot.health[VM] is judged
        room.inbox.put(observed(*ALL_WELL, (ProbeName.CLOCK, Passed("right")), at=room.clock.now()))
        await room.clock.sleep(2)
        assert room.snapshot.health[VM] is not judged
        assert room.snapshot.health[VM] == judged


@virtually
async def test_another_policy_judges_everybody_anew_in_the_next_round():
    room = Room()

    async with room.running(is_telling=False):
        room.tell()
        await room.clock.sleep(20.5)
        assert state_of(room) == HealthState.HEALTHY
        for stale_after, state in ((10, HealthState.UNKNOWN), (60, HealthState.HEALTHY)):
            thresholds = Thresholds(stale_after=timedelta(seconds=stale_after))
            room.loop.policy = a_policy(thresholds=thresholds)
            snapshot = await room.bulletin.next_after(room.snapshot.round_number)
            assert snapshot.policy.thresholds == thresholds
            assert {one.state for one in snapshot.health.values()} == {state}


@virtually
async def test_another_policy_counts_from_the_next_round_on():
    room = Room()
    room.fall_sick()

    room.loop.policy = a_policy(mode=Mode.OBSERVE)
    async with room.running():
        await room.clock.sleep(120)
        assert room.handed_out == []
        assert [step.mode for step in room.snapshot.plan.steps] == [Mode.OBSERVE]
        room.loop.policy = a_policy()
        await room.clock.sleep(3)
        assert [step.mode for step, _ in room.handed_out] == [Mode.ACT]


# --- handing out ----------------------------------------------------------------------------------


@virtually
async def test_a_step_is_handed_out_once_though_nobody_ever_answers():
    room = Room()
    room.fall_sick()

    async with room.running():
        await room.clock.sleep(900)
    assert [(step.target_id, intent_id) for step, intent_id in room.handed_out] == [
        (VM, "intent-1")
    ]
    assert guards_of(room) == {Guard.OUTCOME_OPEN}


@virtually
async def test_after_its_outcome_the_next_step_waits_for_the_cooldown():
    room = Room()
    room.fall_sick()

    async with room.running():
        await room.until(lambda: bool(room.handed_out))
        step, intent_id = room.handed_out[0]
        begun_at = room.clock.now()
        started = StepStarted(
            target_id=VM,
            intent_id=intent_id,
            action=step.action,
            episode_id=step.episode_id,
            at=begun_at,
        )
        room.inbox.put(started)
        room.inbox.put(StepBegun(target_id=VM, intent_id=intent_id, at=begun_at))
        failed = Outcome(OutcomeKind.FAILED, "no proof")
        room.inbox.put(
            StepFinished(
                target_id=VM,
                intent_id=intent_id,
                action=step.action,
                outcome=failed,
                at=begun_at + timedelta(seconds=1),
            )
        )
        await room.until(lambda: len(room.handed_out) > 1, 3600)
        cooldown = room.loop.policy.rules[0].ladder[0].cooldown
        assert room.clock.now() - begun_at >= cooldown
        assert room.handed_out[1][0].rung == 1
        totals = room.snapshot.totals
        assert totals.steps_begun == {"restart-agent": 1}
        assert totals.outcomes == {("restart-agent", "failed"): 1}


@virtually
async def test_while_recovering_or_draining_nothing_is_handed_out_and_the_plan_says_why():
    room = Room()
    room.fall_sick()
    room.is_held_back = True

    async with room.running():
        await room.clock.sleep(300)
        assert room.handed_out == []
        assert room.snapshot.plan.steps == ()
        (hold,) = room.snapshot.plan.holds
        assert (hold.reason.guard, hold.action) == (Guard.PAUSED, ActionName.RESTART_AGENT)
        assert "not ready" in hold.reason.text
        assert room.journal.count(EntryKind.PAUSED) == 0  # no person has paused it
        room.is_held_back = False
        await room.clock.sleep(3)
        assert len(room.handed_out) == 1


@virtually
async def test_a_healthy_fleet_is_left_alone_and_leaves_no_rows():
    room = Room()

    async with room.running():
        await room.clock.sleep(900)
    assert room.handed_out == []
    assert room.journal.written == []


# --- promises -------------------------------------------------------------------------------------


def break_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_values: object) -> tuple[BrokenPromise, ...]:
        return (BrokenPromise(PromiseName.COOLDOWN, "two steps at once"),)

    monkeypatch.setattr(control_loop, "broken_promises", broken)


@virtually
async def test_a_broken_promise_refuses_the_plan_and_demotes_for_good(monkeypatch):
    room = Room()
    room.fall_sick()

    async with room.running():
        await room.clock.sleep(30)
        break_promises(monkeypatch)
        await room.clock.sleep(300)
        assert room.snapshot.plan.steps == ()
        assert room.demotion.reason == "4-cooldown: two steps at once"
        monkeypatch.undo()
        await room.clock.sleep(10)
    assert [step.mode for step, _ in room.handed_out] == [Mode.ADVISE]
    (demoted,) = room.journal.of(EntryKind.DEMOTED)
    assert demoted.evidence == ("4-cooldown: two steps at once",)
    assert room.snapshot.fleet.demotion is not None


# --- the journal ----------------------------------------------------------------------------------


@virtually
async def test_a_journal_in_trouble_stops_acting_and_not_watching():
    room = Room()

    async with room.running():
        await room.clock.sleep(10)
        room.journal.trouble = "the disk is full"
        target = room.fall_sick()
        await room.clock.sleep(300)
        assert room.handed_out == []
        assert Guard.JOURNAL_DOWN in guards_of(room)
        assert room.snapshot.health[target.id].state is HealthState.UNHEALTHY
        assert room.snapshot.fleet.journal_trouble == "the disk is full"
        room.journal.trouble = ""
        await room.clock.sleep(5)
        assert len(room.handed_out) == 1
        assert room.snapshot.fleet.journal_trouble == ""
    assert len(room.told("journal cannot be written")) == 1
    assert len(room.told("journal can be written again")) == 1
    assert room.journal.count(EntryKind.EPISODE_OPENED) == 1  # it waited for the journal


@virtually
async def test_nothing_is_handed_out_in_the_very_round_in_which_the_journal_fails():
    room = Room()
    room.fall_sick()
    room.journal.fail_on = frozenset({EntryKind.EPISODE_OPENED})
    room.journal.trouble = "read-only file system"

    async with room.running():
        await room.clock.sleep(300)
    assert room.handed_out == []


@virtually
async def test_what_the_lines_of_a_log_did_is_saved_before_it_is_published():
    room = Room()
    line = Sighting(
        event=EventClass.OOM,
        severity=Severity.ERROR,
        pattern="oom",
        text="a line",
        line_start=a_position(1077),
        seen_at=room.clock.now(),
    )
    published: list[Snapshot] = []

    class Watchful(Bulletin):
        def publish(self, snapshot: Snapshot) -> None:
            published.append(snapshot)
            saved = room.journal._logs.get(VM, LogMemory()).counts
            assert snapshot.fleet.targets[VM].log.counts == saved

    room.loop._bulletin = Watchful()
    async with room.running():
        await room.clock.sleep(7)
        room.inbox.put(
            Sighted(target_id=VM, sightings=(line,), position=a_position(1099), at=room.clock.now())
        )
        await room.clock.sleep(3)
    assert published[-1].fleet.targets[VM].log.counts == {EventClass.OOM: 1}


@virtually
async def test_after_a_restart_a_log_goes_on_with_what_its_lines_did():
    kept = LogMemory(read_to=a_position(500), counts={EventClass.OOM: 3}, gaps=1, gap_bytes=10)
    room = Room(remembered=Remembered(logs={VM: kept}))
    async with room.running(is_telling=False):
        room.inbox.put(TargetsListed(an_inventory(*room.targets, at=room.clock.now())))
        await room.clock.sleep(2)
    assert room.snapshot.fleet.targets[VM].log == kept


@virtually
async def test_lines_told_before_the_clock_went_back_are_not_lost():
    room = Room()
    async with room.running():
        await room.clock.sleep(2)
        later = room.clock.now() + timedelta(hours=1)
        told = Sighted(target_id=VM, sightings=(), position=a_position(1900), at=later)
        room.inbox.put(told)
        await room.clock.sleep(2)
    log = room.snapshot.fleet.targets[VM].log
    assert log.read_to == a_position(1900)
    assert log.told_at is not None
    assert log.told_at < later


# --- pause ----------------------------------------------------------------------------------------


@virtually
async def test_a_pause_is_noted_once_and_stops_every_step():
    room = Room()
    room.fall_sick()
    room.pause.pause = Pause(reason="maintenance", by="olga", at=None)

    async with room.running():
        await room.clock.sleep(300)
        assert room.handed_out == []
        assert guards_of(room) == {Guard.PAUSED}
        assert room.snapshot.fleet.pause_reason == "maintenance (by olga)"
        assert "(paused)" in room.fed[-1]
        room.pause.pause = None
        await room.clock.sleep(5)
        assert len(room.handed_out) == 1
    assert [entry.text for entry in room.journal.of(EntryKind.PAUSED)] == [
        "Paused: maintenance (by olga)"
    ]
    assert room.journal.count(EntryKind.RESUMED) == 1
    assert (len(room.told("paused")), len(room.told("resumed"))) == (1, 1)


@virtually
async def test_another_reason_for_the_pause_is_noted_anew():
    room = Room()

    async with room.running():
        for reason in ("maintenance", "maintenance", "an upgrade"):
            room.pause.pause = Pause(reason=reason, by="olga", at=None)
            await room.clock.sleep(10)
    assert room.journal.count(EntryKind.PAUSED) == 2


# --- coming and going -----------------------------------------------------------------------------


@virtually
async def test_a_vm_that_vanishes_and_comes_back_keeps_its_cooldown():
    room = Room()
    target = room.fall_sick()

    async with room.running():
        await room.until(lambda: bool(room.handed_out))
        step, intent_id = room.handed_out[0]
        at = room.clock.now()
        room.inbox.put(
            StepFinished(
                target_id=VM,
                intent_id=intent_id,
                action=step.action,
                outcome=Outcome(OutcomeKind.UNKNOWN, "it may have been sent"),
                at=at,
            )
        )
        await room.clock.sleep(2)
        room.targets.remove(target)
        await room.clock.sleep(10)
        assert VM not in room.snapshot.fleet.targets
        assert VM not in room.snapshot.health
        assert VM not in room.snapshot.diagnoses
        room.targets.append(target)
        await room.until(lambda: len(room.handed_out) > 1, 3600)
        cooldown = room.loop.policy.rules[0].ladder[0].cooldown
        assert room.clock.now() - at >= cooldown
    closed = room.journal.of(EntryKind.EPISODE_CLOSED)
    assert [entry.text for entry in closed] == ["the VM is gone"]


@virtually
async def test_what_the_journal_remembers_counts_when_the_vm_is_first_listed():
    first = Room()
    first.fall_sick()
    async with first.running():
        await first.until(lambda: bool(first.handed_out))
    step, intent_id = first.handed_out[0]
    opened = first.journal.of(EntryKind.EPISODE_OPENED)[0]
    now, action = first.clock.now(), step.action
    intent = replace(opened, kind=EntryKind.INTENT, at=now, intent_id=intent_id, action=action)
    outcome = Outcome(OutcomeKind.FAILED, "no proof")
    for row in (
        intent,
        replace(intent, kind=EntryKind.BEGUN),
        replace(intent, kind=EntryKind.OUTCOME, outcome=outcome),
    ):
        await first.journal.append(row)
    second = Room(remembered=replay(first.journal.stored, a_policy()))
    second.fall_sick()

    async with second.running():
        await second.clock.sleep(240)
        assert second.handed_out == []
        assert guards_of(second) == {Guard.COOLING_DOWN}


@virtually
async def test_a_person_is_called_once_per_episode():
    room = Room(policy=a_policy(replace(a_policy().rules[0], ladder=())))
    room.fall_sick()

    async with room.running():
        await room.clock.sleep(900)
    assert room.journal.count(EntryKind.ESCALATED) == 1
    assert len(room.told("a person is needed")) == 1
    assert room.snapshot.totals.escalations == {"AgentDown": 1}


@virtually
async def test_an_event_about_a_vm_that_is_not_listed_changes_nothing():
    room = Room()

    async with room.running():
        room.inbox.put(
            Observed(
                target_id=TargetId("nobody"),
                source=Source.SSH,
                observations=(),
                observed_at=room.clock.now(),
            )
        )
        await room.clock.sleep(5)
    assert set(room.snapshot.fleet.targets) == {target.id for target in room.targets}


@virtually
async def test_a_thousand_vms_cost_one_view_a_round():
    room = Room(*(a_target(f"v-{number}-VM") for number in range(1000)))

    async with room.running():
        await room.clock.sleep(8)
    assert len(room.snapshot.health) == 1000
    assert {health.state for health in room.snapshot.health.values()} == {HealthState.HEALTHY}


# --- clocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [-1, 1, -24 * 7, 24 * 365])
@virtually
async def test_after_a_jump_of_the_clock_it_sees_again_within_a_minute(hours):
    room = Room()
    async with room.running():
        await room.clock.sleep(20)
        assert state_of(room) == "healthy"
        room.clock.set_by = timedelta(hours=hours)
        await room.until(lambda: room.told("the clock has jumped") != [], 10)
        await room.clock.sleep(1.5)
        await room.until(lambda: state_of(room) == "healthy", 60)
        listed_at = room.snapshot.fleet.inventory_at
        assert listed_at is not None
        assert abs(room.clock.now() - listed_at) < timedelta(minutes=1)
        room.fall_sick()
        await room.until(lambda: state_of(room) == "unhealthy", 60)


@virtually
async def test_answers_that_small_steps_of_the_clock_leave_in_the_future_do_not_count():
    room = Room()
    async with room.running(is_telling=False):
        room.tell()
        await room.clock.sleep(2)
        assert state_of(room) == "healthy"
        for _ in range(4):
            room.clock.set_by -= timedelta(seconds=4.5)
            await room.clock.sleep(1.5)
        assert room.told("the clock has jumped") == []
        assert state_of(room) == "unknown"
        await room.until(lambda: state_of(room) == "healthy", 30)


@virtually
async def test_a_jump_of_the_clock_makes_no_young_sickness_old():
    room = Room(policy=a_policy(a_rule(stands_for=timedelta(minutes=30))))
    async with room.running():
        room.fall_sick()
        await room.clock.sleep(60)
        assert guards_of(room) == {Guard.NOT_LONG_ENOUGH}
        room.clock.set_by = timedelta(hours=2)
        await room.clock.sleep(12 * 60)
        assert room.handed_out == []
        assert guards_of(room) == {Guard.NOT_LONG_ENOUGH}


@virtually
async def test_news_from_before_the_clock_went_back_does_not_outshine_what_comes_later():
    room = Room()
    async with room.running():
        await room.clock.sleep(20)
        assert state_of(room) == "healthy"
        room.clock.set_by = -timedelta(hours=1)
        future = room.clock.now() + timedelta(hours=1)
        room.inbox.put(TargetsListed(an_inventory(*room.targets, at=future)))
        room.inbox.put(observed((ProbeName.AGENT_UNIT, Passed("old")), at=future))
        await room.clock.sleep(60)
        assert state_of(room) == "healthy"
        assert room.snapshot.fleet.targets[VM].listed_at <= room.clock.now()
        assert room.snapshot.fleet.targets[VM].probes[ProbeName.AGENT_UNIT].verdict == Passed(
            "active"
        )
