"""One event, one target: what is remembered, and what changes nothing."""

from dataclasses import replace
from typing import Any

import pytest

from stackward.core.reduce import fold_zone_actions, hand_out, reduce
from stackward.core.state import ATTEMPTS_KEPT, SIGHTINGS_KEPT, Attempt, LogMemory, TargetState
from stackward.errors import Leg
from stackward.model.event import Observed, PathTold, Sighted, StepBegun, StepFinished, StepStarted
from stackward.model.guest import GuestMarks, GuestReadings
from stackward.model.identity import IntentId, TargetId
from stackward.model.outcome import Outcome, OutcomeKind
from stackward.model.plan import ActionName
from stackward.model.sighting import EventClass, Severity, Sighting
from stackward.model.verdict import Failed, Passed, ProbeName, Sign, Unknown, Verdict
from tests.builders import (
    MARKS,
    NOW,
    VM,
    ZONE,
    a_position,
    a_state,
    an_episode,
    minutes,
    observed,
    seconds,
)

UNIT = ProbeName.AGENT_UNIT
DEAD = Failed(Sign.UNIT_FAILED, "failed")
GONE = Failed(Sign.UNIT_EXITED, "exited")
SILENT = Unknown("no answer")


def _answers(*verdicts: Verdict) -> TargetState:
    """A target that has answered once a second, the last time now."""
    state = a_state(probes={})
    for number, verdict in enumerate(verdicts):
        at = NOW + seconds(number - len(verdicts) + 1)
        state = reduce(state, observed((UNIT, verdict), at=at))
    return state


def test_failed_answers_are_counted_in_a_row_and_unknown_is_left_aside():
    memory = _answers(Passed(), DEAD, SILENT, DEAD).probes[UNIT]
    assert (memory.failed_in_a_row, memory.passed_in_a_row) == (2, 0)


def test_a_passed_answer_ends_the_failed_ones():
    memory = _answers(DEAD, DEAD, Passed(), SILENT, Passed()).probes[UNIT]
    assert (memory.failed_in_a_row, memory.passed_in_a_row) == (0, 2)


@pytest.mark.parametrize(
    ("verdicts", "age"),
    [
        ((Passed(), Passed(), Passed()), 2),
        ((Passed(), DEAD, DEAD), 1),
        ((DEAD, DEAD, GONE), 0),
        ((DEAD, SILENT, DEAD), 0),
        ((SILENT, Unknown("another reason")), 1),
    ],
)
def test_since_is_when_this_kind_of_verdict_began(verdicts: tuple[Verdict, ...], age: int):
    assert NOW - _answers(*verdicts).probes[UNIT].since == seconds(age)


def test_the_last_known_verdict_survives_silence():
    memory = _answers(Passed(), DEAD, SILENT, SILENT).probes[UNIT]
    assert memory.verdict == SILENT
    assert memory.last_known is not None
    assert memory.last_known.verdict == DEAD
    assert NOW - memory.last_known.observed_at == seconds(2)


def test_an_older_or_repeated_observation_changes_nothing():
    state = _answers(DEAD, DEAD)
    for at in (NOW, NOW - seconds(30)):
        assert reduce(state, observed((UNIT, Passed()), at=at)).probes == state.probes


def test_an_event_about_another_target_changes_nothing():
    state = a_state()
    other = TargetId("another")
    events = (
        observed((UNIT, DEAD), target_id=other),
        PathTold(target_id=other, leg=Leg.INNER_TCP, detail="", at=NOW),
        StepBegun(target_id=other, intent_id=IntentId("i"), at=NOW),
    )
    assert all(reduce(state, event) is state for event in events)


def test_an_answer_without_marks_keeps_the_old_ones():
    state = reduce(a_state(), observed((UNIT, Passed())))
    assert state.marks == MARKS
    assert state.marks_at == NOW - seconds(5)


