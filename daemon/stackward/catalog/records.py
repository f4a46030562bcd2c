"""From lines to records: one record is one thing that was said, with the stack trace below it.

/var/log/cloud.log holds lines of the agent (log4j 1 up to 4.19, log4j 2 from 4.20) and of the boot
scripts, which print `date` in the manner of their Debian. Layouts: agent/conf/log4j-cloud.xml and
systemvm/debian/opt/cloud/bin/setup/bootstrap.sh. The journal's short format is read as well.

Rules of the room:

1. Total: any bytes give records or none, never an exception.
2. Bounded: a record keeps so many lines and bytes of its trace, the rest is counted.
3. A record that may still grow is held for `hold` and no longer: `due_at` says until when, and
   `held_from` where the reading must begin again if the daemon dies meanwhile.
4. Times in these files are UTC, on the VM's own clock.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from stackward.model.guest import LogChunk, LogPosition


class LogFormat(StrEnum):
    """Who wrote a record, as its first line shows."""

    LOG4J1 = "log4j1"
    LOG4J2 = "log4j2"
    SHELL = "shell"
    JOURNAL = "journal"
    KERNEL = "kernel"
    PYTHON = "python"  # the scripts of virtual routers
    PLAIN = "plain"  # a line without any time, such as a check script's


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordLimits:
    """How much of one record is kept, and how long it may wait for the rest of itself.

    The writer sends a message and its trace in one go, and the tail looks again soon after it found
    something, so what has not come after `hold` will not.
    """

    message_chars_max: int = 8192
    trace_lines_max: int = 60
    trace_bytes_max: int = 16384
    hold: timedelta = timedelta(milliseconds=40)


class Record(NamedTuple):
    """One thing that was said. None: the line did not say."""

    line_start: LogPosition
    format: LogFormat
    message: str
    logged_at: datetime | None = None
    level: str | None = None
    logger: str | None = None  # the unit or program, in the journal
    thread: str | None = None
    log_id: str | None = None  # management server and hosts: one request, wherever it was worked on
    job: str | None = None  # number of the async job
    trace: tuple[str, ...] = ()
    trace_lines_dropped: int = 0

    @property
    def is_trouble(self) -> bool:
        """Said at WARN or above: a trace may follow."""
        return self.level in ("WARN", "ERROR", "FATAL")


_LOG4J = re.compile(
    r"(\d{4}-\d\d-\d\d)([ T])(\d\d:\d\d:\d\d,\d{3}) (TRACE|DEBUG|INFO|WARN|ERROR|FATAL) +"
    r"\[([^\]]*)\] \((.*?)\)(?: |$)(?:\(logid:[^)]*\) )?(.*)",
    re.DOTALL,
)
# The agent's console appender (log4j-cloud.xml, CONSOLE): level, class and message.
CONSOLE_LINE = re.compile(
    r"\d\d:\d\d:\d\d,\d{3} +(TRACE|DEBUG|INFO|WARN|ERROR|FATAL) +([\w$.]+):(?:\d+|\?) - (.*)",
    re.DOTALL,
)
_DAY, _MONTH = (
    "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)",
    "(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)",
)
_SHELL_FORMS = (
    # Debian 9: Thu Apr 12 09:10:11 UTC 2018
    re.compile(
        rf"{_DAY} {_MONTH} (?P<day>[ \d]?\d) (?P<clock>\d\d:\d\d:\d\d)(?P<half>) "
        rf"(?P<zone>[A-Z]{{2,5}}) (?P<year>\d{{4}})(?: (?P<text>.*)|$)",
        re.DOTALL,
    ),
    # Debian 10 and 11: Sun 23 May 2021 03:17:36 PM UTC
    re.compile(
        rf"{_DAY} (?P<day>[ \d]?\d) {_MONTH} (?P<year>\d{{4}}) (?P<clock>\d\d:\d\d:\d\d)"
        rf"(?: (?P<half>[AP]M))? (?P<zone>[A-Z]{{2,5}})(?: (?P<text>.*)|$)",
        re.DOTALL,
    ),
    # Debian 12: Mon Jun 23 06:50:01 AM UTC 2025
    re.compile(
        rf"{_DAY} {_MONTH} (?P<day>[ \d]?\d) (?P<clock>\d\d:\d\d:\d\d) (?P<half>[AP]M) "
        rf"(?P<zone>[A-Z]{{2,5}}) (?P<year>\d{{4}})(?: (?P<text>.*)|$)",
        re.DOTALL,
    ),
)
_JOURNAL = re.compile(
    rf"{_MONTH} (?P<day>[ \d]\d) (?P<clock>\d\d:\d\d:\d\d) (?P<host>\S+) "
    r"(?P<program>[^\s:\[]+)(?:\[\d+\])?: (?P<text>.*)",
    re.DOTALL,
)
_KERNEL = re.compile(r"\[ *\d+\.\d{6}\] (.*)", re.DOTALL)
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}
_DAYS_AND_MONTHS = frozenset({"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", *_MONTHS})
_UTC_NAMES = frozenset({"UTC", "GMT"})


def may_begin(letters: str) -> bool:
    """False: no record begins with these three."""
    first = letters[:1]
    return first.isdigit() or first == "[" or letters in _DAYS_AND_MONTHS


def read_head(line: str, line_start: LogPosition, read_at: datetime) -> Record | None:
    """The record that this line begins; None: it begins none.

    `read_at` gives the year where the line has none.
    """
    if line[:1].isdigit():
        return _read_log4j(line, line_start)
    if line[:1] == "[":
        found = _KERNEL.match(line)
        if found is None:
            return None
        return Record(line_start=line_start, format=LogFormat.KERNEL, message=found[1])
    if line[:3] in _MONTHS:
        return _read_journal(line, line_start, read_at)
    for form in _SHELL_FORMS:
        found = form.match(line)
        if found is not None:
            return Record(
                line_start=line_start,
                format=LogFormat.SHELL,
                message=found["text"] or "",
                logged_at=_shell_time(found),
            )
    return None


def _read_log4j(line: str, line_start: LogPosition) -> Record | None:
    found = _LOG4J.match(line)
    if found is None:
        return None
    day, mark, clock, level, logger, thread, message = found.groups()
    try:
        logged_at = datetime.fromisoformat(f"{day}T{clock}+00:00")
    except ValueError:
        logged_at = None
    return Record(
        line_start=line_start,
        format=LogFormat.LOG4J2 if mark == "T" else LogFormat.LOG4J1,
        logged_at=logged_at,
        level=level,
        logger=logger,
        thread=thread,
        message=message,
    )


def _read_journal(line: str, line_start: LogPosition, read_at: datetime) -> Record | None:
    found = _JOURNAL.match(line)
    if found is None:
        return None
    record = Record(
        line_start=line_start,
        format=LogFormat.JOURNAL,
        logged_at=_journal_time(found, read_at),
        logger=found["program"],
        message=found["text"],
    )
    console = CONSOLE_LINE.match(record.message)
    if console is None:
        return record
    return record._replace(level=console[1], logger=console[2], message=console[3])


def _shell_time(found: re.Match[str]) -> datetime | None:
    if found["zone"] not in _UTC_NAMES:
        return None
    hour, minute, second = (int(part) for part in found["clock"].split(":"))
    if found["half"]:
        hour = hour % 12 + (12 if found["half"] == "PM" else 0)
    try:
        return datetime(
            int(found["year"]),
            _MONTHS[found[1] if found[1] in _MONTHS else found[2]],
            int(found["day"]),
            hour,
            minute,
            second,
            tzinfo=UTC,
        )
    except ValueError:
        return None


def _journal_time(found: re.Match[str], read_at: datetime) -> datetime | None:
    hour, minute, second = (int(part) for part in found["clock"].split(":"))
    for year in (read_at.year, read_at.year - 1):
        try:
            logged_at = datetime(
                year, _MONTHS[found[1]], int(found["day"]), hour, minute, second, tzinfo=UTC
            )
        except ValueError:
            continue
        if logged_at <= read_at + timedelta(days=1):
            return logged_at
    return None


@dataclass(slots=True)
class _Open:
    """A record that may still grow."""

    record: Record
    touched_at: datetime
    trace: list[str] = field(default_factory=list)
    trace_bytes: int = 0
    dropped: int = 0
    is_closed: bool = False

    def finished(self) -> Record:
        if not self.trace and not self.dropped:
            return self.record
        return self.record._replace(trace=tuple(self.trace), trace_lines_dropped=self.dropped)


class RecordAssembler:
    """Joins the lines of one followed log. One of these per log.

    `feed` takes every line there is. The sieve takes them in pieces instead, and only those that
    matter: `enter` says where a stretch of whole lines stands, `lines` takes some of it, `close`
    ends a record because a head follows, `settle` ends the chunk.

    `orphans` counts lines that belong to no record we have: the rest of a trace whose beginning
    was not read, or what no head that we know stands before. `newest_logged_at` is the time that
    the newest head bore.
    """

    def __init__(self, limits: RecordLimits | None = None) -> None:
        self.orphans = 0
        self.newest_logged_at: datetime | None = None
        self.zone = UTC
        self.has_heads = True
        self._limits = limits or RecordLimits()
        self._open: _Open | None = None
        self._start: LogPosition | None = None
        self._received_at: datetime | None = None

    @property
    def held_from(self) -> LogPosition | None:
        """Where the record begins that is held back; None: none is."""
        return None if self._open is None else self._open.record.line_start

    @property
    def due_at(self) -> datetime | None:
        """When the held record must be flushed; None: none is held."""
        return None if self._open is None else self._open.touched_at + self._limits.hold

    def feed(self, chunk: LogChunk) -> tuple[Record, ...]:
        """The records that are complete with these lines, in the order of the file."""
        done = self.enter(chunk)
        done += self.lines(chunk.data, 0, len(chunk.data))
        return (*done, *self.settle())

    def flush(self, now: datetime) -> tuple[Record, ...]:
        """The held record, if it has waited long enough."""
        return self.close() if self.due_at is not None and now >= self.due_at else ()

    def enter(self, chunk: LogChunk) -> list[Record]:
        """The lines that come now stand in this chunk; an open record may end with that."""
        done = list(self.close()) if self._open is not None and self._is_elsewhere(chunk) else []
        self._start, self._received_at = chunk.start, chunk.received_at
        return done

    def lines(self, data: bytes, start: int, end: int) -> list[Record]:
        """Take these lines of the chunk's data; the records that ended because of them."""
        done: list[Record] = []
        (offset,) = self.places(data, start, (start,))
        for line in data[start:end].split(b"\n")[:-1]:
            self._take(line, offset, done.append)
            offset += len(line) + 1
        return done

    def close(self) -> tuple[Record, ...]:
        """The open record: nothing more will come."""
        done, self._open = self._open, None
        return () if done is None else (done.finished(),)

    def settle(self) -> tuple[Record, ...]:
        """The chunk has ended: only a record of trouble may wait for more."""
        return self.close() if self._open is not None and not self._may_grow(self._open) else ()

    def begins(self, line: bytes) -> bool:
        """True if a record begins with this line, whatever stands before it."""
        if line[:1] < b"\x80" and not may_begin(line[:3].decode("ascii", "replace")):
            return False  # as nearly all lines of traces: most of the work is saved
        return self._read_head(line, 0) is not None

    def places(self, data: bytes, at: int, starts: Sequence[int]) -> Sequence[int]:
        """Where lines of the chunk's data stand, in the terms of `head`."""
        del data, at
        assert self._start is not None
        base = self._start.offset
        return [base + start for start in starts]

    def pass_by(self, data: bytes, start: int, end: int) -> None:
        """These lines are of no interest."""

    def head(self, line: bytes, place: int) -> Record | None:
        """The record that this line begins and ends."""
        return self._read_head(line, place)

    def position(self, place: int) -> LogPosition:
        """Where such a line begins."""
        assert self._start is not None
        return self._start.at(place)

    def _is_elsewhere(self, chunk: LogChunk) -> bool:
        held = self.held_from
        return held is None or held.generation != chunk.start.generation or chunk.gap_bytes_min != 0

    def _may_grow(self, held: _Open) -> bool:
        return held.record.is_trouble and not held.is_closed and not held.dropped

    def _text(self, line: bytes) -> str:
        return line.decode("utf-8", "replace").rstrip("\r")[: self._limits.message_chars_max]

    def _read_head(self, line: bytes, offset: int) -> Record | None:
        return self._head_of(self._text(line), offset)

    def _head_of(self, text: str, offset: int) -> Record | None:
        assert self._received_at is not None
        if may_begin(text[:3]):
            return read_head(text, self.position(offset), self._received_at)
        return None

    def _take(self, line: bytes, offset: int, give: Callable[[Record], None]) -> None:
        text = self._text(line)
        record = self._head_of(text, offset)
        if record is not None:
            for done in self.close():
                give(done)
            assert self._received_at is not None
            self._open = _Open(record, self._received_at)
            self.newest_logged_at = record.logged_at or self.newest_logged_at
        elif self._open is None or self._open.is_closed:
            self.orphans += bool(text)
        else:
            assert self._received_at is not None
            self._open.touched_at = self._received_at
            self._continue(self._open, text)

    def _continue(self, held: _Open, text: str) -> None:
        if not text:  # log4j 2 ends a trace with an empty line
            held.is_closed = True
        elif self._has_room(held, text):
            held.trace.append(text)
            held.trace_bytes += len(text)
        else:
            held.dropped += 1

    def _has_room(self, held: _Open, text: str) -> bool:
        """The causes at the end of a long trace say more than its frames: they get more room."""
        more = 2 if text.startswith("Caused by:") else 1
        return (
            len(held.trace) < more * self._limits.trace_lines_max
            and held.trace_bytes + len(text) <= more * self._limits.trace_bytes_max
        )
