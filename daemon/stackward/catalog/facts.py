"""What a block of facts says, typed: the pure reading of the fact loop's sections.

What lives here: one reader per section. What does not: whether an answer is good (probes/), the
framing of blocks (fact_loop.py). A section that is missing or odd is `Unreadable` with a reason,
never an exception: one odd line must not cost the rest of the block.

Formats: /proc as in the Linux kernel, `systemctl show` of systemd 232 to 252, `stat -f` of
coreutils with the format in fact_loop_script.py.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from math import isfinite
from typing import TypeVar

from stackward.model.guest import FactBlock, GuestMarks, GuestReadings

MOUNT = "mount:"
CONNECT = "connect:"
SECONDARY_STORAGE = "/mnt/SecStorage/"

_BOOT_ID = re.compile(r"[0-9a-f-]{36}", re.ASCII)
_INVOCATION_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
# stat -f: blocks, free, available, block size, files, files free, point
_FILE_SYSTEM = re.compile(
    r"(\d{1,18}) (\d{1,18}) (\d{1,18}) (\d+) (\d{1,18}) (\d{1,18}) (/.*)", re.ASCII
)
# bash names what the C library said, in the C locale.
_CONNECT_ERRORS = (
    ("Connection refused", "refused"),
    ("No route to host", "no route"),
    ("Network is unreachable", "no route"),
    ("Connection timed out", "timed out"),
    ("Name or service not known", "name not known"),
    ("Temporary failure in name resolution", "name server does not answer"),
)


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


@dataclass(frozen=True, slots=True)
class MemoryFacts:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFacts:
    """One block, read.

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


class _OddError(Exception):
    """Inside this module: a section cannot be read, and why."""


_Read = TypeVar("_Read")


def read_facts(block: FactBlock) -> GuestFacts:
    """Read one block. Total: whatever the block holds, there is an answer."""
    offset = _section(block, "clock", lambda lines: _clock_offset(lines, block))
    return GuestFacts(
        boot_id=_told(_section(block, "boot", _boot_id)),
        release=_told(_section(block, "conf", _release)),
        uptime_seconds=_told(_section(block, "uptime", _first_float)),
        load_1m=_told(_section(block, "load", _first_float)),
        clock_offset=offset,
        clock_uncertainty=_clock_uncertainty(block),
        unit=_section(block, "unit", lambda lines: _unit(lines, block)),
        jvm=_section(block, "jvm", _jvm),
        link=_section(block, "link", _link),
        memory=_section(block, "memory", _memory),
        disks=_section(block, "disk", _disks),
        mounts=_section(block, "mounts", _mounts),
        addresses=_section(block, "conf", _addresses),
        open_files_ratio=_told(_section(block, "files", _open_files_ratio)),
        touches={
            name.removeprefix(MOUNT): _touch(lines)
            for name, lines in block.sections.items()
            if name.startswith(MOUNT)
        },
        connects=tuple(
            _connect(name.removeprefix(CONNECT), lines, block.ages.get(name, timedelta(0)))
            for name, lines in sorted(block.sections.items())
            if name.startswith(CONNECT)
        ),
        ages=block.ages,
        pending=block.pending,
    )


def marks(facts: GuestFacts) -> GuestMarks:
    """What tells this life of the VM and of its agent from the next."""
    return GuestMarks(
        boot_id=facts.boot_id,
        invocation_id=None if isinstance(facts.unit, Unreadable) else facts.unit.invocation_id,
        agent_pid=None if isinstance(facts.jvm, Unreadable) else facts.jvm.pid,
    )


def readings(facts: GuestFacts) -> GuestReadings:
    """The numbers, for metrics and advice."""
    memory = _told(facts.memory)
    disks = _told(facts.disks) or ()
    unit = _told(facts.unit)
    offset = _told(facts.clock_offset)
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