def test_a_mark_not_seen_stays_until_the_next_boot():
    state = reduce(a_state(), observed(marks=GuestMarks(boot_id="boot-1"), at=NOW))
    assert state.marks == GuestMarks(boot_id="boot-1", invocation_id="invocation-1")
    booted = reduce(state, observed(marks=GuestMarks(boot_id="boot-2"), at=NOW + seconds(1)))
    assert booted.marks == GuestMarks(boot_id="boot-2")
    assert booted.booted_at is None


def test_late_marks_change_nothing():
    late = observed(marks=GuestMarks(boot_id="boot-0"), at=NOW - minutes(1))
    assert reduce(a_state(), late).marks == MARKS


def test_readings_not_seen_this_time_stay():
    first = observed(readings=GuestReadings(disk_used_ratio=0.4, load_1m=1.0), at=NOW)
    second = observed(readings=GuestReadings(load_1m=2.0, uptime_seconds=60), at=NOW + seconds(1))
    state = reduce(reduce(a_state(), first), second)
    assert (state.readings.disk_used_ratio, state.readings.load_1m) == (0.4, 2.0)
    assert state.booted_at == NOW + seconds(1) - minutes(1)


def _path(state: TargetState, leg: Leg | None, age: int) -> TargetState:
    return reduce(state, PathTold(target_id=VM, leg=leg, detail="", at=NOW - seconds(age)))


def test_a_broken_path_counts_its_attempts_whatever_leg_broke():
    state = a_state(path=None)
    for age, leg in ((3, None), (2, Leg.JUMP_TCP), (1, Leg.CHANNEL)):
        state = _path(state, leg, age)
    assert state.path is not None
    assert (state.path.failed_in_a_row, NOW - state.path.since) == (2, seconds(2))
    assert _path(state, Leg.CHANNEL, 1) is state
    opened = _path(state, None, 0).path
    assert opened is not None
    assert (opened.failed_in_a_row, opened.since) == (0, NOW)


def _seen(event: EventClass, offset: int, generation: int = 1) -> Sighting:
    return Sighting(
        event=event,
        severity=Severity.INFO,
        pattern="p",
        text="a line",
        line_start=a_position(offset, generation),
        seen_at=NOW,
    )


def _read(
    log: LogMemory, *sightings: Sighting, end: int, generation: int = 1, gap: int | None = 0
) -> LogMemory:
    told = Sighted(
        target_id=VM,
        sightings=sightings,
        position=a_position(end, generation),
        at=NOW + seconds(end),
        gap_bytes_min=gap,
    )
    return reduce(a_state(log=log), told).log


def test_sightings_are_counted_and_the_newest_ready_line_is_remembered():
    log = _read(
        LogMemory(),
        _seen(EventClass.AGENT_READY, 10),
        _seen(EventClass.TLS_FAILURE, 20),
        _seen(EventClass.AGENT_READY, 30),
        end=40,
    )
    assert log.counts == {EventClass.AGENT_READY: 2, EventClass.TLS_FAILURE: 1}
    assert log.ready_position == a_position(30)
    assert log.position == a_position(40)


def test_a_line_read_twice_counts_once():
    first = _read(LogMemory(), _seen(EventClass.OOM, 10), end=40)
    again = _read(first, _seen(EventClass.OOM, 10), _seen(EventClass.OOM, 50), end=60)
    assert again.counts == {EventClass.OOM: 2}


def test_a_line_at_the_same_place_of_another_file_is_news():
    first = _read(LogMemory(), _seen(EventClass.OOM, 10), end=40)
    rotated = _read(first, _seen(EventClass.OOM, 10, generation=2), end=41, generation=2)
    assert rotated.counts == {EventClass.OOM: 2}


def test_a_log_no_longer_followed_keeps_what_was_seen():
    log = _read(LogMemory(), _seen(EventClass.AGENT_READY, 10), end=40)
    lost = Sighted(target_id=VM, sightings=(), position=None, at=NOW + minutes(9))
    after = reduce(a_state(log=log), lost).log
    assert after.position is None
    assert after.ready_position == a_position(10)


def test_gaps_are_counted_once():
    log = _read(_read(LogMemory(), end=10), end=500, gap=400)
    assert _read(log, end=500, gap=400) == log
    unknown_gap = _read(log, end=600, gap=None)
    assert (unknown_gap.gaps, unknown_gap.gap_bytes) == (2, 400)


