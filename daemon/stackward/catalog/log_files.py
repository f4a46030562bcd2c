"""Whole log files of any machine around a system VM, line by line, from the first to the last.

Beside what `records` reads: the management server's log and a KVM host's agent.log, with the id of
the request (`logid`) and the job; Python lines of virtual routers; the answer of ssvm-check.sh; the
journal in other time formats; the kernel and the console. The live tail has an assembler of its
own, in `records`, which knows chunks, positions and waiting; here is nothing to wait for, so every
record is joined with all that follows it.

Rules of the room:

1. Total and bounded, as in `records`. A record's place is its first line's number, from 1.
2. Times are UTC in system VMs. A management server or a host writes its own local time: without
   its zone a line of theirs has no time.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from enum import StrEnum

from stackward.catalog.records import (
    CONSOLE_LINE,
    LogFormat,
    Record,
    RecordLimits,
    may_begin,
    read_head,
)
from stackward.catalog.signatures import LogRole
from stackward.model.guest import LogPosition


class LogSource(StrEnum):
    """Which log it is."""

    CLOUD = "cloud"
    MANAGEMENT = "management"
    JOURNAL = "journal"
    HOST_AGENT = "host-agent"
    SSVM_CHECK = "ssvm-check"
    BOOT = "boot"


VM_SOURCES = frozenset({LogSource.CLOUD, LogSource.JOURNAL, LogSource.BOOT})
"""A system VM's own logs: what is said in one may stand in the others too."""


def _place(number: int) -> LogPosition:
    """Where a file is meant and not a place in a followed one, the offset counts lines."""
    return LogPosition(
        device_inode="", fingerprint="", fingerprint_bytes=0, generation=0, offset=number
    )


_LEVELS = "TRACE|DEBUG|INFO|WARN|ERROR|FATAL"
_LOG4J = re.compile(
    rf"(?P<day>\d{{4}}-\d\d-\d\d)(?P<mark>[ T])(?P<clock>\d\d:\d\d:\d\d,\d{{3}}) +"
    rf"(?P<level>{_LEVELS}) +\[(?P<logger>[^\]]*)\] \((?P<thread>.*?)\)(?: |$)"
    r"(?:\(logid:(?P<log_id>[^)]*)\)(?: |$))?(?P<message>.*)",
    re.DOTALL,
)
_JOB = re.compile(r"\bjob-(\d+)")
# CsHelper and kin, and update_config.py: its level is not said.
_PYTHON = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d) (?P<clock>\d\d:\d\d:\d\d,\d{3}) +"
    r"(?:(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)|(?P<logger>[\w.-]+\.py) \S+:\d+) +"
    r"(?P<message>.*)",
    re.DOTALL,
)
_PYTHON_LEVELS = {"WARNING": "WARN", "CRITICAL": "FATAL"}
# journalctl -o short-iso, and rsyslog's own format.
_JOURNAL_ISO = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:?\d\d)) "
    r"(?P<rest>\S+ [^\s:\[]+(?:\[\d+\])?: .*)",
    re.DOTALL,
)
_FRACTION = re.compile(r"^(\w{3} [ \d]\d \d\d:\d\d:\d\d)\.\d+ ")
_KERNEL_DATED = re.compile(r"\[\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\] (.*)", re.DOTALL)
_KERNEL_STAMP = re.compile(r"\[ *\d+\.\d+\] ")
_PROGRAM = re.compile(r"(?P<program>[\w./()-]+)\[\d+\]: (?P<text>.*)", re.DOTALL)
_CONSOLE_STATUS = re.compile(  # possessive: a line of blanks must not be tried in all its splits
    r"\x1b?\[?\[ *+(?:\x1b\[[\d;]*+m *+)?(OK|FAILED|DEPEND) *+(?:\x1b\[[\d;]*+m *+)?\] "
)
# Java's own: frames, causes, and an exception that stands alone on its line.
# What the management server and the agent print to standard output, as the journal has it.
_UNDATED = re.compile(
    rf"(?P<level>{_LEVELS}) +\[(?P<logger>[^\]]*)\] \((?P<thread>.*?)\)(?: |$)"
    r"(?:\(logid:(?P<log_id>[^)]*)\)(?: |$))?(?P<message>.*)",
    re.DOTALL,
)
_OF_LOG4J = re.compile(r"log4j:(WARN|ERROR) (.*)", re.DOTALL)  # what log4j says of itself
_TRACE = re.compile(
    r"\s|Caused by: |Suppressed: |\.\.\. \d+ |[a-z]\w*(?:\.[a-z]\w*)+\.[A-Z][\w$]*(?:[:;\s]|$)"
)
# Java's own words and the agent's on standard error: no part of what log4j told.
_UNCAUGHT = ('Exception in thread "', "Unable to start agent: ")
_JOINED_FORMATS = frozenset({LogFormat.LOG4J1, LogFormat.LOG4J2, LogFormat.PYTHON})


