"""The durable form of decisions and outcomes: what the journal holds.

An intent's life: INTENT, then one of
  OUTCOME(withdrawn)                       looked again, and not needed or not sure
  BEGUN [ACCEPTED] OUTCOME                 sent at most once; ACCEPTED carries a CloudStack job id
After a crash an intent without OUTCOME is looked at before anything else is done.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from stackward.model.diagnosis import DiagnosisCode
from stackward.model.guest import GuestMarks, LogPosition
from stackward.model.identity import IntentId, JobId, TargetId, ZoneId
from stackward.model.outcome import Outcome
from stackward.model.plan import ActionName


class EntryKind(StrEnum):
    """What happened."""

    INTENT = "intent"
    BEGUN = "begun"
    ACCEPTED = "accepted"
    OUTCOME = "outcome"
    WOULD_HAVE = "would-have"
    EPISODE_OPENED = "episode-opened"
    EPISODE_CLOSED = "episode-closed"
    ESCALATED = "escalated"
    PAUSED = "paused"
    RESUMED = "resumed"
    DEMOTED = "demoted"  # a promise was broken; the daemon only advises until a person clears it
    CLEARED = "cleared"
    HOST_KEY_PINNED = "host-key-pinned"
    HOST_KEY_FORGOTTEN = "host-key-forgotten"
    STARTED = "started"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row. Fields that a kind has no use for stay None.

    `text` is a sentence for people; `evidence` what it rests on. Secrets never get here: whoever
    builds an entry passes remote text through redaction first.
    """

    kind: EntryKind
    at: datetime
    text: str
    target_id: TargetId | None = None
    target_name: str | None = None
    zone_id: ZoneId | None = None
    intent_id: IntentId | None = None
    episode_id: str | None = None
    action: ActionName | None = None
    diagnosis: DiagnosisCode | None = None
    rule: str | None = None
    rung: int | None = None
    attempt: int | None = None
    marks: GuestMarks | None = None
    log_position: LogPosition | None = None
    verify_within_seconds: float | None = None
    job_id: JobId | None = None
    outcome: Outcome | None = None
    evidence: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry with its place in the journal; `sequence` counts from 1 without holes."""

    sequence: int
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenIntent:
    """An intent without an outcome, as found at start."""

    intent: Entry
    begun: Entry | None = None
    accepted: Entry | None = None
