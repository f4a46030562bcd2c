"""The SQL, all of it constant text. Every listing has a limit."""

import sqlite3
from collections.abc import Iterable

from stackward.journal.codec import COLUMNS, Row
from stackward.model.identity import TemplateId
from stackward.ports import EntryFilter

LISTING_ROWS_MAX = 10_000
HISTORY_ROWS_MAX = 200_000  # the newest; as many as retention keeps by default
OPEN_ROWS_MAX = 10_000

_INSERT_ENTRY = """
INSERT INTO entries (kind, at, target_id, target_name, zone_id, intent_id, episode_id, action,
    outcome, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_IS_OPEN_INTENT = """
intent_id IS NOT NULL AND kind IN ('intent', 'begun', 'accepted') AND NOT EXISTS
    (SELECT 1 FROM entries AS closing WHERE closing.intent_id = entries.intent_id
        AND closing.kind IN ('outcome', 'would-have'))
"""

_IS_OPEN_EPISODE = """
episode_id IS NOT NULL AND NOT EXISTS
    (SELECT 1 FROM entries AS closing WHERE closing.episode_id = entries.episode_id
        AND closing.kind = 'episode-closed')
"""

_IS_NEWEST_DEMOTION = """
sequence = (SELECT max(sequence) FROM entries WHERE kind IN ('demoted', 'cleared'))
"""


def insert_entry(connection: sqlite3.Connection, row: Row) -> int:
    """Insert one encoded entry. Returns its sequence."""
    sequence = connection.execute(_INSERT_ENTRY, row).lastrowid
    if sequence is None:
        raise sqlite3.DatabaseError("no row number came back")
    return sequence


def select(connection: sqlite3.Connection, entry_filter: EntryFilter) -> list[Row]:
    """The rows that a filter lets through."""
    conditions, values = ["sequence > ?"], [entry_filter.after_sequence]
    parameters: list[object] = list(values)
    if entry_filter.target is not None:
        conditions.append("(target_id = ? OR target_name = ?)")
        parameters += [entry_filter.target, entry_filter.target]
    if entry_filter.intent_id is not None:
        conditions.append("intent_id = ?")
        parameters.append(entry_filter.intent_id)
    if entry_filter.kinds is not None:
        conditions.append(f"kind IN ({', '.join('?' * len(entry_filter.kinds))})")
        parameters += sorted(kind.value for kind in entry_filter.kinds)
    order = "DESC" if entry_filter.newest_first else "ASC"
    parameters.append(max(0, min(entry_filter.limit, LISTING_ROWS_MAX)))
    return connection.execute(
        f"SELECT {COLUMNS} FROM entries WHERE {' AND '.join(conditions)}"
        f" ORDER BY sequence {order} LIMIT ?",
        parameters,
    ).fetchall()


def select_history(connection: sqlite3.Connection, since: str) -> list[Row]:
    """Oldest first: rows since a moment, and those that matter however old they are."""
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM entries WHERE at >= ? OR ({_IS_OPEN_INTENT})"
        f" OR ({_IS_OPEN_EPISODE}) OR ({_IS_NEWEST_DEMOTION}) ORDER BY sequence DESC LIMIT ?",
        (since, HISTORY_ROWS_MAX),
    ).fetchall()
    rows.reverse()
    return rows


def select_open_intents(connection: sqlite3.Connection) -> list[Row]:
    """All rows of intents without outcome, oldest first."""
    return connection.execute(
        f"SELECT {COLUMNS} FROM entries WHERE {_IS_OPEN_INTENT} ORDER BY sequence LIMIT ?",
        (OPEN_ROWS_MAX,),
    ).fetchall()


def select_logs(connection: sqlite3.Connection) -> list[Row]:
    """Name, the five columns of a position, effects."""
    return connection.execute(
        "SELECT name, device_inode, fingerprint, fingerprint_bytes, generation, offset, effects"
        " FROM logs"
    ).fetchall()


def upsert_logs(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Write logs over older ones."""
    connection.executemany("INSERT OR REPLACE INTO logs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)


def select_keys(connection: sqlite3.Connection, template_id: TemplateId) -> list[Row]:
    """The pinned keys of a template."""
    return connection.execute(
        "SELECT key FROM host_keys WHERE template_id = ?", (template_id,)
    ).fetchall()


def insert_key(connection: sqlite3.Connection, values: Row) -> bool:
    """Pin a key. False: it was there."""
    cursor = connection.execute("INSERT OR IGNORE INTO host_keys VALUES (?, ?, ?, ?)", values)
    return cursor.rowcount > 0


def delete_keys(connection: sqlite3.Connection, template_id: TemplateId) -> int:
    """Forget the keys of a template. Returns how many."""
    return connection.execute(
        "DELETE FROM host_keys WHERE template_id = ?", (template_id,)
    ).rowcount
