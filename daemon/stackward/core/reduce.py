"""Folds one event into one target's memory, or one listing into the map of targets.

It decides nothing. It is total: what is late, repeated or about another target changes nothing,
and what comes in an order that should not be still ends in a memory that makes sense.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from stackward.core.log_pace import learn
from stackward.core.state import (
    ATTEMPTS_KEPT,
    SIGHTINGS_KEPT,
    Attempt,
    Episode,
    LogMemory,
    PathMemory,
    ProbeMemory,
    TargetState,
)
from stackward.core.timeline import keep, own_lines
from stackward.model.correlation import Timeline
from stackward.model.event import (
    ManagementSaid,
    Observed,
    PathTold,
    Sighted,
    StepBegun,
    StepFinished,
    StepStarted,
    TargetEvent,
)
from stackward.model.guest import GuestMarks, GuestReadings, LogPosition
from stackward.model.identity import IntentId, ZoneId
from stackward.model.outcome import OutcomeKind
from stackward.model.plan import ActionName
from stackward.model.sighting import EventClass, Sighting
from stackward.model.verdict import Failed, Observation, Passed, ProbeName, Verdict

ZONE_ACTIONS_KEPT = 64

# A slow fact comes with every answer, dated back by its age, until it is asked anew. The dates of
# one and the same answer differ by the jitter of the way; it must not count three times.
REPEAT_WITHIN = timedelta(seconds=1)
_NOTHING = timedelta(0)


def reduce(state: TargetState, event: TargetEvent) -> TargetState:
    """The memory of a target after one event."""
    if event.target_id != state.target.id:
        return state
    match event:
        case Observed():
            return _observed(state, event)
        case PathTold():
            return _path_told(state, event)
        case Sighted():
            return state._replace(log=_sighted(state.log, event), timeline=_own(state, event))
        case ManagementSaid():
            return state._replace(timeline=keep(state.timeline, event.lines))
        case StepStarted():
            return _step_started(state, event)
        case StepBegun():
            return _step_begun(state, event)
        case StepFinished():
            return _step_finished(state, event)


def says_it_again(state: TargetState, event: TargetEvent) -> bool:
    """True for an answer that is as good as the one before, by every probe, and opens no way.

    Whoever judged the target on the one before needs not do so again because of it.
    """
    if not isinstance(event, Observed) or (state.path is not None and state.path.leg is not None):
        return False
    for observation in event.observations:
        memory = state.probes.get(observation.probe)
        if memory is None or not isinstance(observation.verdict, Passed):
            return False
        if not isinstance(memory.verdict, Passed):
            return False
    return True


def hand_out(state: TargetState, action: ActionName, intent_id: IntentId) -> TargetState:
    """The memory of a target whose step was just given away, before any event tells of it."""
    return state._replace(in_flight=intent_id, in_flight_action=action)


def fold_zone_actions(
    actions: Mapping[ZoneId, tuple[datetime, ...]],
    zone_id: ZoneId,
    begun_at: datetime,
    window: timedelta,
) -> Mapping[ZoneId, tuple[datetime, ...]]:
    """The disruptive steps begun per zone after one more; what has left the window is dropped."""
    kept = tuple(at for at in actions.get(zone_id, ()) if at > begun_at - window)
    return {**actions, zone_id: (*kept, begun_at)[-ZONE_ACTIONS_KEPT:]}


def _observed(state: TargetState, event: Observed) -> TargetState:
    probes = dict(state.probes)
    for observation in event.observations:
        if observation.target_id == event.target_id:
            probes[observation.probe] = _remember(probes.get(observation.probe), observation)
    is_news = event.marks is not None or event.readings is not None
    if not is_news or _is_late(state.marks_at, event.observed_at):
        return state._replace(probes=probes)
    return _from_inside(state, probes, event)


def _remember(memory: ProbeMemory | None, observation: Observation) -> ProbeMemory:
    _, _, source, verdict, at = observation
    since, failed, passed, known = at, 0, 0, None
    if memory is not None:
        before, _, seen_at, since, failed, passed, known = memory
        newer_by = at - seen_at
        if newer_by <= _NOTHING:
            return memory
        is_same = before is verdict or _is_same_kind(before, verdict)
        if is_same and newer_by < REPEAT_WITHIN:
            return memory
        if not is_same:
            since = at
    if isinstance(verdict, Passed):
        failed, passed, known = 0, passed + 1, observation
    elif isinstance(verdict, Failed):
        failed, passed, known = failed + 1, 0, observation
    return ProbeMemory(verdict, source, at, since, failed, passed, known)


def _is_same_kind(one: Verdict, other: Verdict) -> bool:
    if isinstance(one, Failed) and isinstance(other, Failed):
        return one.sign is other.sign
    return type(one) is type(other)


def _is_late(told_at: datetime | None, at: datetime) -> bool:
    return told_at is not None and at <= told_at


def _from_inside(
    state: TargetState, probes: Mapping[ProbeName, ProbeMemory], event: Observed
) -> TargetState:
    marks, marks_at, readings = state.marks, state.marks_at, state.readings
    booted_at = state.booted_at
    if event.marks is not None:
        marks, marks_at = _renew_marks(marks, event.marks), event.observed_at
        if marks.boot_id != state.marks.boot_id:
            booted_at = None
    if event.readings is not None:
        readings = _renew_readings(readings, event.readings)
        if event.readings.uptime_seconds is not None:
            booted_at = event.observed_at - timedelta(seconds=event.readings.uptime_seconds)
    is_answered = event.round_trip is not None
    return state._replace(
        probes=probes,
        path=_opened(state.path, event.observed_at) if is_answered else state.path,
        marks=marks,
        marks_at=marks_at,
        readings=readings,
        booted_at=booted_at,
        round_trip=event.round_trip if is_answered else state.round_trip,
    )


def _renew_marks(old: GuestMarks, new: GuestMarks) -> GuestMarks:
    """A mark not seen this time stays, unless the machine has booted since; a pid never stays."""
    if new == old:
        return old
    if new.boot_id is not None and new.boot_id != old.boot_id:
        return new
    return GuestMarks(
        boot_id=old.boot_id,
        invocation_id=new.invocation_id or old.invocation_id,
        agent_pid=new.agent_pid,
    )


def _renew_readings(old: GuestReadings, new: GuestReadings) -> GuestReadings:
    """Slow facts are not in every answer: what was not seen this time stays."""
    if None not in new:
        return new
    return GuestReadings._make(
        before if value is None else value for value, before in zip(new, old, strict=True)
    )


def _path_told(state: TargetState, event: PathTold) -> TargetState:
    path = state.path
    if event.leg is None:
        return state._replace(path=_opened(path, event.at))
    if path is not None and event.at <= path.told_at:
        return state
    since = event.at if path is None or path.leg is None else path.since
    failed = 1 + (0 if path is None else path.failed_in_a_row)
    told = PathMemory(
        leg=event.leg, detail=event.detail, since=since, told_at=event.at, failed_in_a_row=failed
    )
    return state._replace(path=told)


def _opened(path: PathMemory | None, at: datetime) -> PathMemory:
    """Somebody came through: by an answer from inside, or by word of the way itself."""
    if path is not None and at <= path.told_at:
        return path
    since = path.since if path is not None and path.leg is None else at
    return PathMemory(None, "", since, at)


def _sighted(log: LogMemory, event: Sighted) -> LogMemory:
    """Places tell what is news, never times: a clock that goes back must not cost a line."""
    position, read_to = event.position, log.read_to
    is_ahead = position is not None and (read_to is None or _place(read_to) < _place(position))
    if is_ahead:
        read_to = position
    log_told_at = event.at if log.told_at is None else max(log.told_at, event.at)
    fresh = tuple(sighting for sighting in event.sightings if _is_news(log, sighting))
    ready = [sighting for sighting in fresh if sighting.event is EventClass.AGENT_READY]
    is_gap = is_ahead and event.gap_bytes_min != 0
    return LogMemory(
        position=read_to if position is not None else None,
        read_to=read_to,
        told_at=log_told_at,
        ready_position=ready[-1].line_start if ready else log.ready_position,
        ready_seen_at=ready[-1].seen_at if ready else log.ready_seen_at,
        recent=(*log.recent, *fresh)[-SIGHTINGS_KEPT:] if fresh else log.recent,
        counts=_counted(log.counts, fresh, event.counted if is_ahead else {}),
        gaps=log.gaps + (1 if is_gap else 0),
        gap_bytes=log.gap_bytes + (event.gap_bytes_min or 0 if is_gap else 0),
        flow=event.flow or log.flow,
        habit=learn(log.habit, event),
    )


def _counted(
    counts: Mapping[EventClass, int],
    fresh: tuple[Sighting, ...],
    in_bulk: Mapping[EventClass, int],
) -> Mapping[EventClass, int]:
    if not fresh and not in_bulk:
        return counts
    grown = dict(counts)
    for sighting in fresh:
        grown[sighting.event] = grown.get(sighting.event, 0) + 1
    for event, count in in_bulk.items():
        grown[event] = grown.get(event, 0) + count
    return grown


def _own(state: TargetState, event: Sighted) -> Timeline:
    """The VM's timeline with what is new in its own log."""
    fresh = tuple(sighting for sighting in event.sightings if _is_news(state.log, sighting))
    if not fresh:
        return state.timeline
    offset = state.readings.clock_offset_seconds
    return keep(state.timeline, own_lines(fresh, offset))