def read_line(
    line: str, number: int, source: LogSource, *, read_at: datetime, zone: tzinfo | None = None
) -> Record | None:
    """The record that this line begins; None: it begins none, or could only be a plain one.

    `zone` is that of the machine, where it does not write UTC.
    """
    if not may_begin(line[:3]) and line[:1] != "\x1b":
        return None
    place = _place(number)
    if source in VM_SOURCES:
        zone = UTC
    if line[:1].isdigit():
        return _read_dated(line, place, read_at, zone)
    if line[:1] in "[\x1b":
        return _read_console(line, place, read_at)
    return _unwrapped(read_head(_FRACTION.sub(r"\1 ", line), place, read_at))


def _read_dated(
    line: str, place: LogPosition, read_at: datetime, zone: tzinfo | None
) -> Record | None:
    found = _LOG4J.match(line)
    if found is not None:
        job = _JOB.search(found["thread"])
        return Record(
            line_start=place,
            format=LogFormat.LOG4J2 if found["mark"] == "T" else LogFormat.LOG4J1,
            logged_at=_time(found, zone),
            level=found["level"],
            logger=found["logger"],
            thread=found["thread"],
            log_id=found["log_id"] or None,
            job=job and job[1],
            message=found["message"],
        )
    found = _PYTHON.match(line)
    if found is not None:
        return Record(
            line_start=place,
            format=LogFormat.PYTHON,
            logged_at=_time(found, zone),
            level=_PYTHON_LEVELS.get(found["level"], found["level"]),
            logger=found["logger"],
            message=found["message"],
        )
    found = CONSOLE_LINE.match(line)
    if found is not None:
        return Record(
            line_start=place,
            format=LogFormat.LOG4J1,
            level=found[1],
            logger=found[2],
            message=found[3],
        )
    found = _JOURNAL_ISO.match(line)
    if found is None:
        return None
    # Read as the short format, whose time is then replaced.
    short = read_head(f"Jan  1 00:00:00 {found['rest']}", place, read_at)
    return None if short is None else _unwrapped(short._replace(logged_at=_iso(found["time"])))


def _read_console(line: str, place: LogPosition, read_at: datetime) -> Record | None:
    """Lines of the kernel, and of systemd on the console."""
    dated = _KERNEL_DATED.match(line)
    if dated is not None:
        return Record(line_start=place, format=LogFormat.KERNEL, message=dated[1])
    status = _CONSOLE_STATUS.match(line)
    if status is not None:
        return Record(line_start=place, format=LogFormat.KERNEL, message=line[status.end() :])
    record = read_head(line, place, read_at)
    found = None if record is None else _PROGRAM.match(record.message)
    if record is None or found is None:
        return record
    return record._replace(logger=found["program"], message=found["text"])


def _unwrapped(record: Record | None) -> Record | None:
    """What the journal wraps: the kernel's own stamp, and log4j's line without a time."""
    if record is None or record.format is not LogFormat.JOURNAL:
        return record
    if record.logger == "kernel":
        return record._replace(message=_KERNEL_STAMP.sub("", record.message, count=1))
    found = _UNDATED.match(record.message)
    if found is None:
        found = _OF_LOG4J.match(record.message)
        return record if found is None else record._replace(level=found[1], message=found[2])
    job = _JOB.search(found["thread"])
    return record._replace(
        level=found["level"],
        logger=found["logger"],
        thread=found["thread"],
        log_id=found["log_id"] or None,
        job=job and job[1],
        message=found["message"],
    )


def _time(found: re.Match[str], zone: tzinfo | None) -> datetime | None:
    if zone is None:
        return None
    try:
        said = datetime.fromisoformat(f"{found['day']}T{found['clock']}")
    except ValueError:
        return None
    return said.replace(tzinfo=zone)


def _iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


@dataclass(slots=True)
class _Open:
    record: Record
    writer: str  # in the journal: the program and its process
    trace: list[str] = field(default_factory=list)
    trace_bytes: int = 0
    dropped: int = 0

    def finished(self) -> Record:
        if not self.trace and not self.dropped:
            return self.record
        return self.record._replace(trace=tuple(self.trace), trace_lines_dropped=self.dropped)


