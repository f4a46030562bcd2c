"""The loop's own rows for the journal, and what the lines of the logs have done beside them.

Rows wait in order until they are written. A journal that fails stops acting, never watching: the
trouble is told to the planner, which holds every step while there is any.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

from stackward.catalog.redact import redact
from stackward.core.state import LogMemory
from stackward.errors import JournalError
from stackward.model.entry import Entry, EntryKind
from stackward.model.guest import LogPosition
from stackward.ports import Clock, Journal, Log

DEADLINE_SECONDS = 10.0
DEADLINE_IN_TROUBLE_SECONDS = 1.0  # a disk that hangs must not hold up every round
ROWS_WAITING_MAX = 10_000
# Those that never change are saved again now and then: what nobody saves any more is forgotten.
SAVED_ANEW_EVERY_SECONDS = 3600.0


class Notebook:
    """Writes what the loop notes. `trouble` is "" while the journal can be written."""

    def __init__(self, journal: Journal, clock: Clock, log: Log, positions_every: float) -> None:
        self._journal = journal
        self._clock = clock
        self._log = log
        self._positions_every = positions_every
        self._positions_saved_at = clock.monotonic()
        self._logs_saved: dict[str, LogMemory] = {}
        self._logs_forgotten_at = clock.monotonic()
        self._saving = asyncio.Lock()
        self._waiting: list[Entry] = []
        self.trouble = ""

    def note(self, entries: Iterable[Entry]) -> None:
        """Put rows in the queue; `write` writes them."""
        self._waiting.extend(_redacted(entry) for entry in entries)
        # The journal has been down for very long: the oldest rows are let go.
        del self._waiting[:-ROWS_WAITING_MAX]

    async def write(self) -> None:
        """Write what waits, in order."""
        if self.trouble and not self._waiting:
            text = "The journal can be written again."
            self.note([Entry(kind=EntryKind.STARTED, at=self._clock.now(), text=text)])
        try:
            async with asyncio.timeout(
                DEADLINE_IN_TROUBLE_SECONDS if self.trouble else DEADLINE_SECONDS
            ):
                while self._waiting:
                    await self._journal.append(self._waiting[0])
                    del self._waiting[0]
        except (JournalError, TimeoutError) as trouble:
            self._note_trouble(trouble)
        else:
            if self.trouble:
                self._log.info("journal can be written again")
            self.trouble = ""

    @property
    def is_turn_of_all_logs(self) -> bool:
        """True when every log must be shown to `save_logs`, also one that has only moved on."""
        now = self._clock.monotonic()
        return (
            now - self._positions_saved_at >= self._positions_every
            or now - self._logs_forgotten_at >= SAVED_ANEW_EVERY_SECONDS
        )

    async def save_logs(self, logs: Mapping[str, LogMemory], *, is_due: bool = True) -> None:
        """Keep what the lines of each log have done, and up to where; not while there is trouble.

        What counts is saved before it is published, so that no counter ever falls back; a place
        that has only moved on waits for its turn, which `is_due` False leaves to another call.
        One at a time: what somebody else is about to save is not saved yet.
        """
        async with self._saving:
            if not self.trouble:
                await self._save(logs, is_due=is_due)

    async def _save(self, logs: Mapping[str, LogMemory], *, is_due: bool) -> None:
        now = self._clock.monotonic()
        if now - self._logs_forgotten_at >= SAVED_ANEW_EVERY_SECONDS:
            self._logs_forgotten_at = now
            self._logs_saved.clear()
        is_due = is_due and now - self._positions_saved_at >= self._positions_every
        changed = {
            name: log
            for name, log in logs.items()
            if _is_to_save(log, self._logs_saved.get(name), is_due=is_due)
        }
        if is_due:
            self._positions_saved_at = now
        if not changed:
            return
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await self._journal.save_logs(changed)
        except (JournalError, TimeoutError) as trouble:
            # Most of the time nothing else is written: this is where a full disk shows first.
            self._note_trouble(trouble)
        else:
            self._logs_saved.update(changed)

    def _note_trouble(self, trouble: Exception) -> None:
        reason = str(trouble) or "no answer within the deadline"
        if not self.trouble:
            self._log.error("journal cannot be written", reason=reason)
        self.trouble = reason


def _redacted(entry: Entry) -> Entry:
    """What VMs and servers said stands in the sentences of a diagnosis."""
    return replace(
        entry,
        text=redact(entry.text),
        evidence=tuple(redact(line) for line in entry.evidence),
    )


def _is_to_save(log: LogMemory, saved: LogMemory | None, *, is_due: bool) -> bool:
    if log is saved or log.read_to is None:
        return False
    if saved is None or saved.read_to is None:
        return True
    if _place(log.read_to) < _place(saved.read_to):
        return False  # somebody who had read on has saved it already
    return is_due or not _counts_the_same(log, saved)


def _place(position: LogPosition) -> tuple[int, int]:
    return (position.generation, position.offset)


def _counts_the_same(one: LogMemory, other: LogMemory) -> bool:
    return (
        one.counts == other.counts
        and one.gaps == other.gaps
        and one.ready_position == other.ready_position
    )