def _is_news(log: LogMemory, sighting: Sighting) -> bool:
    """False for a line already read: it lies before the place read up to, or is remembered."""
    if log.read_to is not None and _place(sighting.line_start) < _place(log.read_to):
        return False
    return all(_place(old.line_start) != _place(sighting.line_start) for old in log.recent)


def _place(position: LogPosition) -> tuple[int, int]:
    return (position.generation, position.offset)


def _step_started(state: TargetState, event: StepStarted) -> TargetState:
    if event.intent_id == state.last_finished or _is_attempted(state.episode, event.intent_id):
        return state
    return state._replace(in_flight=event.intent_id, in_flight_action=event.action)


def _step_begun(state: TargetState, event: StepBegun) -> TargetState:
    if event.intent_id == state.last_finished or _is_attempted(state.episode, event.intent_id):
        return state
    is_ours = state.in_flight == event.intent_id
    action = state.in_flight_action if is_ours else None
    episode = state.episode
    if episode is not None and action is not None:
        episode = _with_attempt(
            episode, Attempt(action=action, intent_id=event.intent_id, at=event.at)
        )
    return state._replace(
        episode=episode,
        in_flight=event.intent_id,
        in_flight_action=action,
        last_action=action or state.last_action,
        last_action_at=_latest(state.last_action_at, event.at),
    )