def _section(
    block: FactBlock, name: str, read: Callable[[tuple[str, ...]], _Read]
) -> _Read | Unreadable:
    """One section through its reader. The wall between one odd section and the rest of the block."""
    lines = block.sections.get(name)
    if not lines:
        waiting = block.pending.get(name)
        if waiting is None:
            return Unreadable(f"the section '{name}' has not been told")
        return Unreadable(f"'{name}' was asked {seconds(waiting)} ago and has not answered")
    try:
        return read(lines)
    except _OddError as odd:
        return Unreadable(f"'{name}': {odd}")
    except (ValueError, IndexError, OverflowError):
        return Unreadable(f"'{name}' reads {lines[0][:80]!r}")


def seconds(span: timedelta) -> str:
    """A duration as people say it."""
    return f"{span.total_seconds():.0f} s"


def _told(value: _Read | Unreadable) -> _Read | None:
    return None if isinstance(value, Unreadable) else value


def _highest(ratios: Iterable[float | None]) -> float | None:
    return max((ratio for ratio in ratios if ratio is not None), default=None)


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise _OddError(f"not a number: {text[:40]!r}")
    return number


def _first_float(lines: tuple[str, ...]) -> float:
    return _finite(lines[0].split()[0])


def _boot_id(lines: tuple[str, ...]) -> str:
    if not _BOOT_ID.fullmatch(lines[0]):
        raise ValueError
    return lines[0]


def _clock_offset(lines: tuple[str, ...], block: FactBlock) -> timedelta:
    """Theirs minus ours: their time was read about half a round trip after we asked."""
    theirs = datetime.fromtimestamp(_finite(lines[0]), UTC)
    return theirs - (block.asked_at + block.round_trip / 2)


def _clock_uncertainty(block: FactBlock) -> timedelta:
    """bash 4.4 tells whole seconds; the rest is the round trip."""
    is_whole = all("." not in line for line in block.sections.get("clock", ()))
    return block.round_trip / 2 + timedelta(seconds=1 if is_whole else 0)


def _release(lines: tuple[str, ...]) -> str:
    for line in lines:
        if line.startswith("release "):
            return line.removeprefix("release ")[:200]
    raise _OddError("no release")


def _jvm(lines: tuple[str, ...]) -> JvmFacts:
    if lines[0] == "none":
        return JvmFacts(None)
    if lines[0] == "unknown":
        raise _OddError("the processes of cloud.service could not be listed")
    return JvmFacts(int(lines[0]))


def _link(lines: tuple[str, ...]) -> LinkFacts:
    match lines[0]:
        case "none":
            return LinkFacts(None)
        case "established":
            return LinkFacts(_peer(lines[1].split()[0]))
        case "unsure":
            raise _OddError("the socket that was seen may be an own connect")
        case _:
            raise _OddError("the socket tables could not be read")


def _peer(text: str) -> str:
    """An address of /proc/net/tcp{,6}: 32-bit words in the order of a little-endian machine."""
    address, port = text.split(":")
    words = bytes.fromhex(address)
    packed = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    if len(packed) == 4:
        return f"{IPv4Address(packed)}:{int(port, 16)}"
    long = IPv6Address(packed)
    return f"{long.ipv4_mapped or f'[{long}]'}:{int(port, 16)}"


def _memory(lines: tuple[str, ...]) -> MemoryFacts:
    kilobytes = {}
    for line in lines:
        name, number, *_ = line.replace(":", " ").split()
        kilobytes[name] = int(number)
    total, available = kilobytes.get("MemTotal", 0), kilobytes.get("MemAvailable")
    if total <= 0 or available is None or available < 0:
        raise ValueError
    return MemoryFacts(total * 1024, available * 1024)


