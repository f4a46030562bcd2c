"""The fact loop as data: what is sent into a VM, and a sans-I/O reader of what comes back.

What lives here: the loop's settings, the bytes to send, the framing of its blocks. What does not:
the text of the loop (fact_loop_script.py), the meaning of a section (facts.py), the channel.

The daemon sends the script once and then one line per tick; the loop answers each with one block.
In a block a section is one of three: read for this tick (`=`), heard from a child since the last
block (`~`, with when it was asked), or a child still running (`?`, with since when). The reader
keeps the newest of each `~` section and gives it with every block, with its age; one without
lines takes the earlier one back. Ages are counted on the VM's own uptime.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from stackward.catalog.fact_loop_script import SCRIPT

LOOP_VERSION = 1
UNIT_PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "ExecMainCode",
    "ExecMainStatus",
    "ExecMainPID",
    "MainPID",
    "NRestarts",
    "InvocationID",
    "ControlGroup",
    "ActiveEnterTimestampMonotonic",
    "InactiveEnterTimestampMonotonic",
    "ExecMainStartTimestampMonotonic",
    "ExecMainExitTimestampMonotonic",
)

_BEGIN = b"##stackward "
_BEGIN_LINE = re.compile(r"##stackward (\d{1,4}) (\d{1,18}) (\d{1,18})", re.ASCII)
_SECTION = re.compile(r"=([!-~]{1,300})|([~?])([!-~]{1,300}) (\d{1,18})", re.ASCII)
_SECTION_END = "\x1e"
_LINE_END = "\x1f"
_NAMES_KEPT = 64
_SPAN_MAX = 10**12  # centiseconds
_ZERO = timedelta(0)


class LoopGarbled(ValueError):
    """What came down the channel cannot be a block. The channel is of no more use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FactLoopSettings:
    """How the loop behaves. Each interval is the least time between two questions of a kind.

    `dead_man`: without a tick for so long the loop ends; keep it above the longest tick interval.
    `connect_*`: own connects to the management servers, made only while the agent has no link:
    first `connect_after` the loss, again after `retry_interval` where it failed, and after
    `connect_interval` where it was taken (each such costs the server a failed TLS handshake).
    `*limit`: a child older than this is killed at the next tick.
    """

    dead_man: timedelta = timedelta(seconds=120)
    unit_interval: timedelta = timedelta(seconds=15)
    slow_interval: timedelta = timedelta(seconds=30)
    disk_interval: timedelta = timedelta(seconds=60)
    connect_interval: timedelta = timedelta(seconds=600)
    connect_retry_interval: timedelta = timedelta(seconds=120)
    connect_after: timedelta = timedelta(seconds=5)
    limit: timedelta = timedelta(seconds=10)
    touch_limit: timedelta = timedelta(seconds=20)
    connect_limit: timedelta = timedelta(seconds=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLimits:
    """What the reader takes before it calls the channel garbled."""

    banner_bytes_max: int = 16 * 1024  # before the first block: what a login may print
    block_bytes_max: int = 256 * 1024
    section_lines_max: int = 512
    slow_sections_max: int = 128  # kept between blocks; past that the oldest goes


class RawBlock(NamedTuple):
    """One answer, framed and not interpreted: the fields of FactBlock that the loop knows."""

    tick: int
    loop_version: int
    sections: Mapping[str, tuple[str, ...]]
    ages: Mapping[str, timedelta]
    pending: Mapping[str, timedelta]
    size_bytes: int
    heard: tuple[str, ...] | None = None


class _Part(NamedTuple):
    """One section as it stood in a block. `time`: asked at, or running since, on its uptime."""

    kind: str
    name: str
    time: timedelta
    lines: tuple[str, ...]


def fact_loop_command() -> str:
    """What is executed on the VM: a bash that reads the script, and then the ticks, from stdin."""
    return "exec bash --norc --noprofile"


def fact_loop_script(settings: FactLoopSettings) -> bytes:
    """What is sent first, once. It answers nothing before the first tick."""
    script = SCRIPT
    for name, value in (
        ("version", str(LOOP_VERSION)),
        ("dead_man", f"{settings.dead_man.total_seconds():.1f}"),
        ("unit_every", _centiseconds(settings.unit_interval)),
        ("slow_every", _centiseconds(settings.slow_interval)),
        ("disk_every", _centiseconds(settings.disk_interval)),
        ("connect_every", _centiseconds(settings.connect_interval)),
        ("retry_every", _centiseconds(settings.connect_retry_interval)),
        ("connect_after", _centiseconds(settings.connect_after)),
        ("limit", _centiseconds(settings.limit)),
        ("touch_limit", _centiseconds(settings.touch_limit)),
        ("connect_limit", _centiseconds(settings.connect_limit)),
        ("properties", ",".join(UNIT_PROPERTIES)),
    ):
        script = script.replace(f"@{name}@", value)
    return script.encode("ascii")


def tick_line(tick: int) -> bytes:
    """The question. `tick` counts up; it comes back in the block."""
    return b"%d\n" % tick


def block_line(
    tick: int,
    uptime: timedelta,
    sections: Mapping[str, Sequence[str]],
    slow: Mapping[str, tuple[timedelta, Sequence[str]]],
    pending: Mapping[str, timedelta],
) -> bytes:
    """One block as the loop writes it, for whoever stands in for a VM.

    `slow` holds per section the uptime at which it was asked; `pending` since when it runs.
    """
    parts = [f"##stackward {LOOP_VERSION} {tick} {_centiseconds(uptime)}"]
    parts += [_LINE_END.join((f"={name}", *lines)) for name, lines in sections.items()]
    parts += [
        _LINE_END.join((f"~{name} {_centiseconds(asked)}", *lines))
        for name, (asked, lines) in slow.items()
    ]
    parts += [f"?{name} {_centiseconds(since)}" for name, since in pending.items()]
    parts.append(f"##end {tick}\n")
    return _SECTION_END.join(parts).encode()


class BlockReader:
    """Bytes in, blocks out. One reader per channel: it remembers the slow sections of one loop.

    A part that stood in the block before as it stands now is not taken apart again, and its lines
    are the same object: most of a block is so.
    """

    def __init__(self, limits: BlockLimits | None = None) -> None:
        self._limits = limits or BlockLimits()
        self._buffer = bytearray()
        self._searched = 0
        self._has_begun = False
        self._slow: dict[str, _Part] = {}
        self._parts: dict[str, _Part] = {}  # of the last block, by their text
        self._names: dict[str, str] = {}  # of `=` sections, by heads that were found right

    def feed(self, data: bytes) -> tuple[RawBlock, ...]:
        """Take what arrived; give the blocks that are now whole. Raises LoopGarbled."""
        self._buffer += data
        if not self._has_begun and not self._find_begin():
            return ()
        blocks = []
        while (end := self._buffer.find(b"\n", self._searched)) >= 0:
            if end > self._limits.block_bytes_max:
                raise LoopGarbled(f"a block of {end} bytes")
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._searched = 0
            blocks.append(self._block(line))
        self._searched = len(self._buffer)
        if self._searched > self._limits.block_bytes_max:
            raise LoopGarbled(f"no end of block in {self._searched} bytes")
        return tuple(blocks)

    def _find_begin(self) -> bool:
        """Drop what a login printed before the first block, up to a limit."""
        begin = self._buffer.find(_BEGIN)
        if begin < 0:
            if len(self._buffer) > self._limits.banner_bytes_max:
                raise LoopGarbled(f"no block in the first {len(self._buffer)} bytes")
            return False
        if begin > self._limits.banner_bytes_max:
            raise LoopGarbled(f"{begin} bytes before the first block")
        del self._buffer[:begin]
        self._has_begun = True
        return True

    def _block(self, line: bytes) -> RawBlock:
        begin, *parts = line.decode("utf-8", "replace").split(_SECTION_END)
        match = _BEGIN_LINE.fullmatch(begin)
        if match is None:
            raise LoopGarbled(f"not the begin of a block: {begin[:80]!r}")
        version, tick, centiseconds = map(int, match.groups())
        now = _span(centiseconds)
        if not parts or parts.pop() != f"##end {tick}":
            raise LoopGarbled(f"the block of tick {tick} is not closed")
        sections: dict[str, tuple[str, ...]] = {}
        pending: dict[str, timedelta] = {}
        heard: list[str] = []
        before, fresh = self._parts, {}
        for text in parts:
            part = fresh[text] = before.get(text) or self._part(text)
            kind, name, time, lines = part
            if kind == "=":
                sections[name] = lines
            elif kind == "?":
                pending[name] = max(now - time, _ZERO)
            else:
                heard.append(name)
                self._keep(part)
        self._parts = fresh
        ages = {}
        for name, (_, _, time, lines) in self._slow.items():
            sections[name] = lines
            age = now - time
            ages[name] = max(_ZERO, age)
        return RawBlock(tick, version, sections, ages, pending, len(line) + 1, tuple(heard))

    def _part(self, text: str) -> _Part:
        head, *lines = text.split(_LINE_END)
        if head in self._names and len(lines) <= self._limits.section_lines_max:
            return _Part("=", self._names[head], _ZERO, tuple(lines))
        match = _SECTION.fullmatch(head)
        if match is None:
            raise LoopGarbled(f"not the head of a section: {head[:80]!r}")
        if len(lines) > self._limits.section_lines_max:
            raise LoopGarbled(f"section {head[:80]!r} has {len(lines)} lines")
        name, kind, slow_name, time = match.groups()
        if kind is None:
            if len(self._names) < _NAMES_KEPT:
                self._names[head] = name
            return _Part("=", name, _ZERO, tuple(lines))
        return _Part(kind, slow_name, _span(int(time)), tuple(lines))

    def _keep(self, part: _Part) -> None:
        self._slow.pop(part.name, None)
        if part.lines:
            self._slow[part.name] = part
        if len(self._slow) > self._limits.slow_sections_max:
            del self._slow[next(iter(self._slow))]


def _centiseconds(span: timedelta) -> str:
    return str(round(span.total_seconds() * 100))


def _span(centiseconds: int) -> timedelta:
    """Never more than a timedelta holds, whatever a VM says."""
    return timedelta(0, 0, 0, 10 * min(centiseconds, _SPAN_MAX))