def test_a_late_stretch_of_the_log_changes_nothing():
    log = _read(LogMemory(), _seen(EventClass.OOM, 10), end=40)
    assert _read(log, _seen(EventClass.OOM, 20), end=30) == log


def test_a_clock_that_goes_back_costs_no_line():
    log = _read(LogMemory(), _seen(EventClass.OOM, 10), end=40)
    told = Sighted(
        target_id=VM,
        sightings=(_seen(EventClass.OOM, 50),),
        position=a_position(60),
        at=NOW - minutes(1),
        gap_bytes_min=5,
        counted={EventClass.TLS_FAILURE: 7},
    )
    after = reduce(a_state(log=log), told).log
    assert after.counts == {EventClass.OOM: 2, EventClass.TLS_FAILURE: 7}
    assert (after.gaps, after.read_to, after.told_at) == (1, a_position(60), log.told_at)
    assert reduce(a_state(log=after), told).log == after


def test_what_was_read_before_the_link_was_cut_does_not_count_again():
    log = _read(LogMemory(), _seen(EventClass.OOM, 10), end=40)
    cut = Sighted(target_id=VM, sightings=(), position=None, at=NOW + minutes(9))
    log = reduce(a_state(log=log), cut).log
    again = _read(log, _seen(EventClass.OOM, 10), _seen(EventClass.OOM, 50), end=60)
    assert again.counts == {EventClass.OOM: 2}


def test_the_ring_of_sightings_is_bounded():
    log = LogMemory()
    for number in range(3 * SIGHTINGS_KEPT):
        log = _read(log, _seen(EventClass.OOM, 10 * number), end=10 * number + 5)
    assert len(log.recent) == SIGHTINGS_KEPT
    assert log.counts[EventClass.OOM] == 3 * SIGHTINGS_KEPT


INTENT = IntentId("intent-1")
STARTED = StepStarted(
    target_id=VM,
    intent_id=INTENT,
    action=ActionName.RESTART_AGENT,
    episode_id="episode-1",
    at=NOW,
)
BEGUN = StepBegun(target_id=VM, intent_id=INTENT, at=NOW + seconds(1))


def _finished(kind: OutcomeKind) -> StepFinished:
    return StepFinished(
        target_id=VM,
        intent_id=INTENT,
        action=ActionName.RESTART_AGENT,
        outcome=Outcome(kind, ""),
        at=NOW + seconds(2),
    )


def _through(*events: StepStarted | StepBegun | StepFinished) -> TargetState:
    state = a_state(episode=an_episode())
    for event in events:
        state = reduce(state, event)
    return state


@pytest.mark.parametrize("kind", list(OutcomeKind))
def test_a_step_that_began_is_an_attempt_and_cools_down(kind: OutcomeKind):
    state = _through(STARTED, BEGUN, _finished(kind))
    assert state.episode is not None
    attempt = Attempt(
        action=ActionName.RESTART_AGENT, intent_id=INTENT, at=NOW + seconds(1), outcome=kind
    )
    assert state.episode.attempts == (attempt,)
    assert (state.in_flight, state.last_action) == (None, ActionName.RESTART_AGENT)
    assert state.last_action_at == NOW + seconds(1)


def test_a_step_withdrawn_before_it_began_leaves_no_attempt_and_no_cooldown():
    state = _through(STARTED, _finished(OutcomeKind.WITHDRAWN))
    assert state.episode == an_episode()
    assert (state.in_flight, state.last_action_at) == (None, None)
    assert state.withdrawn_at == NOW + seconds(2)


def test_an_outcome_whose_beginning_was_lost_still_counts():
    state = _through(STARTED, _finished(OutcomeKind.UNKNOWN))
    assert state.episode is not None
    assert [one.outcome for one in state.episode.attempts] == [OutcomeKind.UNKNOWN]
    assert state.last_action_at == NOW + seconds(2)


