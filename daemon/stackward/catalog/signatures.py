"""What records mean: the typed form of a log pattern, and how a hit becomes a `Sighting`.

The patterns themselves are YAML packs, compiled by config/patterns.py, which also hands in two
looks that name the few signatures worth trying, so that a chatty log stays cheap: `scan` over a
record, and `search` over whole lines of a log before they are records (sieve.py).

Order: signatures are tried as they stand in the set, and the first that matches wins. `config`
puts them so: what is benign comes before what is not; within each, an operator's files come before
the built-in packs; within a file they stand in the file's order.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Protocol

from stackward.catalog.records import LogFormat, Record
from stackward.catalog.redact import redact
from stackward.model.guest import LogPosition
from stackward.model.sighting import EventClass, Severity, Sighting

TEXT_LENGTH_MAX = 500
FIELD_LENGTH_MAX = 200
ECHO_WITHIN = timedelta(seconds=60)


class LogRole(StrEnum):
    """Whose log it is: a `VmRole`, or a virtual router, which is read and not watched."""

    SSVM = "ssvm"
    CPVM = "cpvm"
    ROUTER = "vr"


Matcher = Callable[[str], Mapping[str, str] | None]
"""Looks for a pattern in a text: what its named groups captured, or None."""

Test = Callable[[str, str], bool]
"""True if a signature's patterns hit this message, and this message with its trace."""

Scan = Callable[[str], Iterable[int]]
"""Names the signatures, by their place in the set, that may fit this message and its trace."""

Marks = dict[int, set[int]]
"""Where the lines end that are hit, their newlines with them, in their order, and what hits each:
signatures by their place in the set."""


