"""The habit of a log is learned in bounded memory, and its silence is told only against a habit."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackward.core.log_pace import (
    PAUSES_MAX,
    PAUSES_MIN,
    PLACES,
    SILENT_AFTER_MIN,
    is_silent,
    lag,
    learn,
    silence_told,
    silent_from,
    usual_pause,
)
from stackward.core.policy import Thresholds
from stackward.core.state import LogMemory
from stackward.model.event import Sighted
from stackward.model.log_flow import LogFlow, LogHabit
from stackward.model.verdict import ProbeName, Sign
from tests.builders import NOW, VM, a_position, a_state, minutes, probes_with, seconds

# A loaded machine is no reason to fail.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

PAUSES = st.lists(st.floats(0, 200_000), max_size=60)
HOUR = timedelta(hours=1)


def told(log, spoke_at, *, is_followed=True):
    flow = LogFlow(last_line_at=spoke_at)
    event = Sighted(
        target_id=VM,
        sightings=(),
        position=a_position() if is_followed else None,
        at=spoke_at,
        flow=flow,
    )
    return replace(log, position=event.position, flow=flow, habit=learn(log.habit, event))


def spoken(pauses, spoke_at=NOW - timedelta(days=30)):
    """A log that has spoken with these pauses between."""
    log = told(LogMemory(), spoke_at)
    for pause in pauses:
        spoke_at += seconds(pause)
        log = told(log, spoke_at)
    return log


def a_machine(log, **changes):
    return a_state()._replace(log=log, **changes)


@PATIENT
@given(PAUSES)
def test_what_is_learned_is_bounded_and_longer_than_any_pause_of_late(pauses):
    log = spoken(pauses)
    assert len(log.habit.pauses) in (0, PLACES)
    assert sum(log.habit.pauses) <= PAUSES_MAX
    usual = usual_pause(log.habit)
    if usual is not None:
        assert seconds(max(pauses)) <= usual
        assert len(pauses) >= PAUSES_MIN


@PATIENT
@given(PAUSES, st.floats(0, 400_000))
def test_a_log_is_silent_only_after_several_times_its_longest_pause(pauses, since):
    log = spoken(pauses)
    assert log.habit.spoke_at is not None
    state = a_machine(log, probes=probes_with(now=log.habit.spoke_at + seconds(since)))
    is_silent_now = is_silent(state, Thresholds(), log.habit.spoke_at + seconds(since))
    if is_silent_now:
        assert seconds(since) >= max(SILENT_AFTER_MIN, seconds(3 * max(pauses)))
        assert max(pauses) <= 2 * HOUR.total_seconds()
    if since <= 300:
        assert not is_silent_now


def test_a_log_that_speaks_every_half_minute_is_silent_after_ten_minutes():
    log = spoken([30] * 40, NOW - minutes(30) - seconds(30 * 40))
    state = a_machine(log)
    assert is_silent(state, Thresholds(), NOW) is True
    assert "since 11:30:00 UTC" in silence_told(state, Thresholds(), NOW)
    assert is_silent(a_machine(told(log, NOW)), Thresholds(), NOW) is False


def test_a_log_that_speaks_twice_a_day_is_never_silent():
    log = spoken([12 * 3600] * 40)
    assert silent_from(log) is None
    assert is_silent(a_machine(log), Thresholds(), NOW) is None


def test_bursts_are_no_habit():
    assert usual_pause(spoken([0.2] * 1000).habit) is None


def test_a_long_night_is_forgotten_after_many_short_pauses():
    log = spoken([30.0] * 20 + [40_000.0])
    assert usual_pause(log.habit) is None
    log = spoken([30.0] * 20 + [40_000.0] + [30.0] * 1200)
    assert usual_pause(log.habit) == seconds(32)


def test_nobody_can_tell_without_the_jvm_or_the_log():
    log = spoken([30] * 40)
    thresholds = Thresholds()
    assert is_silent(a_machine(log), thresholds, NOW) is True
    without_jvm = a_machine(log, probes=probes_with(Sign.JVM_MISSING))
    not_asked = a_machine(log, probes=probes_with(unknown=[ProbeName.AGENT_PROCESS]))
    long_ago = a_machine(log, probes=probes_with(age=HOUR))
    not_followed = a_machine(replace(log, position=None))
    behind = a_machine(replace(log, flow=log.flow._replace(behind_bytes=7)))
    for state in (without_jvm, not_asked, long_ago, not_followed, behind):
        assert is_silent(state, thresholds, NOW) is None
        assert silence_told(state, thresholds, NOW) == ""


def test_no_pause_is_learned_while_nobody_listened():
    log = spoken([30] * 40, NOW - HOUR)
    pauses = log.habit.pauses
    lost = told(log, NOW - minutes(30), is_followed=False)
    assert lost.habit == LogHabit(pauses=pauses)
    assert told(lost, NOW).habit == LogHabit(pauses=pauses, spoke_at=NOW)


def test_the_lag_is_the_age_of_the_newest_line_by_our_clock():
    flow = LogFlow(behind_bytes=100, newest_logged_at=NOW - seconds(30))
    state = a_machine(LogMemory(flow=flow))
    ahead = state.readings._replace(clock_offset_seconds=20.0)
    assert lag(state, NOW) == seconds(30)
    assert lag(state._replace(readings=ahead), NOW) == seconds(50)
    broken = state.readings._replace(clock_offset_seconds=float("inf"))
    assert lag(state._replace(readings=broken), NOW) == seconds(30)
    assert lag(a_machine(LogMemory(flow=flow._replace(behind_bytes=0))), NOW) == seconds(0)
    assert lag(a_machine(LogMemory(flow=LogFlow(behind_bytes=1))), NOW) is None
