"""One block of the fact loop to typed facts: one reader per section.

What lives here: the reading. What does not: the framing of blocks (fact_loop.py), the verdicts
(probes/). A section that is missing or odd is `Unreadable` with a reason, never an exception: one
odd line must not cost the rest of the block.

Formats: /proc as in the Linux kernel, `systemctl show` of systemd 232 to 252, `stat -f` of
coreutils with the format in fact_loop_script.py.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from math import isfinite
from typing import TypeVar, cast

from stackward.catalog.facts import (
    CONNECT,
    MOUNT,
    AddressFacts,
    ConnectFacts,
    DiskFacts,
    GuestFacts,
    JvmFacts,
    LinkFacts,
    MemoryFacts,
    MountFacts,
    TouchFacts,
    TouchResult,
    UnitFacts,
    Unreadable,
    readable,
    seconds,
)
from stackward.model.guest import FactBlock

_BOOT_ID = re.compile(r"[0-9a-f-]{36}", re.ASCII)
_INVOCATION_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_DIGITS_MAX = 18
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
# A machine that says it is up for longer than this says nothing: moments are counted back from it.
_UPTIME_SECONDS_MAX = 3.2e9  # a century
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


class _OddError(Exception):
    """Inside this module: a section cannot be read, and why."""


# What reading a line may end in: our own word, or Python's for a number or a moment that is none.
_ODD = (_OddError, ValueError, IndexError, OverflowError, OSError)

_Read = TypeVar("_Read")
_SECTIONS_KEPT = 256
_SECOND = timedelta(seconds=1)


def read_facts(block: FactBlock) -> GuestFacts:
    """Read one block alone. Total: whatever the block holds, there is an answer."""
    return FactReader().read(block)


class FactReader:
    """Reads the blocks of one VM. A section that comes as it came before is not read again.

    What it remembers saves time and changes no answer.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, object], tuple[tuple[str, ...], object]] = {}

    def read(self, block: FactBlock) -> GuestFacts:
        """Read one block. Total: whatever the block holds, there is an answer."""
        if len(self._known) > _SECTIONS_KEPT:
            self._known.clear()
        section = self._section
        uptime = readable(section(block, "uptime", _uptime))
        half = block.round_trip / 2
        return GuestFacts(
            boot_id=readable(section(block, "boot", _boot_id)),
            release=readable(section(block, "conf", _release)),
            uptime_seconds=uptime,
            load_1m=readable(section(block, "load", _first_float)),
            clock_offset=_clock_offset(section(block, "clock", _clock), block, half),
            clock_uncertainty=_clock_uncertainty(block, half),
            unit=self._unit(block, uptime),
            jvm=section(block, "jvm", _jvm),
            link=section(block, "link", _link),
            memory=section(block, "memory", _memory),
            disks=section(block, "disk", _disks),
            mounts=section(block, "mounts", _mounts),
            addresses=section(block, "conf", _addresses),
            open_files_ratio=readable(section(block, "files", _open_files_ratio)),
            touches={
                name.removeprefix(MOUNT): _touch(lines)
                for name, lines in block.sections.items()
                if name.startswith(MOUNT) and lines
            },
            connects=tuple(
                _connect(name.removeprefix(CONNECT), lines, block.ages.get(name, timedelta(0)))
                for name, lines in sorted(block.sections.items())
                if name.startswith(CONNECT) and lines
            ),
            ages=block.ages,
            pending=block.pending,
        )

    def renew(self, facts: GuestFacts, block: FactBlock) -> GuestFacts:
        """The same facts with what every block tells anew; for one that repeats all the rest."""
        sections, half = block.sections, block.round_trip / 2
        theirs: datetime | Unreadable
        try:  # all in one go, as a rule
            facts.uptime_seconds = _uptime(sections["uptime"])
            facts.load_1m = _first_float(sections["load"])
            theirs = _clock(sections["clock"])
            facts.memory = _memory(sections["memory"])
        except (KeyError, *_ODD):
            facts.uptime_seconds = readable(_fresh(block, "uptime", _uptime))
            facts.load_1m = readable(_fresh(block, "load", _first_float))
            theirs = _fresh(block, "clock", _clock)
            facts.memory = _fresh(block, "memory", _memory)
        facts.clock_offset = _clock_offset(theirs, block, half)
        facts.clock_uncertainty = _clock_uncertainty(block, half)
        facts.open_files_ratio = readable(self._section(block, "files", _open_files_ratio))
        facts.ages = block.ages
        return facts

    def _section(
        self, block: FactBlock, name: str, read: Callable[[tuple[str, ...]], _Read]
    ) -> _Read | Unreadable:
        lines = block.sections.get(name)
        if not lines:
            return _untold(block, name)
        known = self._known.get((name, read))
        if known is None or known[0] != lines:
            known = self._known[name, read] = (lines, _contained(name, lines, read))
        return cast("_Read | Unreadable", known[1])  # what `read` gave for these lines

    def _unit(self, block: FactBlock, uptime: float | None) -> UnitFacts | Unreadable:
        unit = self._section(block, "unit", _unit)
        entered = self._section(block, "unit", _active_entered)
        if isinstance(unit, Unreadable) or isinstance(entered, Unreadable) or uptime is None:
            return unit
        asked = timedelta(seconds=uptime) - block.ages.get("unit", timedelta(0))
        return replace(unit, active_for=asked - entered) if asked >= entered else unit


