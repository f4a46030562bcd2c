"""The journal in memory: outlives its daemon, not the test. Kept honest by the contract suite."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from stackward.core.state import LogMemory
from stackward.errors import JournalError
from stackward.model.entry import Entry, EntryKind, OpenIntent, StoredEntry
from stackward.model.identity import IntentId
from stackward.model.log_flow import LogFlow
from stackward.ports import EntryFilter

CLOSING = frozenset({EntryKind.OUTCOME, EntryKind.WOULD_HAVE})


class MemoryJournal:
    """`trouble` not empty: every write fails with it. `fail_on`: only entries of these kinds."""

    def __init__(self) -> None:
        self.stored: list[StoredEntry] = []
        self.trouble = ""
        self.fail_on: frozenset[EntryKind] = frozenset(EntryKind)
        self._logs: dict[str, LogMemory] = {}

    @property
    def written(self) -> list[Entry]:
        return [stored.entry for stored in self.stored]

    def count(self, kind: EntryKind) -> int:
        return sum(entry.kind is kind for entry in self.written)

    def of(self, kind: EntryKind) -> list[Entry]:
        return [entry for entry in self.written if entry.kind is kind]

    async def append(self, entry: Entry) -> int:
        if self.trouble and entry.kind in self.fail_on:
            raise JournalError(self.trouble)
        self.stored.append(StoredEntry(len(self.stored) + 1, entry))
        return len(self.stored)

    async def entries(self, entry_filter: EntryFilter) -> tuple[StoredEntry, ...]:
        found = [stored for stored in self.stored if _passes(entry_filter, stored)]
        if entry_filter.newest_first:
            found.reverse()
        return tuple(found[: max(0, entry_filter.limit)])

    async def open_intents(self) -> tuple[OpenIntent, ...]:
        closed = {entry.intent_id for entry in self.written if entry.kind in CLOSING}
        found: dict[IntentId, OpenIntent] = {}
        for entry in self.written:
            if entry.intent_id is None or entry.intent_id in closed:
                continue
            known = found.get(entry.intent_id)
            if entry.kind is EntryKind.INTENT:
                found[entry.intent_id] = OpenIntent(intent=entry)
            elif known and entry.kind is EntryKind.BEGUN:
                found[entry.intent_id] = OpenIntent(
                    intent=known.intent, begun=entry, accepted=known.accepted
                )
            elif known and entry.kind is EntryKind.ACCEPTED:
                found[entry.intent_id] = OpenIntent(
                    intent=known.intent, begun=known.begun, accepted=entry
                )
        return tuple(found.values())

    async def history(self, since: datetime) -> tuple[StoredEntry, ...]:
        closed = {e.episode_id for e in self.written if e.kind is EntryKind.EPISODE_CLOSED}
        open_intents = {found.intent.intent_id for found in await self.open_intents()}
        demotions = [
            stored
            for stored in self.stored
            if stored.entry.kind in (EntryKind.DEMOTED, EntryKind.CLEARED)
        ]
        return tuple(
            stored
            for stored in self.stored
            if stored.entry.at >= since
            or (stored.entry.episode_id is not None and stored.entry.episode_id not in closed)
            or stored.entry.intent_id in open_intents - {None}
            or stored in demotions[-1:]
        )

    async def logs(self) -> Mapping[str, LogMemory]:
        return dict(self._logs)

    async def save_logs(self, logs: Mapping[str, LogMemory]) -> None:
        if self.trouble:
            raise JournalError(self.trouble)
        self._logs.update(
            (
                name,
                replace(log, position=None, told_at=None, recent=(), flow=LogFlow()),
            )
            for name, log in logs.items()
            if log.read_to is not None
        )

    async def close(self) -> None:
        pass


def _passes(entry_filter: EntryFilter, stored: StoredEntry) -> bool:
    entry = stored.entry
    return (
        stored.sequence > entry_filter.after_sequence
        and entry_filter.target in (None, entry.target_id, entry.target_name)
        and entry_filter.intent_id in (None, entry.intent_id)
        and (entry_filter.kinds is None or entry.kind in entry_filter.kinds)
    )