class FileAssembler:
    """Joins the lines of one file, given one by one. Each line ends at most one record.

    `number` is that of the last line, from 1; `orphans` counts lines that belong to no record.
    """

    def __init__(
        self,
        source: LogSource,
        *,
        read_at: datetime,
        zone: tzinfo | None = None,
        limits: RecordLimits | None = None,
    ) -> None:
        self.orphans = 0
        self.zone = UTC if source in VM_SOURCES else zone
        self.has_heads = source is not LogSource.SSVM_CHECK
        self._source = source
        self._read_at = read_at
        self._limits = limits or RecordLimits()
        self.number = 0
        self._open: _Open | None = None

    def take(self, line: bytes) -> Record | None:
        """The record that is complete because this line does not belong to it."""
        self.number += 1
        text = self._text(line)
        if not text or text.isspace():
            return self._close()
        record = self._head(text)
        if record is None:
            self._join(text)
            return None
        ended = self._close()
        self._open = _Open(record, _writer(text))
        return ended

    def end(self) -> Record | None:
        """The last record: nothing more comes."""
        return self._close()

    # What the sieve asks for, as it asks the assembler of a followed log.

    def lines(self, data: bytes, start: int, end: int) -> list[Record]:
        """Take these lines; the records that ended because of them."""
        taken = (self.take(line) for line in data[start:end].split(b"\n")[:-1])
        return [record for record in taken if record is not None]

    def close(self) -> tuple[Record, ...]:
        """The open record: what follows begins another."""
        ended = self._close()
        return () if ended is None else (ended,)

    def begins(self, line: bytes) -> bool:
        """True if a record begins with this line, whatever stands before it."""
        text = self._text(line)
        if not text or text.isspace():
            return False
        if self._source is LogSource.SSVM_CHECK:
            return True
        record = None if text[0].isspace() else self._read(text, 0)
        return record is not None and not _may_go_on(record)

    def places(self, data: bytes, at: int, starts: Sequence[int]) -> Sequence[int]:
        """Where these lines stand, in the terms of `head`: their numbers. `at` is passed so far."""
        numbers: list[int] = []
        for start in starts:
            self.pass_by(data, at, start)
            numbers.append(self.number + 1)
            at = start
        return numbers

    def pass_by(self, data: bytes, start: int, end: int) -> None:
        """These lines are of no interest."""
        self.number += data.count(b"\n", start, end)

    def head(self, line: bytes, place: int) -> Record | None:
        """The record that this line begins and ends."""
        return self._read(self._text(line), place)

    def position(self, place: int) -> LogPosition:
        """Where such a line is: its number."""
        return _place(place)

    def _text(self, line: bytes) -> str:
        return line.decode("utf-8", "replace").strip("\r\x00")[: self._limits.message_chars_max]

    def _read(self, text: str, number: int) -> Record | None:
        return read_line(text, number, self._source, read_at=self._read_at, zone=self.zone)

    def _close(self) -> Record | None:
        ended, self._open = self._open, None
        return None if ended is None else ended.finished()

    def _head(self, text: str) -> Record | None:
        if self._source is LogSource.SSVM_CHECK:
            return self._plain(text)
        if text[0].isspace():
            return None
        record = self._read(text, self.number)
        if record is not None:
            return None if self._goes_on(record, text) else record
        if self._source is LogSource.MANAGEMENT or _TRACE.match(text):
            return None
        held = self._open
        joins = held is not None and (
            held.record.format in _JOINED_FORMATS or held.record.message.startswith(_UNCAUGHT)
        )
        return None if joins and not text.startswith(_UNCAUGHT) else self._plain(text)

    def _goes_on(self, record: Record, text: str) -> bool:
        """Each line of a trace is a line of its own in the journal."""
        held = self._open
        return (
            held is not None
            and _may_go_on(record)
            and held.record.format is LogFormat.JOURNAL
            and held.writer == _writer(text)
            and _is_trace_of(held.record, record.message)
        )

    def _plain(self, text: str) -> Record:
        return Record(line_start=_place(self.number), format=LogFormat.PLAIN, message=text)

    def _join(self, text: str) -> None:
        held = self._open
        if held is None:
            self.orphans += 1
            return
        if held.record.format is LogFormat.JOURNAL:
            text = text.partition("]: ")[2] or text
        # As in `records`: the causes at the end of a long trace say more than its frames.
        more = 2 if text.startswith("Caused by:") else 1
        limits = self._limits
        if (
            len(held.trace) < more * limits.trace_lines_max
            and held.trace_bytes + len(text) <= more * limits.trace_bytes_max
        ):
            held.trace.append(text)
            held.trace_bytes += len(text)
        else:
            held.dropped += 1


def _writer(line: str) -> str:
    """Who wrote a line of the journal: `java[211]`. What log4j wrote there has a logger instead."""
    return line.partition(": ")[0].rpartition(" ")[2]


