"""The lines that speak of one VM, kept in a ring: its own log's and the management servers'.

What says the same within a few minutes is one line with a count: a loop of failures must not push
its own beginning out. Which lines are one does not depend on the order in which they came.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from stackward.core.state import LogMemory
from stackward.model.correlation import LogLine, ManagementLog, Origin, Timeline
from stackward.model.event import ManagementLogTold
from stackward.model.sighting import EventClass, Sighting

LINES_KEPT = 200
SERVER_LINES_KEPT = 64
MINUTES_KEPT = 120
OF_A_STRETCH = 32  # lines taken from its beginning, and from its end
SAME_WITHIN_SECONDS = 300
_SHAPED = 120  # characters

# Daily work, and what says nothing of a fault.
_IDLE = frozenset(
    {
        EventClass.BENIGN,
        EventClass.TRANSFER_PROGRESS,
        EventClass.CONSOLE_SESSION_OK,
        EventClass.MS_LIST_UPDATED,
        EventClass.TLS_OK,
    }
)
_NUMBERS = re.compile(r"\d+")


def is_idle(event: EventClass) -> bool:
    """True for what no timeline needs."""
    return event in _IDLE


@lru_cache(maxsize=8192)
def shape_of(text: str) -> str:
    """The same for texts that differ in their numbers only."""
    return _NUMBERS.sub("0", text[:_SHAPED])


def as_span(seconds: float | None) -> timedelta | None:
    """A measured offset; None where there is none, or one that no clock can have."""
    try:
        return None if seconds is None else timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        return None


def own_lines(
    sightings: Sequence[Sighting], clock_offset_seconds: float | None
) -> tuple[LogLine, ...]:
    """Events of the VM's own log as lines of its timeline."""
    clock_offset = as_span(clock_offset_seconds)
    if len(sightings) > 2 * OF_A_STRETCH:
        sightings = (*sightings[:OF_A_STRETCH], *sightings[-OF_A_STRETCH:])
    return tuple(
        LogLine(
            origin=Origin.VM,
            log="",
            event=sighting.event,
            severity=sighting.severity,
            text=sighting.text,
            at=moment(sighting.logged_at, sighting.seen_at, clock_offset),
            seen_at=sighting.seen_at,
            logged_at=sighting.logged_at,
            clock_offset=clock_offset,
        )
        for sighting in sightings
        if not is_idle(sighting.event)
    )


def moment(
    logged_at: datetime | None, seen_at: datetime, clock_offset: timedelta | None
) -> datetime:
    """When a line was written, on our clock; it was not after it was read."""
    if logged_at is None:
        return seen_at
    try:
        return min(logged_at.astimezone(UTC) - (clock_offset or timedelta(0)), seen_at)
    except OverflowError:
        return seen_at


def fold_management_log(old: ManagementLog | None, event: ManagementLogTold) -> ManagementLog:
    """What is known of a management server's log after it was told of."""
    old = old or ManagementLog(name=event.name, is_followed=event.is_followed)
    is_as_before = old.since is not None and old.is_followed is event.is_followed
    minutes = set(old.spoke_in)
    if event.spoke_at is not None:
        minutes.add(event.spoke_at.replace(second=0, microsecond=0))
    return ManagementLog(
        name=event.name,
        is_followed=event.is_followed,
        detail=event.detail,
        since=old.since if is_as_before else event.at,
        told_at=event.at,
        clock_offset=event.clock_offset if event.clock_offset is not None else old.clock_offset,
        spoke_in=tuple(sorted(minutes)[-MINUTES_KEPT:]),
        position=event.position or old.position,
        timeline=keep(old.timeline, event.lines, SERVER_LINES_KEPT),
        dropped=max(old.dropped, event.dropped),
        gaps=old.gaps + event.gaps,
        gap_bytes=old.gap_bytes + event.gap_bytes,
    )


def log_memory(log: ManagementLog) -> LogMemory:
    """What is saved of it: its place. The lines it has told are only remembered."""
    position = log.position if log.is_followed else None
    return LogMemory(
        position=position,
        read_to=log.position,
        told_at=log.told_at,
        gaps=log.gaps,
        gap_bytes=log.gap_bytes,
    )


def keep(kept: Timeline, fresh: Iterable[LogLine], most: int = LINES_KEPT) -> Timeline:
    """The ring of `most` lines, with these in it."""
    lines, keys = list(kept.lines), list(kept.keys)
    for line in fresh:
        key = _key(line)
        if key in keys:
            place = keys.index(key)
            lines[place] = _one_of(lines[place], line)
        else:
            lines.append(line)
            keys.append(key)
    return Timeline(tuple(lines[-most:]), tuple(keys[-most:]))


def _key(line: LogLine) -> tuple[object, ...]:
    bucket = int(line.at.timestamp()) // SAME_WITHIN_SECONDS
    shape = shape_of(line.text)
    return (bucket, shape, line.event, line.job, line.origin, line.log, line.concern)


def _one_of(one: LogLine, other: LogLine) -> LogLine:
    """The first of the two that was said, with the count of both."""
    first, second = sorted((one, other), key=lambda line: (line.at, line.text))
    return replace(
        first,
        times=one.times + other.times,
        last_at=max(one.last_at or one.at, other.last_at or other.at, second.at),
        seen_at=min(one.seen_at, other.seen_at),
    )
