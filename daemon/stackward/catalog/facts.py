"""What a block of facts says, typed. The marks and the numbers in it.

What lives here: the values. What does not: how they are read out of a block (fact_sections.py),
whether they are good (probes/). What is missing or odd in a block is `Unreadable` with a reason.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import NamedTuple, TypeVar

from stackward.model.guest import GuestMarks, GuestReadings

MOUNT = "mount:"
CONNECT = "connect:"
SECONDARY_STORAGE = "/mnt/SecStorage/"

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Not told, or told in a way that cannot be read."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFacts:
    """systemd's word on cloud.service. None: this systemd does not say."""

    load_state: str
    active_state: str
    sub_state: str
    result: str
    exit_code: int | None  # CLD_*: 0 never ran, 1 exited, 2 killed, 3 dumped
    exit_status: int | None  # exit status or signal number, as `exit_code` says
    main_pid: int | None
    restarts: int | None
    invocation_id: str | None
    active_for: timedelta | None  # at the time of asking


@dataclass(frozen=True, slots=True)
class JvmFacts:
    """The JVM in the unit's cgroup. `pid` None: looked, and there is none."""

    pid: int | None


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """The socket to the management port. `peer` None: looked, and there is none."""

    peer: str | None  # address:port


@dataclass(frozen=True, slots=True)
class ConnectFacts:
    """One own connect: "open", or why not."""

    address: str
    is_open: bool
    how: str
    age: timedelta


class TouchResult(Enum):
    """How the touch of a mount ended."""

    ANSWERED = "answered"
    KILLED = "killed"  # no answer within the limit
    REFUSED = "refused"  # an error, e.g. a stale file handle


@dataclass(frozen=True, slots=True)
class TouchFacts:
    """What touching a mount gave; `how` in words."""

    result: TouchResult
    how: str


class MemoryFacts(NamedTuple):
    """From /proc/meminfo."""

    total_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """One local file system. None: it has no such limit."""

    point: str
    used_ratio: float | None
    inodes_used_ratio: float | None


@dataclass(frozen=True, slots=True)
class MountFacts:
    """One line of /proc/mounts that matters."""

    device: str
    point: str
    kind: str
    is_read_only: bool


@dataclass(frozen=True, slots=True)
class AddressFacts:
    """Where the agent is told to connect to, by its properties and by the boot arguments."""

    properties_hosts: tuple[str, ...]
    cmdline_hosts: tuple[str, ...]
    port: int


@dataclass(slots=True, kw_only=True)
class GuestFacts:
    """One block, read. Not frozen: its reader renews what every block tells anew.

    `touches` is by mount point. `pending` and `ages` are the block's.
    """

    boot_id: str | None
    release: str | None
    uptime_seconds: float | None
    load_1m: float | None
    clock_offset: timedelta | Unreadable
    clock_uncertainty: timedelta
    unit: UnitFacts | Unreadable
    jvm: JvmFacts | Unreadable
    link: LinkFacts | Unreadable
    memory: MemoryFacts | Unreadable
    disks: tuple[DiskFacts, ...] | Unreadable
    mounts: tuple[MountFacts, ...] | Unreadable
    addresses: AddressFacts | Unreadable
    open_files_ratio: float | None
    touches: Mapping[str, TouchFacts]
    connects: tuple[ConnectFacts, ...]
    ages: Mapping[str, timedelta]
    pending: Mapping[str, timedelta]

    def age(self, section: str) -> timedelta:
        """How old a section is; zero for what is read at every tick."""
        return self.ages.get(section, timedelta(0))


def readable(value: _Value | Unreadable) -> _Value | None:
    """The value, or None for whoever has no use for the reason."""
    return None if isinstance(value, Unreadable) else value


def marks(facts: GuestFacts) -> GuestMarks:
    """What tells this life of the VM and of its agent from the next."""
    return GuestMarks(
        boot_id=facts.boot_id,
        invocation_id=None if isinstance(facts.unit, Unreadable) else facts.unit.invocation_id,
        agent_pid=None if isinstance(facts.jvm, Unreadable) else facts.jvm.pid,
    )


def readings(facts: GuestFacts) -> GuestReadings:
    """The numbers, for metrics and advice."""
    memory = readable(facts.memory)
    disks = readable(facts.disks) or ()
    unit = readable(facts.unit)
    offset = readable(facts.clock_offset)
    return GuestReadings(
        release=facts.release,
        uptime_seconds=facts.uptime_seconds,
        load_1m=facts.load_1m,
        memory_total_bytes=memory.total_bytes if memory else None,
        memory_available_bytes=memory.available_bytes if memory else None,
        disk_used_ratio=_highest(disk.used_ratio for disk in disks),
        inodes_used_ratio=_highest(disk.inodes_used_ratio for disk in disks),
        clock_offset_seconds=None if offset is None else offset.total_seconds(),
        agent_restarts=unit.restarts if unit else None,
        open_files_ratio=facts.open_files_ratio,
    )


def renewed_readings(old: GuestReadings, facts: GuestFacts) -> GuestReadings:
    """The numbers again, where only those have changed that every block tells anew."""
    memory, offset = readable(facts.memory), facts.clock_offset
    return GuestReadings(
        old.release,
        facts.uptime_seconds,
        facts.load_1m,
        memory.total_bytes if memory else None,
        memory.available_bytes if memory else None,
        old.disk_used_ratio,
        old.inodes_used_ratio,
        None if isinstance(offset, Unreadable) else offset.total_seconds(),
        old.agent_restarts,
        facts.open_files_ratio,
    )


def seconds(span: timedelta) -> str:
    """A duration as people say it."""
    return f"{span.total_seconds():.0f} s"


def _highest(ratios: Iterable[float | None]) -> float | None:
    return max((ratio for ratio in ratios if ratio is not None), default=None)