def _may_go_on(record: Record) -> bool:
    """True if this line of the journal may belong to what was said before it."""
    return (
        record.format is LogFormat.JOURNAL
        and record.level is None
        and record.logger not in ("kernel", "systemd")
        and _TRACE.match(record.message) is not None
    )


def _is_trace_of(held: Record, text: str) -> bool:
    """An exception alone on its line goes with a message that bears a level, else it is news."""
    return held.level is not None or not text[0].isalpha() or text.startswith("Caused by: ")


# --- which log it is, by what it says ----------------------------------------------------------

_CHECK_LINE = re.compile(r"(?:Good|ERROR|WARNING): |={5,}$|Tests Complete\.|First DNS server is ")
_LOGGER_OF_MANAGEMENT = re.compile(r"\[[a-z]\.[a-z0-9]\.|\[o\.a\.c|\[c\.c\.")
_MACHINES = (
    (
        LogSource.HOST_AGENT,
        re.compile(r"\[(?:kvm|hypervisor\.kvm|resource\.wrapper|cloud\.hypervisor)\."),
    ),
    (
        LogSource.CLOUD,
        re.compile(
            r"SecondaryStorage\w*\]|\[storage\.resource\.|\[storage\.template\.\w*(?:Down|Up)load"
            r"|\[(?:\w+\.)?consoleproxy\.|^[\w: .+-]{12,36} [svr]-\d+-\w+ \S+: | _run\.sh\["
        ),
    ),
)
_AGENTS = (LogSource.CLOUD, LogSource.HOST_AGENT)
_MANY_MACHINES = (*_AGENTS, LogSource.JOURNAL)
_SPEAKERS = (LogSource.MANAGEMENT, LogSource.HOST_AGENT)
_SOURCES = {
    LogFormat.JOURNAL: LogSource.JOURNAL,
    LogFormat.KERNEL: LogSource.JOURNAL,
    LogFormat.SHELL: LogSource.BOOT,
}
_ROLES = (
    (LogRole.SSVM, re.compile(r"\bs-\d+-\w+ |type=secstorage|SecondaryStorage|\[storage\.")),
    (
        LogRole.CPVM,
        re.compile(r"\bv-\d+-\w+ |type=consoleproxy|\[(?:cloud|resource)\.consoleproxy"),
    ),
    (LogRole.ROUTER, re.compile(r"\br-\d+-\w+ |type=(?:dhcpsrvr|router|vpcrouter)|Cs[A-Z]\w+\.py")),
)


def guess_source(lines: Iterable[str]) -> LogSource:
    """Which log it most looks like; a system VM's, if like none.

    Agents of hosts and of system VMs write alike. Where something stands that only one of them
    has, it decides; else a `logid` does, which is a host's as the agents are shipped. A journal is
    that of the machine whose programs speak in it, though most of its lines are systemd's.
    """
    votes, machines = Counter[LogSource](), Counter[LogSource]()
    for line in lines:
        found = _source_of(line)
        if found is None:
            continue
        votes[found] += 1
        if found in _MANY_MACHINES:
            machines.update(machine for machine, mark in _MACHINES if mark.search(line))
    if not votes:
        return LogSource.CLOUD
    source = votes.most_common(1)[0][0]
    machine = machines.most_common(1)[0][0] if machines else None
    if source is LogSource.JOURNAL:
        speakers = [each for each, _ in votes.most_common() if each in _SPEAKERS]
        return speakers[0] if speakers and machine is not LogSource.CLOUD else source
    if source in _AGENTS:
        return machine or (LogSource.HOST_AGENT if LogSource.HOST_AGENT in votes else source)
    return source


def guess_role(lines: Iterable[str]) -> LogRole | None:
    """Whose log it most looks like; None: nothing says so."""
    votes = Counter(role for line in lines for role, mark in _ROLES if mark.search(line))
    return votes.most_common(1)[0][0] if votes else None


def _source_of(line: str) -> LogSource | None:
    if _LOG4J.match(line):
        if _LOGGER_OF_MANAGEMENT.search(line):
            return LogSource.MANAGEMENT
        return LogSource.HOST_AGENT if "(logid:" in line else LogSource.CLOUD
    if _CHECK_LINE.match(line):
        return LogSource.SSVM_CHECK
    record = read_line(line, 0, LogSource.CLOUD, read_at=datetime(2000, 1, 1, tzinfo=UTC))
    if record is None:
        return None
    if record.format is LogFormat.JOURNAL and record.thread is not None:
        is_managements = _LOGGER_OF_MANAGEMENT.search(line)
        return LogSource.MANAGEMENT if is_managements else LogSource.HOST_AGENT
    return _SOURCES.get(record.format, LogSource.CLOUD)
