"""Where the cause of an episode lies, by what two logs say together.

The management server's word and the VM's own are put on one time line, each moved by the measured
offset of its writer's clock. Each line gives the clue that the table in core/clues.py has for it;
of one request's lines only the first of the deepest counts, for the rest wraps it or follows from
it. The deepest clues decide, if they agree. If they do not, or are too thin, nothing is decided,
and it is said why. It only ever adds words: no step is chosen by it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from stackward.core.clues import DIAGNOSES, Clue, clue_of
from stackward.core.state import TargetState
from stackward.core.timeline import as_span, moment
from stackward.model.correlation import Correlation, Culprit, LogLine, ManagementLog, Origin
from stackward.model.diagnosis import DiagnosisCode
from stackward.model.entry import Entry, EntryKind
from stackward.model.sighting import EventClass

# A cause is older than the episode: a lost ping is noticed after minutes, and must be confirmed.
LEAD = timedelta(minutes=15)
OF_LATE = timedelta(hours=1)  # what is looked at while no episode is open
# A management server says something every few seconds; after so long it is silent.
SILENT_AFTER = timedelta(minutes=3)
STARTS_OF_A_LOOP = 3
EVIDENCE_MAX = 6
HINT, FAILURE = 1, 2

Logs = Mapping[str, ManagementLog]

WHERE: Mapping[Culprit, str] = {
    Culprit.NETWORK: "the network",
    Culprit.HYPERVISOR: "the hypervisor host",
    Culprit.MANAGEMENT: "the management server",
    Culprit.STORAGE: "the storage",
    Culprit.VM: "the VM itself",
    Culprit.UNDECIDED: "nobody can say where",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that is known of one VM's trouble.

    `clock_offset` is the VM's clock less ours, for lines that were read before it was measured.
    What was said after `acted_at`, our own first step, is its doing and no cause.
    """

    name: str
    lines: tuple[LogLine, ...]
    now: datetime
    logs: Logs = field(default_factory=dict)
    clock_offset: timedelta | None = None
    opened_at: datetime | None = None
    acted_at: datetime | None = None
    diagnosis: DiagnosisCode | None = None


@dataclass(frozen=True, slots=True)
class _Vote:
    clue: Clue
    line: LogLine | None  # None: found by asking

    @property
    def order(self) -> tuple[object, ...]:
        place = _order(self.line) if self.line is not None else ()
        return (self.line is None, place, self.clue.culprit.value, self.clue.means)


def correlate(state: TargetState, logs: Logs, now: datetime) -> Correlation | None:
    """What the logs say of this VM; None: nothing, or no episode is open and nothing of late."""
    episode = state.episode
    server_lines = (line for log in logs.values() for line in log.timeline.lines)
    scene = Scene(
        name=state.target.name,
        lines=(*state.timeline.lines, *server_lines),
        now=now,
        logs=logs,
        clock_offset=as_span(state.readings.clock_offset_seconds),
        opened_at=episode.opened_at if episode is not None else None,
        acted_at=episode.attempts[0].at if episode is not None and episode.attempts else None,
        diagnosis=episode.diagnosis if episode is not None else None,
    )
    if episode is None and not any(_is_of_late(line, now) for line in state.timeline.lines):
        return None
    found = decide(scene)
    is_empty = not logs and not found.timeline and found.culprit is Culprit.UNDECIDED
    return None if is_empty else found


def decide(scene: Scene) -> Correlation:
    """The outcome, with the time line that it rests on."""
    begin = (scene.opened_at or scene.now) - (LEAD if scene.opened_at else OF_LATE)
    stamped = (_stamped(line, scene.clock_offset) for line in scene.lines)
    timeline = tuple(sorted((line for line in stamped if line.at >= begin), key=_order))
    counted = _counted(timeline, scene)
    votes = [*_votes(counted), *_joint_votes(counted, scene), *_asked(scene)]
    culprit, sentence, evidence = _outcome(votes, counted, scene)
    return Correlation(
        culprit=culprit,
        sentence=sentence,
        evidence=tuple(evidence[:EVIDENCE_MAX]),
        notes=tuple(_notes(timeline, scene)),
        timeline=timeline,
    )


