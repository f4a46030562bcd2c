"""What records mean: the typed form of a log pattern, and how a hit becomes a `Sighting`.

The patterns themselves are YAML packs, compiled by config/patterns.py, which also hands in `scan`:
one look over a record that names the few signatures worth trying. So a chatty log stays cheap.

Order: signatures are tried as they stand in the set, and the first that matches wins. `config`
puts them so: what is benign comes before what is not; within each, an operator's files come before
the built-in packs; within a file they stand in the file's order.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from stackward.catalog.records import LogFormat, Record
from stackward.catalog.redact import redact
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

Scan = Callable[[str], Iterable[int]]
"""Names the signatures, by their place in the set, that may fit this message and its trace."""


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
    levels: frozenset[str] = frozenset()
    formats: frozenset[LogFormat] = frozenset()
    roles: frozenset[str] = frozenset()
    proves: str = ""
    proves_not: str = ""
    echoes: frozenset[EventClass] = frozenset()

    def captures(self, record: Record, role: str | None) -> Mapping[str, str] | None:
        """What was captured if the record is of this kind. `role` None: not known."""
        if self.roles and role is not None and role not in self.roles:
            return None
        if self.formats and record.format not in self.formats:
            return None
        if self.levels and record.level not in self.levels:
            return None
        captured = {} if self.match is None else self.match(record.message)
        if captured is None or self.cause is None:
            return captured
        more = self.cause(whole_text(record))
        return None if more is None else {**captured, **more}


def whole_text(record: Record) -> str:
    """Message and trace, as `Scan` and `cause` see them."""
    return "\n".join((record.message, *record.trace)) if record.trace else record.message


def _scan_nothing(text: str) -> Iterable[int]:
    del text
    return ()


@dataclass(frozen=True, slots=True)
class SignatureSet:
    """All signatures in force, in the order in which they are tried."""

    signatures: tuple[Signature, ...] = ()
    scan: Scan = field(default=_scan_nothing)

    def classify(self, record: Record, role: str | None, seen_at: datetime) -> Sighting | None:
        """The event that this record tells; None: none, or only something benign."""
        sighting = self.recognise(record, role, seen_at)
        return None if sighting is None or sighting.event is EventClass.BENIGN else sighting

    def recognise(self, record: Record, role: str | None, seen_at: datetime) -> Sighting | None:
        """The same, with what is benign."""
        for signature, captured in self.hits(record, role):
            return _sighting(signature, captured, record, seen_at)
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


class LogReading:
    """Reads one log from its beginning to its end, and remembers what an echo needs."""

    def __init__(self, signatures: SignatureSet, role: str | None) -> None:
        self._signatures = signatures
        self._role = role
        self._last: dict[EventClass, datetime] = {}

    def read(self, record: Record, seen_at: datetime) -> Sighting | None:
        """As `SignatureSet.recognise`, with echoes resolved."""
        for signature, captured in self._signatures.hits(record, self._role):
            sighting = _sighting(signature, captured, record, seen_at)
            at = record.logged_at or seen_at
            if signature.echoes:
                return replace(sighting, event=self._echoed(signature, at))
            self._last.pop(sighting.event, None)
            self._last[sighting.event] = at
            return sighting
        return None

    def _echoed(self, signature: Signature, at: datetime) -> EventClass:
        for event, told_at in reversed(self._last.items()):
            if event in signature.echoes and abs(at - told_at) <= ECHO_WITHIN:
                return event
        return signature.event


def _sighting(
    signature: Signature, captured: Mapping[str, str], record: Record, seen_at: datetime
) -> Sighting:
    text = record.message
    if record.trace:
        text = f"{text} {record.trace[0].strip()}"
    return Sighting(
        event=signature.event,
        severity=signature.severity,
        pattern=signature.name,
        text=redact(text, limit=TEXT_LENGTH_MAX),
        line_start=record.line_start,
        seen_at=seen_at,
        logged_at=record.logged_at,
        fields={name: redact(value, limit=FIELD_LENGTH_MAX) for name, value in captured.items()},
    )
