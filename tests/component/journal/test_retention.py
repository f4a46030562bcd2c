"""What is forgotten, and what never is."""

from datetime import timedelta
from pathlib import Path

import pytest

from stackward.journal import retention
from stackward.journal.retention import Retention
from stackward.journal.store import SqliteJournal
from stackward.model.entry import Entry, EntryKind
from stackward.model.identity import TargetId
from stackward.ports import EntryFilter
from tests.component.journal.entries import a_log, an_entry, an_episode_row, an_outcome
from tests.fakes.clock import EPOCH, FixedClock

OLD = EPOCH - timedelta(days=100)
KEEP = Retention(age=timedelta(days=90), rows_max=1000)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
async def journal(tmp_path: Path, clock: FixedClock):
    journal = SqliteJournal(tmp_path / "journal.db", clock, deadline_seconds=25.0)
    await journal.open()
    yield journal
    await journal.close()


async def sequences(journal: SqliteJournal) -> list[int]:
    stored = await journal.entries(EntryFilter(limit=5000, newest_first=False))
    return [row.sequence for row in stored]


async def test_old_rows_go_and_new_rows_stay(journal: SqliteJournal):
    await journal.append(an_entry(intent="old", at=OLD, episode_id=None))
    await journal.append(an_outcome(intent="old", at=OLD, episode_id=None))
    await journal.append(an_entry(intent="new", episode_id=None))
    await journal.append(an_outcome(intent="new", episode_id=None))
    assert await journal.prune(KEEP) == 2
    assert await sequences(journal) == [3, 4]


async def test_the_newest_row_of_a_target_stays_however_old(journal: SqliteJournal):
    await journal.append(an_entry(intent="old", at=OLD, episode_id=None))
    await journal.append(an_outcome(intent="old", at=OLD, episode_id=None))
    other = TargetId("other")
    await journal.append(an_outcome(intent="x", at=EPOCH, episode_id=None, target_id=other))
    await journal.append(
        an_entry(EntryKind.INTENT, "x", at=EPOCH, target_id=other, episode_id=None)
    )
    assert await journal.prune(KEEP) == 1
    assert await sequences(journal) == [2, 3, 4]


async def test_open_intents_and_open_episodes_are_never_forgotten(journal: SqliteJournal):
    await journal.append(an_entry(intent="open", at=OLD, episode_id=None))
    await journal.append(an_entry(EntryKind.BEGUN, "open", at=OLD, episode_id=None))
    await journal.append(an_episode_row(EntryKind.EPISODE_OPENED, "open", days_ago=100))
    await journal.append(an_entry(intent="in-it", at=OLD, episode_id="open"))
    await journal.append(an_outcome(intent="in-it", at=OLD, episode_id="open"))
    await journal.append(an_episode_row(EntryKind.EPISODE_OPENED, "closed", days_ago=100))
    await journal.append(an_episode_row(EntryKind.EPISODE_CLOSED, "closed", days_ago=100))
    await journal.append(an_episode_row(EntryKind.EPISODE_CLOSED, "newest"))
    await journal.append(an_episode_row(EntryKind.EPISODE_OPENED, "newest"))
    assert await journal.prune(KEEP) == 2
    assert await sequences(journal) == [1, 2, 3, 4, 5, 8, 9]
    assert len(await journal.open_intents()) == 1


async def test_a_demotion_is_never_forgotten_before_it_is_cleared(journal: SqliteJournal):
    await journal.append(Entry(kind=EntryKind.DEMOTED, at=OLD, text="promise 4"))
    await journal.append(an_entry(intent=None, episode_id=None))
    assert await journal.prune(KEEP) == 0


async def test_too_many_rows_are_forgotten_oldest_first_in_batches(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(retention, "BATCH_ROWS", 7)
    monkeypatch.setattr("stackward.journal.store.BATCH_ROWS", 7)
    for number in range(60):
        await journal.append(an_outcome(intent=f"i{number}", episode_id=None))
    assert await journal.prune(Retention(age=timedelta(days=90), rows_max=10)) == 50
    assert await sequences(journal) == list(range(51, 61))
    assert await journal.append(an_entry()) == 61


async def test_logs_that_nobody_saves_any_more_are_forgotten(
    journal: SqliteJournal, clock: FixedClock
):
    await journal.save_logs({"gone": a_log()})
    clock.moment += timedelta(days=8)
    await journal.save_logs({"here": a_log()})
    await journal.prune(KEEP)
    assert list(await journal.logs()) == ["here"]