def with_outcome(
    entries: tuple[Entry, ...], state: TargetState, logs: Logs, now: datetime
) -> tuple[Entry, ...]:
    """The row that closes an episode, with what the logs say of its cause."""
    return tuple(
        _with_outcome(entry, state, logs, now) if entry.kind is EntryKind.EPISODE_CLOSED else entry
        for entry in entries
    )


def _with_outcome(entry: Entry, state: TargetState, logs: Logs, now: datetime) -> Entry:
    found = correlate(state, logs, now)
    if found is None or not found.evidence:
        return entry
    evidence = (*entry.evidence, *(spoken_line(line) for line in found.evidence))
    return replace(entry, text=f"{entry.text}. {found.sentence}", evidence=evidence)


def spoken_line(line: LogLine) -> str:
    """One line of the time line, for people."""
    who = line.log or "VM"
    times = f" ({line.times} times)" if line.times > 1 else ""
    return f"{line.at:%Y-%m-%d %H:%M:%S} {who}: {line.text}{times}"


# --- the time line --------------------------------------------------------------------------------


def _is_of_late(line: LogLine, now: datetime) -> bool:
    return line.at >= now - OF_LATE


def _order(line: LogLine) -> tuple[object, ...]:
    return (line.at, line.origin.value, line.log, line.text, line.event.value, line.job)


def _stamped(line: LogLine, clock_offset: timedelta | None) -> LogLine:
    """A line of the VM that was read before its clock was measured gets its place now."""
    if line.origin is not Origin.VM or line.clock_offset is not None or clock_offset is None:
        return line
    at = moment(line.logged_at, line.seen_at, clock_offset)
    return replace(line, at=at, clock_offset=clock_offset)


def _counted(timeline: tuple[LogLine, ...], scene: Scene) -> tuple[LogLine, ...]:
    """The lines that may tell of the cause: after the agent was last up, before our own step."""
    if scene.acted_at is not None:
        timeline = tuple(line for line in timeline if line.at < scene.acted_at)
    if scene.opened_at is None:
        return timeline
    ups = [
        line.last_at or line.at
        for line in timeline
        if line.event is EventClass.AGENT_READY and line.at < scene.opened_at
    ]
    return tuple(line for line in timeline if line.at > max(ups)) if ups else timeline


# --- what they say --------------------------------------------------------------------------------


def _votes(lines: Iterable[LogLine]) -> list[_Vote]:
    """One vote for each line, and one for all lines of a request: its first deepest failure."""
    free: list[_Vote] = []
    of_jobs: dict[tuple[str, str], _Vote] = {}
    for line in lines:
        clue = clue_of(line)
        if clue is None or clue.depth < HINT:
            continue
        vote = _Vote(clue, line)
        if not line.job:
            free.append(vote)
            continue
        best = of_jobs.setdefault((line.log, line.job), vote)
        if clue.depth > best.clue.depth:  # lines come in their order: of equals the first stays
            of_jobs[line.log, line.job] = vote
    return [*free, *of_jobs.values()]


def _joint_votes(lines: tuple[LogLine, ...], scene: Scene) -> list[_Vote]:
    """What no line says by itself."""
    votes = []
    lost = next((line for line in lines if _is_vague_loss(line)), None)
    if lost is not None:
        votes += _by_the_other_side(lost, scene)
    starts = [
        line
        for line in lines
        if line.event is EventClass.AGENT_STARTED and line.origin is Origin.VM
    ]
    often = next((line for line in starts if line.times >= STARTS_OF_A_LOOP), None)
    if often is not None:
        votes.append(_Vote(Clue(Culprit.VM, HINT, "the agent starts over and over"), often))
    return votes


def _is_vague_loss(line: LogLine) -> bool:
    """The VM makes no connection, and does not say what stops it."""
    if line.event is not EventClass.MS_UNREACHABLE or line.origin is not Origin.VM:
        return False
    clue = clue_of(line)
    return clue is not None and clue.depth < HINT


