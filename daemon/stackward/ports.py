"""Every way the house touches the world, on one page: Protocols over `model` values.

Rule of the room: a port speaks only in pure values and raises only `TransportError` and its kinds
(`JournalError` for the journal). Every call takes or has a deadline and ends by it. A row or line
that cannot be read is a value (`unreadable`, Unknown), never an exception for the whole answer.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from stackward.core.snapshot import Snapshot
from stackward.core.state import LogMemory
from stackward.model.entry import Entry, EntryKind, OpenIntent, StoredEntry
from stackward.model.event import Event
from stackward.model.guest import CommandReply, FactBlock, LogChunk, LogPosition
from stackward.model.identity import JobId, TargetId, TemplateId
from stackward.model.target import (
    Capabilities,
    DatabaseWitness,
    HypervisorHost,
    Inventory,
    Target,
    Zone,
)


class Clock(Protocol):
    """Time. `now` is aware UTC, `monotonic` in seconds."""

    def now(self) -> datetime: ...
    def monotonic(self) -> float: ...
    async def sleep(self, seconds: float) -> None: ...


class JobStatus(StrEnum):
    """JobInfo.Status (api/.../jobs/JobInfo.java)."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    FORGOTTEN = "forgotten"  # the server has no such job (any more)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReply:
    """One async job. `detail` is the error text or display text."""

    job_id: JobId
    status: JobStatus
    command: str = ""  # full class name, as `cmd` tells
    target_id: TargetId | None = None  # jobinstanceid
    created_at: datetime | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One VM as the API tells it right now. None: it is not there (any more), or not told."""

    target: Target | None
    zone: Zone | None
    host: HypervisorHost | None


class CloudApi(Protocol):
    """The CloudStack API. Reads are repeated and fail over; whatever changes state is sent once."""

    async def capabilities(self) -> Capabilities: ...
    async def inventory(self) -> Inventory: ...
    async def look(self, target_id: TargetId) -> Look: ...
    async def reboot_system_vm(self, target_id: TargetId) -> JobId: ...
    async def job(self, job_id: JobId) -> JobReply: ...
    async def jobs_since(self, since: datetime) -> tuple[JobReply, ...]: ...
    async def close(self) -> None: ...


class CloudDatabase(Protocol):
    """CloudStack's own database, read only: second witness, and fall-back for the inventory."""

    async def inventory(self) -> Inventory: ...
    async def agents(self) -> DatabaseWitness: ...
    async def close(self) -> None: ...


class Guests(Protocol):
    """The ways into system VMs over SSH: one connection per VM, kept.

    `ask` sends one tick down the VM's fact channel and waits for the block of that tick. `run` is
    for actions alone. `follow` yields whole lines from `resume` on (None: from the file's end as
    it is now) and yields an empty chunk as soon as the place is known; it ends by raising.
    A connection belongs to (hypervisor host, control address); when either changes it is made anew.
    """

    async def ask(
        self, target: Target, host: HypervisorHost | None, tick: int, *, timeout: float
    ) -> FactBlock: ...

    async def run(
        self,
        target: Target,
        host: HypervisorHost | None,
        command: str,
        *,
        timeout: float,
        output_bytes_max: int = 65536,
    ) -> CommandReply: ...

    def follow(
        self, target: Target, host: HypervisorHost | None, resume: LogPosition | None
    ) -> AsyncIterator[LogChunk]: ...

    async def retain(self, target_ids: frozenset[TargetId]) -> None:
        """Close every connection to targets not named, and jumps without targets."""
        ...

    async def close(self) -> None: ...


class LogFiles(Protocol):
    """Logs that are not in a system VM, by name; what `follow` yields is as in `Guests`."""

    def follow(self, name: str, resume: LogPosition | None) -> AsyncIterator[LogChunk]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilter:
    """Which entries. None: any."""

    target: str | None = None  # a VM's id or name
    intent_id: str | None = None
    kinds: frozenset[EntryKind] | None = None
    after_sequence: int = 0
    limit: int = 100
    newest_first: bool = True


class Journal(Protocol):
    """The durable memory. What `append` returned from is on disk."""

    async def append(self, entry: Entry) -> int: ...
    async def entries(self, entry_filter: EntryFilter) -> tuple[StoredEntry, ...]: ...
    async def open_intents(self) -> tuple[OpenIntent, ...]: ...
    async def history(self, since: datetime) -> tuple[StoredEntry, ...]:
        """Oldest first: what core.replay needs. Includes every entry of episodes still open."""
        ...

    async def logs(self) -> Mapping[str, LogMemory]:
        """What the lines of each log have done, by the id of its VM or the name of the log."""
        ...

    async def save_logs(self, logs: Mapping[str, LogMemory]) -> None:
        """Save each log's place and effects, all of them or none. One never read is passed over."""
        ...

    async def close(self) -> None: ...


class HostKeys(Protocol):
    """The pinned host keys of system VMs, by template. Values are OpenSSH public key lines."""

    async def pinned(self, template_id: TemplateId) -> frozenset[str]: ...
    async def pin(self, template_id: TemplateId, key: str, *, first_seen_on: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Pause:
    """A person's (or trouble's) word that nothing may be done."""

    reason: str
    by: str
    at: datetime | None


class PauseSwitch(Protocol):
    """The pause file. What cannot be read counts as paused. Quick and local, so not async."""

    def read(self) -> Pause | None: ...


class DemotionSwitch(Protocol):
    """Remembers, across restarts, that a promise was broken. `reason` None: none was."""

    @property
    def reason(self) -> str | None: ...
    def demote(self, reason: str, at: datetime) -> None: ...


class EventSink(Protocol):
    """Where events go. `put` never blocks; it coalesces or counts a drop when full."""

    def put(self, event: Event) -> None: ...


class SnapshotSource(Protocol):
    """The latest published snapshot; None before the first round."""

    def latest(self) -> Snapshot | None: ...
    async def next_after(self, round_number: int) -> Snapshot:
        """Wait for a snapshot newer than this round."""
        ...


class Log(Protocol):
    """Structured log: constant lowercase events, variables as keys (structlog fits)."""

    def debug(self, event: str, **values: object) -> None: ...
    def info(self, event: str, **values: object) -> None: ...
    def warning(self, event: str, **values: object) -> None: ...
    def error(self, event: str, **values: object) -> None: ...
    def exception(self, event: str, **values: object) -> None: ...
