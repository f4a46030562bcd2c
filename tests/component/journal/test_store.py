"""The journal keeps what it has acknowledged, and tells what it cannot."""

import asyncio
import os
import sqlite3
import stat
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from stackward.core.state import LogMemory
from stackward.errors import JournalError
from stackward.journal import worker
from stackward.journal.schema import APPLICATION_ID, MIGRATIONS, NEWEST_VERSION, NewerSchema
from stackward.journal.store import SqliteJournal
from stackward.model.entry import Entry, EntryKind
from stackward.model.identity import TargetId, TemplateId
from stackward.model.outcome import OutcomeKind
from stackward.model.sighting import EventClass
from stackward.ports import EntryFilter
from tests.component.journal.entries import (
    a_log,
    a_position,
    an_accepted,
    an_entry,
    an_episode_row,
    an_outcome,
)
from tests.fakes.clock import EPOCH, FixedClock

DEADLINE = 25.0  # a loaded machine is no reason to fail


@pytest.fixture
async def journal(tmp_path: Path):
    journal = SqliteJournal(tmp_path / "journal.db", FixedClock(), deadline_seconds=DEADLINE)
    await journal.open()
    yield journal
    await journal.close()


def execute(path: Path, *statements: str) -> None:
    """Somebody else's hand in the file."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


async def test_an_entry_comes_back_as_it_was_written(journal: SqliteJournal):
    written = [
        an_entry(),
        an_entry(EntryKind.BEGUN),
        an_accepted(),
        an_outcome(),
        Entry(kind=EntryKind.STARTED, at=EPOCH, text="ünïcode \x00 and control"),
    ]
    sequences = [await journal.append(entry) for entry in written]
    stored = await journal.entries(EntryFilter(newest_first=False))
    assert sequences == [1, 2, 3, 4, 5]
    assert [row.sequence for row in stored] == sequences
    assert [row.entry for row in stored] == written


async def test_entries_survive_closing_and_opening(tmp_path: Path):
    path = tmp_path / "journal.db"
    first = SqliteJournal(path, FixedClock(), deadline_seconds=DEADLINE)
    await first.append(an_entry())
    await first.close()
    second = SqliteJournal(path, FixedClock(), deadline_seconds=DEADLINE)
    assert await second.append(an_outcome()) == 2
    assert len(await second.entries(EntryFilter())) == 2
    await second.close()


async def test_filters_choose_by_target_name_kind_intent_and_place(journal: SqliteJournal):
    await journal.append(an_entry(intent="a"))
    await journal.append(an_entry(EntryKind.BEGUN, intent="a"))
    await journal.append(an_entry(intent="b", target_id=TargetId("uuid-9"), target_name="s-9-VM"))

    async def sequences(**filters) -> list[int]:
        return [row.sequence for row in await journal.entries(EntryFilter(**filters))]

    assert await sequences() == [3, 2, 1]
    assert await sequences(target="v-2-VM") == [2, 1]
    assert await sequences(target="uuid-9") == [3]
    assert await sequences(intent_id="a", newest_first=False) == [1, 2]
    assert await sequences(kinds=frozenset({EntryKind.BEGUN})) == [2]
    assert await sequences(kinds=frozenset()) == []
    assert await sequences(after_sequence=2) == [3]
    assert await sequences(limit=1) == [3]
    assert await sequences(limit=-1) == []


async def test_an_intent_is_open_until_its_outcome(journal: SqliteJournal):
    await journal.append(an_entry(intent="only-intent"))
    await journal.append(an_entry(intent="begun"))
    await journal.append(an_entry(EntryKind.BEGUN, intent="begun"))
    await journal.append(an_entry(intent="accepted"))
    await journal.append(an_entry(EntryKind.BEGUN, intent="accepted"))
    await journal.append(an_accepted(intent="accepted"))
    await journal.append(an_entry(intent="done"))
    await journal.append(an_outcome(intent="done"))
    await journal.append(an_entry(intent="advised"))
    await journal.append(an_entry(EntryKind.WOULD_HAVE, intent="advised"))
    found = {intent.intent.intent_id: intent for intent in await journal.open_intents()}
    assert list(found) == ["only-intent", "begun", "accepted"]
    assert [
        (intent.begun is not None, intent.accepted is not None) for intent in found.values()
    ] == [(False, False), (True, False), (True, True)]


async def test_history_holds_open_episodes_and_a_demotion_however_old(journal: SqliteJournal):
    rows = [
        an_episode_row(EntryKind.EPISODE_OPENED, "closed-long-ago", days_ago=40),
        an_episode_row(EntryKind.EPISODE_CLOSED, "closed-long-ago", days_ago=40),
        an_episode_row(EntryKind.EPISODE_OPENED, "open", days_ago=40),
        an_entry(intent="in-it", at=EPOCH - timedelta(days=39), episode_id="open"),
        Entry(kind=EntryKind.DEMOTED, at=EPOCH - timedelta(days=30), text="promise 4 broken"),
        an_entry(intent="new", at=EPOCH, episode_id=None),
    ]
    for row in rows:
        await journal.append(row)
    history = await journal.history(EPOCH - timedelta(days=1))
    assert [stored.sequence for stored in history] == [3, 4, 5, 6]


async def test_a_log_comes_back_with_what_its_lines_did(tmp_path: Path):
    path = tmp_path / "journal.db"
    first = SqliteJournal(path, FixedClock(), deadline_seconds=DEADLINE)
    await first.save_logs({"one": a_log(), "two": a_log(5, generation=2)})
    await first.save_logs({"one": a_log(9, counts={}, ready_position=None, ready_seen_at=None)})
    await first.close()
    second = SqliteJournal(path, FixedClock(), deadline_seconds=DEADLINE)
    assert await second.logs() == {
        "one": a_log(9, counts={}, ready_position=None, ready_seen_at=None),
        "two": a_log(5, generation=2),
    }
    await second.close()


@pytest.mark.parametrize(
    "effects",
    ["", "[]", "{", '{"counts": 1}', '{"gaps": "x"}', '{"ready_seen_at": "now"}', "[" * 100_000],
)
async def test_effects_that_cannot_be_read_cost_the_counts_and_not_the_place(
    journal: SqliteJournal, tmp_path: Path, effects: str
):
    await journal.save_logs({"one": a_log()})
    execute(tmp_path / "journal.db", f"UPDATE logs SET effects = '{effects}'")
    assert await journal.logs() == {"one": LogMemory(read_to=a_position())}
    assert journal.unreadable_rows == 1


async def test_a_class_of_events_that_is_not_known_any_more_costs_its_counter_alone(
    journal: SqliteJournal, tmp_path: Path
):
    await journal.save_logs({"one": a_log()})
    told = '{"counts": {"agent_ready": 2, "of_old": 7}}'
    execute(tmp_path / "journal.db", f"UPDATE logs SET effects = '{told}'")
    assert (await journal.logs())["one"].counts == {EventClass.AGENT_READY: 2}
    assert journal.unreadable_rows == 0


async def test_a_place_that_cannot_be_read_is_no_place(journal: SqliteJournal, tmp_path: Path):
    await journal.save_logs({"one": a_log()})
    execute(tmp_path / "journal.db", "UPDATE logs SET offset = 'far'")
    assert await journal.logs() == {}
    assert journal.unreadable_rows == 1


async def test_a_file_of_the_first_version_keeps_its_entries_and_places(tmp_path: Path):
    path = tmp_path / "journal.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("CREATE TABLE schema_version (version INTEGER PRIMARY KEY)")
    MIGRATIONS[0](connection)
    connection.execute("INSERT INTO schema_version VALUES (1)")
    connection.execute(
        "INSERT INTO log_positions VALUES ('uuid-2', '64:12', 'f00d', 256, 1, 100, '2026-01-01')"
    )
    connection.close()
    journal = SqliteJournal(path, FixedClock(), deadline_seconds=DEADLINE)
    await journal.open()
    assert await journal.logs() == {"uuid-2": LogMemory(read_to=a_position())}
    assert await journal.append(an_entry()) == 1
    await journal.close()


async def test_host_keys_are_pinned_journalled_and_forgotten_by_template(journal: SqliteJournal):
    template = TemplateId("template-1")
    await journal.pin(template, "ssh-rsa AAAA", first_seen_on="v-2-VM")
    await journal.pin(template, "ssh-rsa AAAA", first_seen_on="s-1-VM")
    await journal.pin(template, "ssh-ed25519 BBBB", first_seen_on="v-2-VM")
    assert await journal.pinned(template) == {"ssh-rsa AAAA", "ssh-ed25519 BBBB"}
    assert await journal.pinned(TemplateId("other")) == frozenset()
    assert await journal.forget(template) == 2
    assert await journal.forget(template) == 0
    assert await journal.pinned(template) == frozenset()
    kinds = [row.entry.kind for row in await journal.entries(EntryFilter(newest_first=False))]
    assert kinds == [EntryKind.HOST_KEY_PINNED] * 2 + [EntryKind.HOST_KEY_FORGOTTEN]


async def test_a_thousand_appends_at_once_are_all_there_without_holes(journal: SqliteJournal):
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(journal.append(an_entry(intent=f"intent-{number}")))
            for number in range(1000)
        ]
    assert sorted(task.result() for task in tasks) == list(range(1, 1001))
    stored = await journal.entries(EntryFilter(limit=2000, newest_first=False))
    by_sequence = {row.sequence: row.entry.intent_id for row in stored}
    assert by_sequence == {task.result(): f"intent-{number}" for number, task in enumerate(tasks)}


async def test_the_file_is_for_its_owner_alone(tmp_path: Path):
    path = tmp_path / "journal.db"
    path.touch(mode=0o644)
    journal = SqliteJournal(path, FixedClock(), deadline_seconds=DEADLINE)
    await journal.append(an_entry())
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    await journal.close()
    assert "journal.db-wal" in modes
    assert set(modes.values()) == {0o600}


async def test_a_file_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path):
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path, FixedClock(), deadline_seconds=DEADLINE)
    await journal.append(an_entry())
    await journal.close()
    execute(path, f"INSERT INTO schema_version VALUES ({NEWEST_VERSION + 1})")
    before = path.read_bytes()
    newer = SqliteJournal(path, FixedClock(), deadline_seconds=DEADLINE)
    with pytest.raises(NewerSchema, match="newer"):
        await newer.open()
    with pytest.raises(NewerSchema):
        await newer.append(an_entry())
    await newer.close()
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database at all\n" * 400, b"SQLite format 3\x00" * 90])
async def test_a_broken_file_is_an_error_and_works_again_once_moved_away(
    tmp_path: Path, content: bytes
):
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    journal = SqliteJournal(path, FixedClock(), deadline_seconds=DEADLINE)
    with pytest.raises(JournalError, match=r"journal\.db"):
        await journal.open()
    with pytest.raises(JournalError):
        await journal.append(an_entry())
    with pytest.raises(JournalError):
        await journal.open_intents()
    assert path.read_bytes() == content
    path.unlink()
    assert await journal.append(an_entry()) == 1
    assert len(await journal.open_intents()) == 1
    await journal.close()


async def test_somebody_elses_database_is_refused_and_left_alone(tmp_path: Path):
    path = tmp_path / "journal.db"
    execute(path, "CREATE TABLE entries (sequence INTEGER)")
    before = path.read_bytes()
    journal = SqliteJournal(path, FixedClock(), deadline_seconds=DEADLINE)
    with pytest.raises(JournalError, match="not a stackward journal"):
        await journal.open()
    await journal.close()
    assert path.read_bytes() == before


async def test_a_missing_directory_is_an_error_and_not_made(tmp_path: Path):
    journal = SqliteJournal(tmp_path / "no" / "journal.db", FixedClock(), deadline_seconds=DEADLINE)
    with pytest.raises(JournalError):
        await journal.append(an_entry())
    (tmp_path / "no").mkdir()
    assert await journal.append(an_entry()) == 1
    await journal.close()


async def test_damage_in_the_middle_of_a_file_is_an_error_not_a_crash(tmp_path: Path):
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path, FixedClock(), deadline_seconds=DEADLINE)
    for number in range(50):
        await journal.append(an_entry(intent=f"intent-{number}", text="x" * 1000))
    await journal.close()
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    damaged = SqliteJournal(path, FixedClock(), deadline_seconds=DEADLINE)
    with pytest.raises(JournalError):
        await damaged.open_intents()
    await damaged.close()


async def test_an_unreadable_row_of_an_open_intent_is_named(journal: SqliteJournal, tmp_path: Path):
    await journal.append(an_entry(intent="fine"))
    await journal.append(an_entry(intent="broken"))
    execute(tmp_path / "journal.db", "UPDATE entries SET body = '{' WHERE sequence = 2")
    with pytest.raises(JournalError, match="row 2 belongs to the open intent broken"):
        await journal.open_intents()


async def test_a_broken_body_does_not_open_a_closed_intent_again(
    journal: SqliteJournal, tmp_path: Path
):
    await journal.append(an_entry())
    await journal.append(an_outcome())
    execute(tmp_path / "journal.db", "UPDATE entries SET body = '[]'")
    assert await journal.open_intents() == ()


async def test_a_listing_keeps_the_columns_of_a_broken_body_and_skips_broken_columns(
    journal: SqliteJournal, tmp_path: Path
):
    for kind in (EntryKind.INTENT, EntryKind.BEGUN, EntryKind.STARTED):
        await journal.append(an_entry(kind))
    await journal.append(an_outcome(kind=OutcomeKind.UNKNOWN))
    execute(
        tmp_path / "journal.db",
        "UPDATE entries SET body = '{\"text\": 7}' WHERE kind IN ('begun', 'outcome')",
        "UPDATE entries SET kind = 'from-the-future' WHERE sequence = 1",
        "UPDATE entries SET at = 'yesterday' WHERE sequence = 3",
    )
    stored = await journal.entries(EntryFilter(newest_first=False))
    assert [row.sequence for row in stored] == [2, 4]
    begun, outcome = (row.entry for row in stored)
    assert (begun.kind, begun.at, begun.action) == (EntryKind.BEGUN, EPOCH, an_entry().action)
    assert outcome.outcome is not None
    assert outcome.outcome.kind is OutcomeKind.UNKNOWN
    assert journal.unreadable_rows == 4


async def test_a_read_only_journal_reads_beside_a_writer_and_writes_nothing(
    journal: SqliteJournal, tmp_path: Path
):
    await journal.append(an_entry())
    reader = SqliteJournal(
        tmp_path / "journal.db", FixedClock(), read_only=True, deadline_seconds=DEADLINE
    )
    await reader.open()
    assert len(await reader.entries(EntryFilter())) == 1
    await journal.append(an_outcome())
    assert len(await reader.entries(EntryFilter())) == 2
    with pytest.raises(JournalError, match="read only"):
        await reader.append(an_entry())
    await reader.close()


async def test_a_read_only_journal_does_not_make_a_file(tmp_path: Path):
    reader = SqliteJournal(
        tmp_path / "journal.db", FixedClock(), read_only=True, deadline_seconds=DEADLINE
    )
    with pytest.raises(JournalError):
        await reader.open()
    await reader.close()
    assert list(tmp_path.iterdir()) == []


async def test_a_call_ends_by_its_deadline_and_what_had_not_begun_is_never_written(
    tmp_path: Path,
):
    path = tmp_path / "journal.db"
    patient = SqliteJournal(path, FixedClock(), deadline_seconds=DEADLINE)
    await patient.open()
    hasty = SqliteJournal(path, FixedClock(), deadline_seconds=DEADLINE)
    await hasty.open()
    hasty._deadline = 0.05
    go_on, is_stuck = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def block(connection: sqlite3.Connection) -> None:
        loop.call_soon_threadsafe(is_stuck.set)
        go_on.wait(DEADLINE)

    async with asyncio.TaskGroup() as group:
        blocking = group.create_task(hasty._writer.do(block, deadline=DEADLINE))
        await is_stuck.wait()
        with pytest.raises(JournalError, match="did not answer"):
            await hasty.append(an_entry())
        go_on.set()
        await blocking
    hasty._deadline = DEADLINE
    await hasty.append(an_outcome())
    assert [row.entry.kind for row in await patient.entries(EntryFilter())] == [EntryKind.OUTCOME]
    await hasty.close()
    await patient.close()


async def test_a_full_queue_refuses_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "QUEUE_MAX", 3)
    journal = SqliteJournal(tmp_path / "journal.db", FixedClock(), deadline_seconds=DEADLINE)
    await journal.open()
    go_on, is_stuck = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def block(connection: sqlite3.Connection) -> None:
        loop.call_soon_threadsafe(is_stuck.set)
        go_on.wait(DEADLINE)

    async with asyncio.TaskGroup() as group:
        group.create_task(journal._writer.do(block, deadline=DEADLINE))
        await is_stuck.wait()
        waiting = [group.create_task(journal.append(an_entry())) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(JournalError, match="wait for the journal"):
            await journal.append(an_entry())
        go_on.set()
    assert sorted(task.result() for task in waiting) == [1, 2, 3]
    await journal.close()


async def test_a_closed_journal_says_so(tmp_path: Path):
    journal = SqliteJournal(tmp_path / "journal.db", FixedClock(), deadline_seconds=DEADLINE)
    await journal.append(an_entry())
    await journal.close()
    with pytest.raises(JournalError, match="closed"):
        await journal.append(an_entry())


async def test_long_texts_are_cut(journal: SqliteJournal):
    await journal.append(an_entry(text="x" * 100_000, evidence=("y" * 100_000,) * 100))
    (stored,) = await journal.entries(EntryFilter())
    assert len(stored.entry.text) == 4000
    assert len(stored.entry.evidence) == 32