@pytest.mark.parametrize("late", [STARTED, BEGUN, _finished(OutcomeKind.FAILED)])
def test_late_and_repeated_step_events_change_nothing(late: StepStarted | StepBegun | StepFinished):
    for kind in OutcomeKind:
        done = _through(STARTED, BEGUN, _finished(kind))
        assert reduce(done, late) == done
        never_begun = _through(STARTED, _finished(kind))
        assert reduce(never_begun, late) == never_begun


def test_a_step_handed_out_is_in_flight_until_its_outcome():
    handed = hand_out(a_state(episode=an_episode()), ActionName.RESTART_AGENT, INTENT)
    assert (handed.in_flight, handed.in_flight_action) == (INTENT, ActionName.RESTART_AGENT)
    assert reduce(handed, STARTED) == handed
    assert reduce(handed, _finished(OutcomeKind.WITHDRAWN)).in_flight is None


def test_one_slow_answer_sent_with_every_block_counts_once():
    state = a_state(probes={})
    for jitter in (0.0, 0.4, -0.2, 0.9, 0.3):
        state = reduce(state, observed((UNIT, DEAD), at=NOW + seconds(jitter)))
    assert state.probes[UNIT].failed_in_a_row == 1
    assert state.probes[UNIT].observed_at == NOW
    # Another verdict so soon after is news all the same.
    state = reduce(state, observed((UNIT, Passed()), at=NOW + seconds(0.5)))
    assert state.probes[UNIT].passed_in_a_row == 1


def test_the_outcome_of_another_step_does_not_end_the_one_in_flight():
    state = _through(STARTED, BEGUN)._replace(in_flight=IntentId("intent-2"))
    assert reduce(state, _finished(OutcomeKind.FAILED)).in_flight == IntentId("intent-2")


def test_attempts_are_bounded():
    state = a_state(episode=an_episode())
    for number in range(2 * ATTEMPTS_KEPT):
        intent = IntentId(f"intent-{number}")
        for event in (STARTED, BEGUN, _finished(OutcomeKind.FAILED)):
            state = reduce(state, replace(event, intent_id=intent))
    assert state.episode is not None
    assert len(state.episode.attempts) == ATTEMPTS_KEPT


def test_zone_actions_leave_with_the_window():
    hour = minutes(60)
    begun = fold_zone_actions({}, ZONE.id, NOW - minutes(61), hour)
    begun = fold_zone_actions(begun, ZONE.id, NOW - minutes(59), hour)
    begun = fold_zone_actions(begun, ZONE.id, NOW, hour)
    assert begun[ZONE.id] == (NOW - minutes(59), NOW)


def test_an_observation_that_names_another_target_is_left_aside():
    stray = observed((UNIT, DEAD), target_id=TargetId("another"))
    mixed = Observed(
        target_id=VM, source=stray.source, observations=stray.observations, observed_at=NOW
    )
    assert UNIT not in reduce(_answers(), mixed).probes


def test_an_answer_from_inside_opens_the_way_and_leaves_the_rest_as_it_was():
    broken = PathTold(target_id=VM, leg=Leg.INNER_TCP, detail="refused", at=NOW - seconds(9))
    state = reduce(a_state(probes={}, path=None), broken)
    # Something recognizable in every field that an answer has nothing to do with.
    renewed = {"probes", "path", "marks", "marks_at", "booted_at", "readings", "round_trip"}
    names = [name for name in TargetState._fields if name not in renewed]
    kept: dict[str, Any] = {name: object() for name in names}
    kept["target"] = state.target
    state = state._replace(**kept)
    answer = observed(
        (UNIT, Passed()), marks=MARKS, readings=GuestReadings(load_1m=1.0), round_trip=seconds(1)
    )
    after = reduce(state, answer)
    assert {name: getattr(after, name) for name in kept} == kept
    assert after.path is not None
    assert (after.path.leg, after.path.since) == (None, NOW)
    later = answer._replace(observed_at=NOW + seconds(9))
    reopened = reduce(after, later).path
    assert reopened is not None
    assert (reopened.since, reopened.told_at) == (NOW, NOW + seconds(9))
