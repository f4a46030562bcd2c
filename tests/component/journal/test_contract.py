"""One set of claims for the journal and for the fake that stands for it elsewhere."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from stackward.core.state import LogMemory
from stackward.journal.store import SqliteJournal
from stackward.model.entry import Entry, EntryKind
from stackward.model.identity import TargetId
from stackward.model.outcome import OutcomeKind
from stackward.model.sighting import EventClass, Severity, Sighting
from stackward.ports import EntryFilter, Journal
from tests.component.journal.entries import (
    a_log,
    a_position,
    an_accepted,
    an_entry,
    an_episode_row,
    an_outcome,
)
from tests.fakes.clock import EPOCH, FixedClock
from tests.fakes.journal import MemoryJournal

ROWS = [
    Entry(kind=EntryKind.DEMOTED, at=EPOCH - timedelta(days=50), text="promise 4"),
    Entry(kind=EntryKind.CLEARED, at=EPOCH - timedelta(days=49), text="by a person"),
    an_episode_row(EntryKind.EPISODE_OPENED, "old", days_ago=40),
    an_entry(intent="old", at=EPOCH - timedelta(days=40), episode_id="old"),
    an_outcome(intent="old", at=EPOCH - timedelta(days=40), episode_id="old"),
    an_episode_row(EntryKind.EPISODE_CLOSED, "old", days_ago=40),
    an_entry(intent="forgotten", at=EPOCH - timedelta(days=40), episode_id="old"),
    an_entry(EntryKind.BEGUN, "forgotten", at=EPOCH - timedelta(days=40), episode_id="old"),
    an_entry(intent="advised", episode_id=None),
    an_entry(EntryKind.WOULD_HAVE, "advised", episode_id=None),
    an_entry(intent="open", target_id=TargetId("uuid-3"), target_name="s-3-VM"),
    an_entry(EntryKind.BEGUN, "open", target_id=TargetId("uuid-3"), target_name="s-3-VM"),
    an_accepted("open"),
    an_outcome("unknown", OutcomeKind.UNKNOWN),
]
FILTERS = [
    EntryFilter(),
    EntryFilter(limit=3),
    EntryFilter(limit=0),
    EntryFilter(newest_first=False),
    EntryFilter(after_sequence=9, newest_first=False, limit=2),
    EntryFilter(target="s-3-VM"),
    EntryFilter(target="uuid-2"),
    EntryFilter(intent_id="open"),
    EntryFilter(kinds=frozenset({EntryKind.BEGUN, EntryKind.OUTCOME})),
    EntryFilter(target="v-2-VM", kinds=frozenset({EntryKind.INTENT}), newest_first=False),
]


@pytest.fixture(params=["sqlite", "memory"])
async def journal(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Journal]:
    made: Journal = MemoryJournal()
    if request.param == "sqlite":
        made = SqliteJournal(tmp_path / "journal.db", FixedClock(), deadline_seconds=25.0)
    yield made
    await made.close()


async def test_both_tell_the_same(journal: Journal):
    model = MemoryJournal()
    for row in ROWS:
        assert await journal.append(row) == await model.append(row)
    for entry_filter in FILTERS:
        assert await journal.entries(entry_filter) == await model.entries(entry_filter)
    assert await journal.open_intents() == await model.open_intents()
    for days in (0, 10, 45, 100):
        since = EPOCH - timedelta(days=days)
        assert await journal.history(since) == await model.history(since)
    history = await journal.history(EPOCH)
    assert [stored.sequence for stored in history] == [2, 7, 8, 9, 10, 11, 12, 13, 14]


async def test_both_keep_what_the_lines_of_a_log_did_and_write_it_over(journal: Journal):
    sighting = Sighting(
        event=EventClass.OOM,
        severity=Severity.ERROR,
        pattern="p",
        text="a line",
        line_start=a_position(),
        seen_at=EPOCH,
    )
    passing = a_log(5, position=a_position(9), told_at=EPOCH, recent=(sighting,))
    await journal.save_logs({"one": a_log(1), "management-server.log": a_log(2)})
    await journal.save_logs({"one": passing, "never read": LogMemory()})
    assert await journal.logs() == {"one": a_log(5), "management-server.log": a_log(2)}
