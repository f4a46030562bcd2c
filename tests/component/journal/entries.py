"""Builders of entries: one step's life, row by row."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from stackward.core.state import LogMemory
from stackward.model.diagnosis import DiagnosisCode
from stackward.model.entry import Entry, EntryKind
from stackward.model.guest import GuestMarks, LogPosition
from stackward.model.identity import IntentId, JobId, TargetId, ZoneId
from stackward.model.outcome import Outcome, OutcomeKind
from stackward.model.plan import ActionName
from stackward.model.sighting import EventClass
from tests.fakes.clock import EPOCH


def a_position(offset: int = 100, generation: int = 1) -> LogPosition:
    return LogPosition(
        device_inode="64:12",
        fingerprint="f00d",
        fingerprint_bytes=256,
        generation=generation,
        offset=offset,
    )


def a_log(offset: int = 100, generation: int = 1, **changes: Any) -> LogMemory:
    """What the journal keeps of a log."""
    log = LogMemory(
        read_to=a_position(offset, generation),
        counts={EventClass.AGENT_READY: 2, EventClass.OOM: 1},
        gaps=3,
        gap_bytes=4096,
        ready_position=a_position(7),
        ready_seen_at=EPOCH,
    )
    return replace(log, **changes)


def an_entry(
    kind: EntryKind = EntryKind.INTENT, intent: str | None = "intent-1", **changes: Any
) -> Entry:
    entry = Entry(
        kind=kind,
        at=EPOCH,
        text="restart the agent of v-2-VM: its unit failed",
        target_id=TargetId("uuid-2"),
        target_name="v-2-VM",
        zone_id=ZoneId("zone-1"),
        intent_id=None if intent is None else IntentId(intent),
        episode_id="episode-1",
        action=ActionName.RESTART_AGENT,
        diagnosis=DiagnosisCode.AGENT_DOWN,
        rule="revive",
        rung=0,
        attempt=1,
        marks=GuestMarks(boot_id="boot-1", invocation_id="a" * 32, agent_pid=None),
        log_position=a_position(),
        verify_within_seconds=180.0,
        evidence=("unit failed", "API says Disconnected"),
    )
    return replace(entry, **changes)


def an_outcome(
    intent: str = "intent-1", kind: OutcomeKind = OutcomeKind.SUCCEEDED, **changes: Any
) -> Entry:
    entry = an_entry(EntryKind.OUTCOME, intent, outcome=Outcome(kind, "ready again"))
    return replace(entry, **changes)


def an_accepted(intent: str = "intent-1") -> Entry:
    return an_entry(EntryKind.ACCEPTED, intent, job_id=JobId("job-1"))


def an_episode_row(kind: EntryKind, episode: str, days_ago: float = 0) -> Entry:
    return Entry(
        kind=kind,
        at=EPOCH - timedelta(days=days_ago),
        text="episode",
        target_id=TargetId("uuid-2"),
        episode_id=episode,
    )
