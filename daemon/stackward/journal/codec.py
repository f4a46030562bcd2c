"""Entries to rows and back, and how defensive reading goes.

The typed columns alone must be enough for cooldowns, budgets and open intents; the JSON body holds
the rest. A body that cannot be read costs the rest only. Columns that cannot be read cost the row.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from stackward.core.state import LogMemory
from stackward.errors import JournalError
from stackward.model.diagnosis import DiagnosisCode
from stackward.model.entry import Entry, EntryKind, StoredEntry
from stackward.model.guest import GuestMarks, LogPosition
from stackward.model.identity import IntentId, JobId, TargetId, ZoneId
from stackward.model.outcome import Outcome, OutcomeKind
from stackward.model.plan import ActionName
from stackward.model.sighting import EventClass

TEXT_MAX = 4000  # characters; an entry is a sentence, not a log
EVIDENCE_MAX = 32

COLUMNS = (
    "sequence, kind, at, target_id, target_name, zone_id, intent_id, episode_id, action, outcome,"
    " body"
)

Row = tuple[object, ...]
_CLASSES = frozenset(EventClass)


class UnreadableRow(JournalError):
    """A row that is not what any version of this program writes."""


@dataclass(frozen=True, slots=True)
class DecodedLog:
    """A log read back. `is_whole` False: its effects were unreadable, it has its place alone."""

    log: LogMemory
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Decoded:
    """A row read back. `is_whole` False: the body was unreadable, the entry has the columns."""

    stored: StoredEntry
    is_whole: bool


def moment_text(moment: datetime) -> str:
    """A moment as text that sorts as time does."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def encode(entry: Entry) -> Row:
    """The values for every column but the sequence."""
    outcome = entry.outcome
    body: dict[str, object] = {
        "text": entry.text[:TEXT_MAX],
        "diagnosis": entry.diagnosis,
        "rule": entry.rule,
        "rung": entry.rung,
        "attempt": entry.attempt,
        "marks": None if entry.marks is None else asdict(entry.marks),
        "log_position": None if entry.log_position is None else entry.log_position._asdict(),
        "verify_within_seconds": entry.verify_within_seconds,
        "job_id": entry.job_id,
        "reason": None if outcome is None else outcome.reason[:TEXT_MAX],
        "evidence": [line[:TEXT_MAX] for line in entry.evidence[:EVIDENCE_MAX]],
    }
    return (
        entry.kind.value,
        moment_text(entry.at),
        entry.target_id,
        entry.target_name,
        entry.zone_id,
        entry.intent_id,
        entry.episode_id,
        None if entry.action is None else entry.action.value,
        None if outcome is None else outcome.kind.value,
        json.dumps({name: value for name, value in body.items() if value not in (None, [])}),
    )


def decode(row: Row) -> Decoded:
    """A row as selected with COLUMNS. Raises UnreadableRow, naming it."""
    sequence, kind, at, target_id, target_name, zone_id, intent_id, episode_id = row[:8]
    action, outcome_kind, body = row[8:]
    try:
        number = _whole(sequence)
        columns = Entry(
            kind=EntryKind(_text(kind)),
            at=_moment(at),
            text="(the rest of this row cannot be read)",
            target_id=None if target_id is None else TargetId(_text(target_id)),
            target_name=None if target_name is None else _text(target_name),
            zone_id=None if zone_id is None else ZoneId(_text(zone_id)),
            intent_id=None if intent_id is None else IntentId(_text(intent_id)),
            episode_id=None if episode_id is None else _text(episode_id),
            action=None if action is None else ActionName(_text(action)),
            outcome=None if outcome_kind is None else Outcome(OutcomeKind(_text(outcome_kind)), ""),
        )
    except (TypeError, ValueError) as error:
        raise UnreadableRow(f"row {sequence!r:.40} cannot be read: {error}") from error
    try:
        return Decoded(StoredEntry(number, _with_body(columns, _text(body))), is_whole=True)
    except (TypeError, ValueError, KeyError, RecursionError):
        return Decoded(StoredEntry(number, columns), is_whole=False)