def _step_finished(state: TargetState, event: StepFinished) -> TargetState:
    if event.intent_id == state.last_finished:
        return state
    kind = event.outcome.kind
    episode = state.episode
    is_lost_begin = event.outcome.counts_as_done and not _is_attempted(episode, event.intent_id)
    if is_lost_begin:
        attempt = Attempt(action=event.action, intent_id=event.intent_id, at=event.at)
        episode = _with_attempt(episode, attempt) if episode is not None else None
    is_ours = state.in_flight in (None, event.intent_id)
    return state._replace(
        episode=_with_outcome(episode, event.intent_id, kind) if episode is not None else None,
        in_flight=None if is_ours else state.in_flight,
        in_flight_action=None if is_ours else state.in_flight_action,
        last_finished=event.intent_id,
        last_action=event.action if is_lost_begin else state.last_action,
        last_action_at=(
            _latest(state.last_action_at, event.at) if is_lost_begin else state.last_action_at
        ),
        withdrawn_at=event.at if kind is OutcomeKind.WITHDRAWN else state.withdrawn_at,
        advised_at=event.at if kind is OutcomeKind.WOULD_HAVE else state.advised_at,
    )


def _latest(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else max(one, other)


def _is_attempted(episode: Episode | None, intent_id: str) -> bool:
    return episode is not None and any(one.intent_id == intent_id for one in episode.attempts)


def _with_attempt(episode: Episode, attempt: Attempt) -> Episode:
    return replace(episode, attempts=(*episode.attempts, attempt)[-ATTEMPTS_KEPT:])


def _with_outcome(episode: Episode, intent_id: str, kind: OutcomeKind) -> Episode:
    attempts = tuple(
        replace(one, outcome=kind) if one.intent_id == intent_id else one
        for one in episode.attempts
    )
    return replace(episode, attempts=attempts)
