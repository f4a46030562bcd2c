"""What comes out of a system VM: blocks of facts, its identity marks, and places in its log."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

_ZERO = timedelta(0)
_NONE: Mapping[str, timedelta] = MappingProxyType({})


class Ages(Mapping[str, timedelta]):
    """How old the slow sections of a block were when it was sent; worked out when it is asked.

    `asked`: when each was asked, and `now`: when the block was sent, both on the VM's uptime.
    """

    __slots__ = ("_asked", "_now")

    def __init__(self, asked: Mapping[str, timedelta], now: timedelta = _ZERO) -> None:
        self._asked = asked
        self._now = now

    @property
    def asked(self) -> Mapping[str, timedelta]:
        """When each was asked; the same object for as long as none was asked anew."""
        return self._asked

    @property
    def oldest(self) -> timedelta:
        """The greatest age; zero where there is none."""
        asked = self._asked
        return max(self._now - min(asked.values()), _ZERO) if asked else _ZERO

    def __getitem__(self, name: str) -> timedelta:
        return max(self._now - self._asked[name], _ZERO)

    def __iter__(self) -> Iterator[str]:
        return iter(self._asked)

    def __len__(self) -> int:
        return len(self._asked)

    def __repr__(self) -> str:
        return f"Ages({dict(self)!r})"


_NO_AGES = Ages({})


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestMarks:
    """What tells one life of a VM and of its agent from the next. None: not seen.

    `boot_id` changes with every boot, `invocation_id` with every start of cloud.service.
    """

    boot_id: str | None = None
    invocation_id: str | None = None
    agent_pid: int | None = None


class FactBlock(NamedTuple):
    """One answer of the fact loop: raw sections by name, nothing interpreted.

    A section is there only if it was closed. `ages` holds, for the slow sections that are asked
    in the background, how old each was on the VM when the block was sent (seconds there).
    `pending` names slow questions still running and for how long: a toucher that hangs is a
    finding, not an error. `lasting` holds the sections that mostly stay as they are, and is the
    same object for as long as they do; None: nobody has looked.
    """

    tick: int
    loop_version: int
    sections: Mapping[str, tuple[str, ...]]
    asked_at: datetime
    received_at: datetime
    ages: Ages = _NO_AGES
    pending: Mapping[str, timedelta] = _NONE
    size_bytes: int = 0
    lasting: Mapping[str, tuple[str, ...]] | None = None

    @property
    def round_trip(self) -> timedelta:
        """From the question to the closing mark."""
        return self.received_at - self.asked_at


class LogPosition(NamedTuple):
    """A place in one log file: which file, and up to where it was read.

    `device_inode` is "DEV:INODE", `fingerprint` a digest of the file's first bytes (up to 256;
    `fingerprint_bytes` says how many), and behind a colon of the file before it, by which the place
    in a young file is found again; `generation` counts the files seen under this name, `offset` is
    in bytes and always at the beginning of a line.
    """

    device_inode: str
    fingerprint: str
    fingerprint_bytes: int
    generation: int
    offset: int

    def at(self, offset: int) -> "LogPosition":
        """Another place in the same file."""
        return LogPosition(*self[:4], offset)


class LogChunk(NamedTuple):
    """Whole lines of one log file, `start` the position of the first byte, `end` after the last.

    `data` holds the lines, each with its newline; empty: only a place became known. Offsets counted
    from `start` are true in it. Its last line may have been cut, or have got the newline that the
    file lacks: then `end` alone says how far it went.
    `gap_bytes_min` counts bytes that are known to have been destroyed before `start` (None: lines
    may be missing and nobody can say how many). 0: nothing is missing. `behind_bytes` is what the
    file held behind `end` when it was read, as far as that is known.
    """

    data: bytes
    start: LogPosition
    end: LogPosition
    received_at: datetime
    gap_bytes_min: int | None = 0
    behind_bytes: int = 0

    @property
    def lines(self) -> tuple[bytes, ...]:
        """The lines without their newlines."""
        return tuple(self.data.split(b"\n")[:-1])


class GuestReadings(NamedTuple):
    """Numbers read inside a VM, for metrics and advice. None: not seen."""

    release: str | None = None  # /etc/cloudstack-release
    uptime_seconds: float | None = None
    load_1m: float | None = None
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    disk_used_ratio: float | None = None  # the fullest local file system
    inodes_used_ratio: float | None = None
    clock_offset_seconds: float | None = None  # theirs minus ours, corrected by half a round trip
    agent_restarts: int | None = None  # systemd's NRestarts
    open_files_ratio: float | None = None  # the JVM's descriptors over its limit


@dataclass(frozen=True, slots=True)
class CommandReply:
    """What one command inside a VM answered. `exit_status` None: it ended by a signal."""

    exit_status: int | None
    output: str
    is_cut: bool = False  # more output came than was allowed