def _by_the_other_side(lost: LogLine, scene: Scene) -> list[_Vote]:
    """Does the management server live while the VM makes no connection?"""
    followed = [log for log in scene.logs.values() if log.is_followed and log.spoke_in]
    beyond = lost.at + timedelta(minutes=1)
    lively = next((log for log in followed if any(at >= beyond for at in log.spoke_in)), None)
    if lively is not None:
        means = f"the VM makes no connection while {lively.name} is up and speaks"
        return [_Vote(Clue(Culprit.NETWORK, FAILURE, means), lost)]
    if followed and scene.now - lost.at >= SILENT_AFTER:
        means = f"{followed[0].name} has fallen silent"
        return [_Vote(Clue(Culprit.MANAGEMENT, FAILURE, means), lost)]
    return []


def _asked(scene: Scene) -> list[_Vote]:
    clue = DIAGNOSES.get(scene.diagnosis) if scene.diagnosis is not None else None
    return [] if clue is None else [_Vote(clue, None)]


# --- the outcome ----------------------------------------------------------------------------------


def _outcome(
    votes: list[_Vote], lines: tuple[LogLine, ...], scene: Scene
) -> tuple[Culprit, str, list[LogLine]]:
    if not votes:
        return _nothing_said(lines, scene)
    deepest = max(vote.clue.depth for vote in votes)
    best = sorted(
        (vote for vote in votes if vote.clue.depth == deepest), key=lambda vote: vote.order
    )
    culprits = {vote.clue.culprit: vote for vote in reversed(best)}
    evidence = [vote.line for vote in best if vote.line is not None]
    if len(culprits) > 1:
        views = [
            f"{WHERE[culprit]} ({vote.clue.means})" for culprit, vote in sorted(culprits.items())
        ]
        return Culprit.UNDECIDED, _undecided(f"it may be {' or '.join(views)}"), evidence
    first = best[0].clue
    if deepest == HINT and len({_kind(vote) for vote in best}) < 2:
        why = f"there is only a hint at {WHERE[first.culprit]}: {first.means}"
        return Culprit.UNDECIDED, _undecided(why), evidence
    reasons = list(dict.fromkeys(vote.clue.means for vote in best))[:2]
    sentence = f"The cause lies in {WHERE[first.culprit]}: {', and '.join(reasons)}."
    return first.culprit, sentence, evidence


def _kind(vote: _Vote) -> tuple[object, ...]:
    return (vote.line.origin, vote.line.event) if vote.line is not None else ()


def _nothing_said(lines: tuple[LogLine, ...], scene: Scene) -> tuple[Culprit, str, list[LogLine]]:
    wrappers = [line for line in lines if clue_of(line) is not None]
    if wrappers:
        why = "they hold what follows from a failure, and not the failure"
    elif not scene.logs:
        why = "no management server's log is followed, and the VM's own tells no failure"
    else:
        why = "none of them tells a failure"
    return Culprit.UNDECIDED, _undecided(why), wrappers


def _undecided(why: str) -> str:
    return f"The logs do not say where the cause lies: {why}."


# --- what the times are worth ---------------------------------------------------------------------


def _notes(timeline: tuple[LogLine, ...], scene: Scene) -> Iterable[str]:
    if any(line.origin is Origin.VM for line in timeline):
        yield from _clock_note(f"The clock of {scene.name}", scene.clock_offset)
    for log in scene.logs.values():
        if not log.is_followed:
            yield f"The log of {log.name} is not followed: {log.detail or 'not yet'}."
            continue
        if log.gaps:
            lost = f"{log.gaps} stretches were destroyed before they were read"
            yield f"Of the log of {log.name} {lost}."
        if any(line.log == log.name for line in timeline):
            yield from _clock_note(f"The clock of {log.name}", log.clock_offset)


def _clock_note(whose: str, offset: timedelta | None) -> Iterable[str]:
    if offset is None:
        yield f"{whose} was not measured: its lines stand at the time that they name."
        return
    seconds = offset.total_seconds()
    if abs(seconds) >= 1:
        way = "ahead of" if seconds > 0 else "behind"
        yield f"{whose} is {abs(seconds):.0f} s {way} ours: its lines are moved by that."
