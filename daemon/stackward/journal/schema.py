"""The tables, and the way from each version to the next.

One function per version; a function that has been released is never edited. What is queried is a
typed column, the rest of an entry is one JSON text. No entry is decoded here.
"""

import sqlite3
from collections.abc import Callable

from stackward.errors import JournalError

APPLICATION_ID = 0x53574A31  # "SWJ1" in the file's header: tells our file from any other SQLite


class NewerSchema(JournalError):
    """The file was written by a newer program. Nothing in it may be touched."""


def _version_1(connection: sqlite3.Connection) -> None:
    """Entries, log positions, host keys.

    AUTOINCREMENT: a number is not given twice, even after the newest rows were pruned.
    """
    connection.execute(
        """
        CREATE TABLE entries (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            at TEXT NOT NULL,
            target_id TEXT,
            target_name TEXT,
            zone_id TEXT,
            intent_id TEXT,
            episode_id TEXT,
            action TEXT,
            outcome TEXT,
            body TEXT NOT NULL
        )
        """
    )
    connection.execute("CREATE INDEX entries_by_kind ON entries (kind, sequence)")
    connection.execute("CREATE INDEX entries_by_at ON entries (at)")
    connection.execute("CREATE INDEX entries_by_target ON entries (target_id, sequence)")
    connection.execute("CREATE INDEX entries_by_name ON entries (target_name, sequence)")
    connection.execute("CREATE INDEX entries_by_intent ON entries (intent_id, kind)")
    connection.execute("CREATE INDEX entries_by_episode ON entries (episode_id, kind)")
    connection.execute(
        """
        CREATE TABLE log_positions (
            target_id TEXT PRIMARY KEY,
            device_inode TEXT NOT NULL,
            fingerprint TEXT NOT NULL,
            fingerprint_bytes INTEGER NOT NULL,
            generation INTEGER NOT NULL,
            offset INTEGER NOT NULL,
            saved_at TEXT NOT NULL
        ) WITHOUT ROWID
        """
    )
    connection.execute(
        """
        CREATE TABLE host_keys (
            template_id TEXT NOT NULL,
            key TEXT NOT NULL,
            first_seen_on TEXT NOT NULL,
            pinned_at TEXT NOT NULL,
            PRIMARY KEY (template_id, key)
        ) WITHOUT ROWID
        """
    )


def _version_2(connection: sqlite3.Connection) -> None:
    """A log's place together with what its lines have done; logs outside VMs, by their names."""
    connection.execute(
        """
        CREATE TABLE logs (
            name TEXT PRIMARY KEY,
            device_inode TEXT NOT NULL,
            fingerprint TEXT NOT NULL,
            fingerprint_bytes INTEGER NOT NULL,
            generation INTEGER NOT NULL,
            offset INTEGER NOT NULL,
            effects TEXT NOT NULL,
            saved_at TEXT NOT NULL
        ) WITHOUT ROWID
        """
    )
    connection.execute(
        """
        INSERT INTO logs SELECT target_id, device_inode, fingerprint, fingerprint_bytes, generation,
            offset, '{}', saved_at FROM log_positions
        """
    )
    connection.execute("DROP TABLE log_positions")


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_version_1, _version_2)
NEWEST_VERSION = len(MIGRATIONS)


def version_of(connection: sqlite3.Connection) -> int:
    """The version of the file; 0 for one without tables. Refuses what is not our file."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if not tables:
        return 0
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID or "schema_version" not in tables:
        raise JournalError("it is an SQLite file, but not a stackward journal")
    (version,) = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    if not isinstance(version, int):
        raise JournalError("its schema version cannot be read")
    if version > NEWEST_VERSION:
        raise NewerSchema(
            f"its schema version is {version} and this program knows {NEWEST_VERSION} at most:"
            " a newer stackward has written it"
        )
    return version


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to the newest version, all in one transaction or not at all."""
    if version_of(connection) == NEWEST_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = version_of(connection)  # again, now that nobody else can write
        if found == 0:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("CREATE TABLE schema_version (version INTEGER PRIMARY KEY)")
        for version in range(found + 1, NEWEST_VERSION + 1):
            MIGRATIONS[version - 1](connection)
            connection.execute("INSERT INTO schema_version VALUES (?)", (version,))
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
