"""How far behind a log is read, and whether it is silent against its own habit.

A healthy agent has nothing to say for hours: at the level that system VMs log, its pings do not
show. So silence alone means nothing. It is worth a word where a log that has spoken again and
again, at least once an hour, says nothing for several times its longest pause, while it is
followed, is not behind, and the agent's JVM is seen alive. Even then it is a sign for people: it
makes nothing sick and justifies no step.
"""

from datetime import datetime, timedelta

from stackward.core.evidence import is_stale
from stackward.core.policy import Thresholds
from stackward.core.state import LogMemory, TargetState
from stackward.core.timeline import as_span, moment
from stackward.model.event import Sighted
from stackward.model.log_flow import LogFlow, LogHabit
from stackward.model.verdict import Passed, ProbeName

# What comes within this is one burst: its pauses are no habit.
BURST = timedelta(seconds=8)
PLACES = 14  # the last one is for all that is longer than 18 h
# A habit is known after so many pauses; after so many, half of them are forgotten.
PAUSES_MIN = 12
PAUSES_MAX = 512
USUAL_MAX = timedelta(seconds=8 * 2**9)  # a good hour: who pauses longer has no habit
SILENT_AFTER_PAUSES = 4
SILENT_AFTER_MIN = timedelta(minutes=10)


def learn(habit: LogHabit, event: Sighted) -> LogHabit:
    """The habit after one stretch of the log was told."""
    if event.position is None:
        return LogHabit(pauses=habit.pauses) if habit.spoke_at is not None else habit
    spoke_at = event.flow.last_line_at if event.flow is not None else None
    if spoke_at is None or spoke_at == habit.spoke_at:
        return habit
    before = habit.spoke_at
    if before is None or spoke_at - before < BURST:
        return LogHabit(pauses=habit.pauses, spoke_at=spoke_at)
    return LogHabit(pauses=_with(habit.pauses, spoke_at - before), spoke_at=spoke_at)


def _with(pauses: tuple[int, ...], pause: timedelta) -> tuple[int, ...]:
    place = min((pause // BURST).bit_length() - 1, PLACES - 1)
    counts = list(pauses) or [0] * PLACES
    counts[place] += 1
    if sum(counts) > PAUSES_MAX:
        counts = [count // 2 for count in counts]
    return tuple(counts)


def usual_pause(habit: LogHabit) -> timedelta | None:
    """No pause that is remembered was longer. None: it has no habit, or none that is known."""
    if sum(habit.pauses) < PAUSES_MIN:
        return None
    longest = max(place for place, count in enumerate(habit.pauses) if count)
    usual = BURST * 2 ** (longest + 1)
    return usual if usual <= USUAL_MAX else None


def silent_from(log: LogMemory) -> datetime | None:
    """From when on its silence is worth a word, if nothing comes; None: never."""
    usual, spoke_at = usual_pause(log.habit), log.habit.spoke_at
    if log.position is None or log.flow.behind_bytes or usual is None or spoke_at is None:
        return None
    return spoke_at + max(SILENT_AFTER_PAUSES * usual, SILENT_AFTER_MIN)


def is_silent(state: TargetState, thresholds: Thresholds, now: datetime) -> bool | None:
    """Is a log silent that should speak? None: nobody can tell."""
    begins_at = silent_from(state.log)
    if begins_at is None:
        return None
    process = state.probes.get(ProbeName.AGENT_PROCESS)
    if process is None or not isinstance(process.verdict, Passed):
        return None
    if is_stale(ProbeName.AGENT_PROCESS, process.observed_at, thresholds, now):
        return None
    return now >= begins_at


def lag(state: TargetState, now: datetime) -> timedelta | None:
    """How far behind the reading of a VM's log is in time, as `lag_of` tells."""
    return lag_of(state.log.flow, as_span(state.readings.clock_offset_seconds), now)


def lag_of(flow: LogFlow, clock_offset: timedelta | None, now: datetime) -> timedelta | None:
    """How old, by our clock, the newest line read is while more waits behind it.

    Nothing, while the log is read to its end. None: no line has said.
    """
    if flow.behind_bytes == 0:
        return timedelta(0)
    if flow.newest_logged_at is None:
        return None
    return now - moment(flow.newest_logged_at, now, clock_offset)


def silence_told(state: TargetState, thresholds: Thresholds, now: datetime) -> str:
    """What a person should know of it; "": nothing."""
    if not is_silent(state, thresholds, now):
        return ""
    usual, spoke_at = usual_pause(state.log.habit), state.log.habit.spoke_at
    assert usual is not None
    assert spoke_at is not None
    return (
        f"The log has said nothing since {spoke_at:%H:%M:%S} UTC, and never paused longer than "
        f"{usual.total_seconds() / 60:.1f} minutes of late; the agent's JVM is alive. "
        "That alone is no sickness."
    )
