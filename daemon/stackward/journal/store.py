"""`SqliteJournal`: the Journal and HostKeys ports over one SQLite file.

WAL with `synchronous=FULL`: a commit costs one sync, and what `append` returned from survives
kill -9 and loss of power. Opened lazily and anew after trouble: a full disk or a broken file makes
every call raise JournalError, and calls work again as soon as the cause is gone.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from stackward.core.state import LogMemory
from stackward.errors import JournalError
from stackward.journal import queries
from stackward.journal.codec import (
    Decoded,
    Row,
    UnreadableRow,
    decode,
    decode_log,
    encode,
    encode_log,
    moment_text,
)
from stackward.journal.retention import BATCH_ROWS, Retention, prune_batch
from stackward.journal.schema import migrate, version_of
from stackward.journal.worker import Worker
from stackward.model.entry import Entry, EntryKind, OpenIntent, StoredEntry
from stackward.model.identity import TemplateId
from stackward.ports import Clock, EntryFilter

DEADLINE_SECONDS = 10.0
BUSY_SECONDS = 5.0  # another process (the CLI) may hold the write lock for a moment
WAL_BYTES_KEPT = 16 * 1024 * 1024

Answer = TypeVar("Answer")


class SqliteJournal:
    """The durable memory. Its two threads start at the first call.

    `read_only` is for reading the file when no daemon answers: every write raises JournalError.
    `may_write` is asked in the writer's thread before every write, and raises JournalError if not.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        read_only: bool = False,
        deadline_seconds: float = DEADLINE_SECONDS,
        may_write: Callable[[], None] | None = None,
    ) -> None:
        self._path = path
        self._clock = clock
        self._read_only = read_only
        self._deadline = deadline_seconds
        self._may_write = may_write
        self._writer = Worker(f"journal {path}", self._connect_to_write, in_transactions=True)
        self._reader = Worker(f"journal {path}", self._connect_to_read, in_transactions=False)
        self.unreadable_rows = 0  # met since the start, whole rows or their bodies

    # --- life

    async def open(self) -> None:
        """Make, check or migrate the file now. Raises JournalError; NewerSchema: do not go on."""
        if not self._read_only:
            await self._write(lambda _: None)
        await self._read(lambda _: None)

    async def close(self) -> None:
        # The writer last: only it can put what is in the WAL where it belongs.
        await self._reader.close(deadline=self._deadline)
        await self._writer.close(deadline=self._deadline)

    def _connect_to_write(self) -> sqlite3.Connection:
        if self._may_write is not None:
            self._may_write()  # else a directory that came in place of ours would get a new file
        # Made by ourselves first, so that it is never readable by others, not even for a moment.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
        connection = _connect(self._path, mode="rw")
        try:
            version_of(connection)  # before anything is written: a foreign file stays as it was
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
            migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_to_read(self) -> sqlite3.Connection:
        connection = _connect(self._path, mode="ro")
        try:
            if version_of(connection) == 0:
                raise JournalError("there is nothing in it yet")  # noqa: TRY301  closes below
        except BaseException:
            connection.close()
            raise
        return connection

    async def _write(self, work: Callable[[sqlite3.Connection], Answer]) -> Answer:
        if self._read_only:
            raise JournalError(f"journal {self._path}: opened to be read only")
        may_write = self._may_write
        if may_write is None:
            return await self._writer.do(work, deadline=self._deadline)

        def checked(connection: sqlite3.Connection) -> Answer:
            may_write()
            return work(connection)

        return await self._writer.do(checked, deadline=self._deadline)

    async def _read(self, work: Callable[[sqlite3.Connection], Answer]) -> Answer:
        return await self._reader.do(work, deadline=self._deadline)

    # --- entries

    async def append(self, entry: Entry) -> int:
        """Write one entry; on disk when this returns."""
        row = encode(entry)
        return await self._write(lambda connection: queries.insert_entry(connection, row))

    async def entries(self, entry_filter: EntryFilter) -> tuple[StoredEntry, ...]:
        rows = await self._read(lambda connection: queries.select(connection, entry_filter))
        return self._listing(rows)

    async def history(self, since: datetime) -> tuple[StoredEntry, ...]:
        """Oldest first, with all rows of open episodes and intents and the newest demotion."""
        moment = moment_text(since)
        rows = await self._read(lambda connection: queries.select_history(connection, moment))
        return self._listing(rows)

    async def open_intents(self) -> tuple[OpenIntent, ...]:
        """Intents without outcome, oldest first. A row that cannot be read whole is an error."""
        rows = await self._read(queries.select_open_intents)
        found: dict[str, OpenIntent] = {}
        for decoded in map(decode, rows):
            stored = decoded.stored
            if not decoded.is_whole or stored.entry.intent_id is None:
                raise UnreadableRow(
                    f"row {stored.sequence} belongs to the open intent"
                    f" {stored.entry.intent_id} and cannot be read"
                )
            _add(found, stored.entry.intent_id, stored.entry)
        return tuple(found.values())

    def _listing(self, rows: Iterable[Row]) -> tuple[StoredEntry, ...]:
        listed = []
        for row in rows:
            try:
                decoded: Decoded = decode(row)
            except UnreadableRow:
                self.unreadable_rows += 1
                continue
            if not decoded.is_whole:
                self.unreadable_rows += 1
            listed.append(decoded.stored)
        return tuple(listed)

    async def prune(self, keep: Retention) -> int:
        """Forget what may be forgotten, batch by batch. Returns how many rows went."""
        pruned = 0
        now = self._clock.now()
        while True:
            batch = await self._write(lambda connection: prune_batch(connection, keep, now))
            pruned += batch
            if batch < BATCH_ROWS:
                return pruned

    # --- logs

    async def logs(self) -> Mapping[str, LogMemory]:
        rows = await self._read(queries.select_logs)
        logs: dict[str, LogMemory] = {}
        for name, *columns in rows:
            try:
                decoded = decode_log(tuple(columns))
            except UnreadableRow:
                self.unreadable_rows += 1
                continue
            self.unreadable_rows += not decoded.is_whole
            logs[str(name)] = decoded.log
        return logs

    async def save_logs(self, logs: Mapping[str, LogMemory]) -> None:
        """Each log's place and effects are one row, and all rows one transaction."""
        saved_at = moment_text(self._clock.now())

        def work(connection: sqlite3.Connection) -> None:
            # Encoded in the writer's thread: in a large fleet there are many.
            rows = (
                (name, *encode_log(log, log.read_to), saved_at)
                for name, log in logs.items()
                if log.read_to is not None
            )
            queries.upsert_logs(connection, rows)

        await self._write(work)

    # --- host keys

    async def pinned(self, template_id: TemplateId) -> frozenset[str]:
        rows = await self._read(lambda connection: queries.select_keys(connection, template_id))
        return frozenset(str(key) for (key,) in rows)

    async def pin(self, template_id: TemplateId, key: str, *, first_seen_on: str) -> None:
        """Pin a key and journal it, in one transaction. A key that is pinned already is no news."""
        now = self._clock.now()
        row = encode(
            Entry(
                kind=EntryKind.HOST_KEY_PINNED,
                at=now,
                text=f"host key of template {template_id} pinned; first seen on {first_seen_on}",
                evidence=(key,),
            )
        )

        def work(connection: sqlite3.Connection) -> None:
            values = (template_id, key, first_seen_on, moment_text(now))
            if queries.insert_key(connection, values):
                queries.insert_entry(connection, row)

        await self._write(work)

    async def forget(self, template_id: TemplateId) -> int:
        """Forget all keys of a template (a person says so) and journal it. Returns how many."""
        now = self._clock.now()

        def work(connection: sqlite3.Connection) -> int:
            count = queries.delete_keys(connection, template_id)
            if count:
                text = f"{count} host keys of template {template_id} forgotten"
                entry = Entry(kind=EntryKind.HOST_KEY_FORGOTTEN, at=now, text=text)
                queries.insert_entry(connection, encode(entry))
            return count

        return await self._write(work)


def _connect(path: Path, *, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,  # transactions are ours to begin
    )


def _add(found: dict[str, OpenIntent], intent_id: str, entry: Entry) -> None:
    """Put one row of an open intent in its place."""
    known = found.get(intent_id)
    match entry.kind:
        case EntryKind.INTENT:
            found[intent_id] = OpenIntent(intent=entry)
        case EntryKind.BEGUN if known is not None:
            found[intent_id] = OpenIntent(intent=known.intent, begun=entry, accepted=known.accepted)
        case EntryKind.ACCEPTED if known is not None:
            found[intent_id] = OpenIntent(intent=known.intent, begun=known.begun, accepted=entry)
        case _:
            return  # a row that no intent precedes says nothing that could be acted on