def decode_position(values: Row) -> LogPosition:
    """A log position from its five columns. Raises UnreadableRow."""
    try:
        device_inode, fingerprint, fingerprint_bytes, generation, offset = values
        return LogPosition(
            device_inode=_text(device_inode),
            fingerprint=_text(fingerprint),
            fingerprint_bytes=_whole(fingerprint_bytes),
            generation=_whole(generation),
            offset=_whole(offset),
        )
    except (TypeError, ValueError) as error:
        raise UnreadableRow(f"a log position cannot be read: {error}") from error


def encode_log(log: LogMemory, place: LogPosition) -> Row:
    """The five columns of the place up to which the log was read, and its effects."""
    effects: dict[str, object] = {
        "counts": dict(log.counts),
        "gaps": log.gaps,
        "gap_bytes": log.gap_bytes,
        "ready_position": None if log.ready_position is None else log.ready_position._asdict(),
        "ready_seen_at": None if log.ready_seen_at is None else moment_text(log.ready_seen_at),
    }
    return (
        place.device_inode,
        place.fingerprint,
        place.fingerprint_bytes,
        place.generation,
        place.offset,
        json.dumps({name: value for name, value in effects.items() if value}),
    )


def decode_log(values: Row) -> DecodedLog:
    """A log from the columns that `encode_log` gives. Raises UnreadableRow for a bad place."""
    *columns, effects = values
    log = LogMemory(read_to=decode_position(tuple(columns)))
    try:
        return DecodedLog(_with_effects(log, _text(effects)), is_whole=True)
    except (TypeError, ValueError, KeyError, RecursionError):
        return DecodedLog(log, is_whole=False)


def _with_effects(log: LogMemory, text: str) -> LogMemory:
    effects = _object(json.loads(text))
    counts = _object(effects.get("counts", {}))
    ready_position, seen_at = effects.get("ready_position"), effects.get("ready_seen_at")
    return replace(
        log,
        # A class that this version does not know has no counter any more.
        counts={EventClass(name): _whole(counts[name]) for name in counts if name in _CLASSES},
        gaps=_whole(effects.get("gaps", 0)),
        gap_bytes=_whole(effects.get("gap_bytes", 0)),
        ready_position=None if ready_position is None else _position(_object(ready_position)),
        ready_seen_at=None if seen_at is None else _moment(seen_at),
    )


def _with_body(columns: Entry, text: str) -> Entry:
    body = _object(json.loads(text))
    diagnosis, rule, job_id = body.get("diagnosis"), body.get("rule"), body.get("job_id")
    rung, attempt = body.get("rung"), body.get("attempt")
    marks, position = body.get("marks"), body.get("log_position")
    verify_within = body.get("verify_within_seconds")
    outcome = columns.outcome
    return replace(
        columns,
        text=_text(body["text"]),
        diagnosis=None if diagnosis is None else DiagnosisCode(_text(diagnosis)),
        rule=None if rule is None else _text(rule),
        rung=None if rung is None else _whole(rung),
        attempt=None if attempt is None else _whole(attempt),
        marks=None if marks is None else _marks(_object(marks)),
        log_position=None if position is None else _position(_object(position)),
        verify_within_seconds=None if verify_within is None else _number(verify_within),
        job_id=None if job_id is None else JobId(_text(job_id)),
        outcome=None if outcome is None else Outcome(outcome.kind, _text(body.get("reason", ""))),
        evidence=_texts(body.get("evidence", [])),
    )


def _marks(body: Mapping[str, object]) -> GuestMarks:
    boot_id, invocation_id = body.get("boot_id"), body.get("invocation_id")
    agent_pid = body.get("agent_pid")
    return GuestMarks(
        boot_id=None if boot_id is None else _text(boot_id),
        invocation_id=None if invocation_id is None else _text(invocation_id),
        agent_pid=None if agent_pid is None else _whole(agent_pid),
    )


def _position(body: Mapping[str, object]) -> LogPosition:
    return decode_position(
        (
            body["device_inode"],
            body["fingerprint"],
            body["fingerprint_bytes"],
            body["generation"],
            body["offset"],
        )
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is not text")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r:.40} is not a list")
    return tuple(_text(item) for item in value)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r:.40} is not a whole number")
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r:.40} is not a number")
    return float(value)


def _object(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r:.40} is not an object")
    return value


def _moment(value: object) -> datetime:
    moment = datetime.fromisoformat(_text(value))
    if moment.tzinfo is None:
        raise ValueError(f"{value!r:.40} has no time zone")
    return moment