def _fresh(
    block: FactBlock, name: str, read: Callable[[tuple[str, ...]], _Read]
) -> _Read | Unreadable:
    """A section that is never twice the same."""
    lines = block.sections.get(name)
    return _contained(name, lines, read) if lines else _untold(block, name)


def _untold(block: FactBlock, name: str) -> Unreadable:
    waiting = block.pending.get(name)
    if waiting is None:
        return Unreadable(f"the section '{name}' has not been told")
    return Unreadable(f"'{name}' was asked {seconds(waiting)} ago and has not answered")


def _contained(
    name: str, lines: tuple[str, ...], read: Callable[[tuple[str, ...]], _Read]
) -> _Read | Unreadable:
    """One section through its reader. The wall between one odd section and the rest."""
    try:
        return read(lines)
    except _OddError as odd:
        return Unreadable(f"'{name}': {odd}")
    except _ODD:
        return Unreadable(f"'{name}' reads {lines[0][:80]!r}")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise _OddError(f"not a number: {text[:40]!r}")
    return number


def _first_float(lines: tuple[str, ...]) -> float:
    return _finite(lines[0].split()[0])


def _uptime(lines: tuple[str, ...]) -> float:
    uptime = _first_float(lines)
    if not 0 <= uptime <= _UPTIME_SECONDS_MAX:
        raise _OddError(f"no uptime: {lines[0][:40]!r}")
    return uptime


def _whole(text: str) -> int:
    """A number of a size that every place it may go to can hold: floats, metrics, JSON."""
    if len(text) > _DIGITS_MAX or not (text.isascii() and text.isdecimal()):
        raise _OddError(f"not a number: {text[:40]!r}")
    return int(text)


def _boot_id(lines: tuple[str, ...]) -> str:
    if not _BOOT_ID.fullmatch(lines[0]):
        raise ValueError
    return lines[0]


def _clock(lines: tuple[str, ...]) -> datetime:
    return datetime.fromtimestamp(_finite(lines[0]), UTC)


def _clock_offset(
    theirs: datetime | Unreadable, block: FactBlock, half: timedelta
) -> timedelta | Unreadable:
    """Theirs minus ours: their time was read about half a round trip after we asked."""
    if isinstance(theirs, Unreadable):
        return theirs
    return theirs - (block.asked_at + half)


def _clock_uncertainty(block: FactBlock, half: timedelta) -> timedelta:
    """Bash 4.4 tells whole seconds; the rest is half the round trip."""
    for line in block.sections.get("clock", ()):
        if "." in line:
            return half
    return half + _SECOND


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
    return JvmFacts(_whole(lines[0]))


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
        name, number, *_ = line.split()
        kilobytes[name] = _whole(number)
    total, available = kilobytes.get("MemTotal:", 0), kilobytes.get("MemAvailable:")
    if total <= 0 or available is None:
        raise ValueError
    return MemoryFacts(total * 1024, available * 1024)


def _unit(lines: tuple[str, ...]) -> UnitFacts:
    told = _properties(lines)
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
        active_for=None,  # that depends on when it was asked
    )


def _active_entered(lines: tuple[str, ...]) -> timedelta:
    """When the unit became active, on the VM's uptime."""
    entered = _number(_properties(lines).get("ActiveEnterTimestampMonotonic"))
    if not entered:
        raise ValueError
    return timedelta(microseconds=entered)


def _properties(lines: tuple[str, ...]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines if "=" in line)


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
    return AddressFacts(hosts["properties"], hosts["cmdline"], _whole(port))


def _open_files_ratio(lines: tuple[str, ...]) -> float | None:
    count, limit = lines[0].split()
    if limit == "unlimited" or _whole(limit) == 0:
        return None
    return _whole(count) / _whole(limit)


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