class Search(Protocol):
    """All patterns at once over whole lines of ASCII that are no longer than a record may be.

    `find` looks at lines as they stand in a log, or at a part of them. It may mark too much and
    must not miss a line in which a message, or a part of a trace, is hit. None: it marks more than
    `most`, or would take long, and a shorter part is to be looked at first, without that limit.
    `varies` is True if of two messages of log4j of this shape, which differ in their digits only,
    one may be hit by what does not hit the other. `make` compiles what the first look would.
    """

    def find(
        self, lines: bytes, start: int = 0, end: int | None = None, most: int | None = None
    ) -> Marks | None: ...
    def varies(self, shape: str) -> bool: ...
    def make(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One log pattern.

    `match` looks at the message, `cause` at message and trace together; where both are given both
    must hit, and one must be given. An empty `levels`, `formats` or `roles` allows any. `proves`
    and `proves_not` say in words how far a hit may be trusted. A signature that `echoes` other
    classes takes the class of the last of them that the same log told shortly before: what systemd
    says after an exit does not repeat its status.
    """

    name: str
    event: EventClass
    severity: Severity
    match: Matcher | None
    cause: Matcher | None = None
    test: Test | None = None  # the same without captures, if that is quicker
    has_captures: bool = True
    levels: frozenset[str] = frozenset()
    formats: frozenset[LogFormat] = frozenset()
    roles: frozenset[str] = frozenset()
    proves: str = ""
    proves_not: str = ""
    echoes: frozenset[EventClass] = frozenset()

    def allows(self, log_format: LogFormat, level: str | None, role: str | None) -> bool:
        """True if it is for such records at all. `role` None: not known."""
        return (
            (not self.roles or role is None or role in self.roles)
            and (not self.formats or log_format in self.formats)
            and (not self.levels or level in self.levels)
        )

    def hits(self, message: str, whole: str) -> bool:
        """True if the patterns are in this message, and in it with its trace."""
        if self.test is not None:
            return self.test(message, whole)
        return (self.match is None or self.match(message) is not None) and (
            self.cause is None or self.cause(whole) is not None
        )

    def captures(self, record: Record, role: str | None) -> Mapping[str, str] | None:
        """What was captured if the record is of this kind."""
        if not self.allows(record.format, record.level, role):
            return None
        return self.captured(record.message, whole_text(record))

    def captured(self, message: str, whole: str) -> Mapping[str, str] | None:
        """What the patterns capture in this message, and in it with its trace."""
        captured = {} if self.match is None else self.match(message)
        if captured is None or self.cause is None:
            return captured
        more = self.cause(whole)
        return None if more is None else {**captured, **more}


def whole_text(record: Record) -> str:
    """Message and trace, as `Scan` and `cause` see them."""
    return "\n".join((record.message, *record.trace)) if record.trace else record.message


def _scan_nothing(text: str) -> Iterable[int]:
    del text
    return ()


@dataclass(frozen=True, slots=True)
class SignatureSet:
    """All signatures in force, in the order in which they are tried.

    `search` None: nobody made one, and every record is assembled and looked at.
    """

    signatures: tuple[Signature, ...] = ()
    scan: Scan = field(default=_scan_nothing)
    search: Search | None = None

    def prepare(self) -> None:
        """Compile what was not compiled yet: seconds that no loop can spare."""
        if self.search is not None:
            self.search.make()

    def classify(self, record: Record, role: str | None, seen_at: datetime) -> Sighting | None:
        """The event that this record tells; None: none, or only something benign."""
        sighting = self.recognise(record, role, seen_at)
        return None if sighting is None or sighting.event is EventClass.BENIGN else sighting

    def recognise(self, record: Record, role: str | None, seen_at: datetime) -> Sighting | None:
        """The same, with what is benign."""
        for signature, captured in self.hits(record, role):
            return _sighting(signature, signature.event, captured, record, seen_at)
        return None

    def hits(
        self, record: Record, role: str | None
    ) -> Iterator[tuple[Signature, Mapping[str, str]]]:
        """Every signature that matches, the one that counts first."""
        for place in sorted(self.scan(whole_text(record))):
            signature = self.signatures[place]
            captured = signature.captures(record, role)
            if captured is not None:
                yield signature, captured


@dataclass(slots=True)
class Hit:
    """A record that a signature hit, not yet told.

    `event` has its echo resolved. `record` None: it is all of what was `found`, at `place` as its
    assembler counts.
    """

    signature: Signature
    event: EventClass
    record: Record | None = None
    found: re.Match[bytes] | None = None
    place: int = 0

    @property
    def line(self) -> bytes:
        """The line, without its newline; empty: it is a record already."""
        return b"" if self.found is None else self.found[0][:-1]


Stamp = datetime | bytes | None
"""When a line was logged: a time, or what the line says of it, or nothing."""


class LogReading:
    """Reads one log from its beginning to its end, and remembers what an echo needs.

    `zone` is that of the machine that writes it; None: nobody knows, and its lines have no time.
    """

    def __init__(
        self, signatures: SignatureSet, role: str | None, zone: tzinfo | None = UTC
    ) -> None:
        self._signatures = signatures
        self._role = role
        self._zone = zone
        self._repeated = {event for each in signatures.signatures for event in each.echoes}
        # None: there is something to remember, or to look up.
        self._simple = [
            (each, None if each.echoes or each.event in self._repeated else each.event)
            for each in signatures.signatures
        ]
        self._last: dict[EventClass, tuple[Stamp, datetime]] = {}  # the newest behind
        self._allowed: dict[tuple[LogFormat, str | None], Sequence[bool]] = {}

    def read(self, record: Record, seen_at: datetime) -> Sighting | None:
        """As `SignatureSet.recognise`, with echoes resolved."""
        hit = self.recognise(record, seen_at)
        return None if hit is None else self.tell(hit, record, seen_at)

    def recognise(self, record: Record, seen_at: datetime) -> Hit | None:
        """What hits this record."""
        whole = whole_text(record)
        allowed = self.allowed(record.format, record.level)
        for place in sorted(self._signatures.scan(whole)):
            signature = self._signatures.signatures[place]
            if allowed[place] and signature.hits(record.message, whole):
                return Hit(signature, self._event(signature, record.logged_at, seen_at), record)
        return None

    def recognise_message(
        self, allowed: Sequence[bool], message: str, among: Iterable[int] | None = None
    ) -> int | None:
        """The place of the first signature that hits a message without a trace.

        `among` names those to try, and goes up; None: all.
        """
        signatures = self._signatures.signatures
        for place in sorted(self._signatures.scan(message)) if among is None else among:
            if allowed[place] and signatures[place].hits(message, message):
                return place
        return None

    def hit(
        self, number: int, stamp: Stamp, seen_at: datetime, line: re.Match[bytes] | None, place: int
    ) -> Hit:
        """What this signature hits: a line at this place."""
        signature, event = self._simple[number]
        if event is None:
            event = self._event(signature, stamp, seen_at)
        return Hit(signature, event, None, line, place)

    def is_echo(self, number: int) -> bool:
        """True if what this signature hits takes the class of another hit."""
        return bool(self._signatures.signatures[number].echoes)

    def event_of(self, number: int) -> EventClass:
        """The class of what this signature hits, unless it is an echo."""
        return self._signatures.signatures[number].event

    def allowed(self, log_format: LogFormat, level: str | None) -> Sequence[bool]:
        """Which signatures are for such records at all."""
        known = self._allowed.get((log_format, level))
        if known is None:
            known = [
                each.allows(log_format, level, self._role) for each in self._signatures.signatures
            ]
            self._allowed[log_format, level] = known
        return known

    def time_of(self, stamp: bytes) -> datetime | None:
        """When a line was logged, by what it says; None: nobody knows."""
        zone, text = self._zone, stamp.decode()
        try:
            if zone is UTC:  # several times quicker than to give it its zone later
                return datetime.fromisoformat(f"{text}Z")
            said = datetime.fromisoformat(text)
        except ValueError:
            return None
        return None if zone is None else said.replace(tzinfo=zone)

    def tell(self, hit: Hit, record: Record, seen_at: datetime) -> Sighting:
        """A hit as a sighting."""
        captured = None
        if hit.signature.has_captures:
            captured = hit.signature.captures(record, self._role)
        return _sighting(hit.signature, hit.event, captured or {}, record, seen_at)

    def tell_line(
        self, hit: Hit, message: str, stamp: bytes, line_start: LogPosition, seen_at: datetime
    ) -> Sighting:
        """The same of a record that is one line, without making one."""
        signature = hit.signature
        captured = signature.captured(message, message) if signature.has_captures else None
        return Sighting(
            hit.event,
            signature.severity,
            signature.name,
            redact(message, limit=TEXT_LENGTH_MAX),
            line_start,
            seen_at,
            self.time_of(stamp),
            _redacted(captured) if captured else {},
        )

    def _event(self, signature: Signature, stamp: Stamp, seen_at: datetime) -> EventClass:
        """The class of this hit, which is remembered for those that echo it."""
        if signature.echoes:
            return self._echoed(signature, self._moment(stamp, seen_at))
        event = signature.event
        if event in self._repeated:
            self._last.pop(event, None)
            self._last[event] = stamp, seen_at
        return event

    def _echoed(self, signature: Signature, at: datetime) -> EventClass:
        for event, told in reversed(self._last.items()):
            if event in signature.echoes and abs(at - self._moment(*told)) <= ECHO_WITHIN:
                return event
        return signature.event

    def _moment(self, stamp: Stamp, seen_at: datetime) -> datetime:
        """When it was logged, as far as the line says; when it was seen, else."""
        logged_at = self.time_of(stamp) if isinstance(stamp, bytes) else stamp
        return seen_at if logged_at is None or self._zone is None else logged_at


def _sighting(
    signature: Signature,
    event: EventClass,
    captured: Mapping[str, str],
    record: Record,
    seen_at: datetime,
) -> Sighting:
    text = record.message
    if record.trace:
        text = f"{text} {record.trace[0].strip()}"
    return Sighting(
        event=event,
        severity=signature.severity,
        pattern=signature.name,
        text=redact(text, limit=TEXT_LENGTH_MAX),
        line_start=record.line_start,
        seen_at=seen_at,
        logged_at=record.logged_at,
        fields=_redacted(captured),
    )


def _redacted(captured: Mapping[str, str]) -> Mapping[str, str]:
    return {name: redact(value, limit=FIELD_LENGTH_MAX) for name, value in captured.items()}