def _unit(lines: tuple[str, ...], block: FactBlock) -> UnitFacts:
    told = dict(line.split("=", 1) for line in lines if "=" in line)
    if not told.get("ActiveState"):
        raise ValueError
    invocation = told.get("InvocationID", "")
    return UnitFacts(
        load_state=told.get("LoadState", ""),
        active_state=told["ActiveState"],
        sub_state=told.get("SubState", ""),
        result=told.get("Result", ""),
        exit_code=_number(told.get("ExecMainCode")),
        exit_status=_number(told.get("ExecMainStatus")),
        main_pid=_number(told.get("MainPID")) or None,
        restarts=_number(told.get("NRestarts")),
        invocation_id=invocation if _INVOCATION_ID.fullmatch(invocation) else None,
        active_for=_active_for(told, block),
    )


def _active_for(told: Mapping[str, str], block: FactBlock) -> timedelta | None:
    entered = _number(told.get("ActiveEnterTimestampMonotonic"))
    uptime = _told(_section(block, "uptime", _first_float))
    if not entered or uptime is None:
        return None
    asked = timedelta(seconds=uptime) - block.ages.get("unit", timedelta(0))
    lasted = asked - timedelta(microseconds=entered)
    return lasted if lasted >= timedelta(0) else None


def _number(text: str | None) -> int | None:
    return int(text) if text and _NUMBER.fullmatch(text) else None


def _disks(lines: tuple[str, ...]) -> tuple[DiskFacts, ...]:
    disks = []
    for line in lines:
        match = _FILE_SYSTEM.fullmatch(line)
        if match is None:
            continue
        blocks, free, available, files, files_free = (int(match[at]) for at in (1, 2, 3, 5, 6))
        used = max(blocks - free, 0)
        disks.append(
            DiskFacts(
                point=match[7],
                used_ratio=used / (used + available) if used + available > 0 else None,
                inodes_used_ratio=max(files - files_free, 0) / files if files > 0 else None,
            )
        )
    if not disks:
        raise ValueError
    return tuple(disks)


def _mounts(lines: tuple[str, ...]) -> tuple[MountFacts, ...]:
    mounts = []
    for line in lines:
        device, point, kind, access = line.split()
        mounts.append(MountFacts(device, point, kind, access == "ro"))
    return tuple(mounts)


def _addresses(lines: tuple[str, ...]) -> AddressFacts:
    """Hosts as the agent reads them: a list with commas, `@algorithm` behind it."""
    told: dict[str, str] = {}
    for line in lines:
        key, separator, value = line.replace("\\", "").partition("=")
        if separator:
            told.setdefault(key, value)
    hosts = {
        source: tuple(
            host.strip() for host in told.get(f"{source} host", "").split("@")[0].split(",") if host
        )
        for source in ("properties", "cmdline")
    }
    if not hosts["properties"] and not hosts["cmdline"]:
        raise _OddError("neither agent.properties nor the boot arguments name a management server")
    port = told.get("properties port") or told.get("cmdline port") or "8250"
    return AddressFacts(hosts["properties"], hosts["cmdline"], int(port))


def _open_files_ratio(lines: tuple[str, ...]) -> float | None:
    count, limit = lines[0].split()
    return int(count) / int(limit) if limit != "unlimited" and int(limit) > 0 else None


def _touch(lines: tuple[str, ...]) -> TouchFacts:
    if lines[0].startswith("!killed"):
        return TouchFacts(TouchResult.KILLED, f"no answer for {lines[0].split()[-1]} s")
    if any(_FILE_SYSTEM.fullmatch(line) for line in lines):
        return TouchFacts(TouchResult.ANSWERED, "answered")
    return TouchFacts(TouchResult.REFUSED, lines[-1].rpartition(": ")[2][:120])


def _connect(address: str, lines: tuple[str, ...], age: timedelta) -> ConnectFacts:
    if lines[0] == "open":
        return ConnectFacts(address, is_open=True, how="open", age=age)
    if lines[0].startswith("!killed"):
        return ConnectFacts(address, is_open=False, how="timed out", age=age)
    text = " ".join(lines)
    for words, how in _CONNECT_ERRORS:
        if words in text:
            return ConnectFacts(address, is_open=False, how=how, age=age)
    return ConnectFacts(address, is_open=False, how=lines[-1].rpartition(": ")[2][:120], age=age)
