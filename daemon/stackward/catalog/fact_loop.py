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
from stackward.model.guest import Ages

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
_SECTION = re.compile(r"=([!-~]{1,300})", re.ASCII)
_SLOW_SECTION = re.compile(r"([~?])([!-~]{1,300}) (\d{1,18})", re.ASCII)
_SECTION_END = "\x1e"
_LINE_END = "\x1f"
_NAMES_KEPT = 64
# What every block tells anew, or as good as that.
VOLATILE_SECTIONS = frozenset({"uptime", "load", "clock", "memory", "files"})
_CENTISECOND = timedelta(milliseconds=10)
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
    ages: Ages
    pending: Mapping[str, timedelta]
    size_bytes: int
    lasting: Mapping[str, tuple[str, ...]] | None = None


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

    A section that stood in the block before as it stands now is not taken apart again, and its
    lines are the same object: most of a block is so.
    """

    def __init__(self, limits: BlockLimits | None = None) -> None:
        self._limits = limits or BlockLimits()
        self._buffer = bytearray()
        self._searched = 0
        self._has_begun = False
        self._slow: dict[str, tuple[str, ...]] = {}  # in the order of their coming
        self._asked: dict[str, timedelta] = {}  # when each of these was
        self._known: dict[str, tuple[str, tuple[str, ...]]] = {}  # lasting `=` sections by text
        self._texts: dict[str, str] = {}  # and their texts by name
        self._names: dict[str, str] = {}  # of `=` sections, by heads that were found right
        self._lasting: Mapping[str, tuple[str, ...]] | None = None

    def feed(self, data: bytes) -> tuple[RawBlock, ...]:
        """Take what arrived; give the blocks that are now whole. Raises LoopGarbled."""
        end = len(data) - 1
        if not self._buffer and self._has_begun and data.find(b"\n") == end >= 0:
            return (self._block(data[:end]),)  # one whole block, as mostly
        self._buffer += data
        if not self._has_begun and not self._find_begin():
            return ()
        blocks = []
        while (end := self._buffer.find(b"\n", self._searched)) >= 0:
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
        if len(line) > self._limits.block_bytes_max:
            raise LoopGarbled(f"a block of {len(line)} bytes")
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
        heard = 0
        known, repeated = self._known, 0
        for text in parts:
            section = known.get(text)
            if section is not None:
                repeated += 1
                name, lines = section
                sections[name] = lines
            elif text.startswith("="):
                name, lines = self._fresh(text)
                sections[name] = lines
            else:
                heard += self._slow_part(text, now, pending, is_first=not heard)
        is_twice = len(sections) + len(pending) + heard != len(parts)
        if repeated != len(known) or is_twice:
            self._forget_known(parts)
        sections.update(self._slow)
        if self._lasting is None:
            self._lasting = {
                name: lines for name, lines in sections.items() if name not in VOLATILE_SECTIONS
            }
        ages = Ages(self._asked, now)
        size = len(line) + 1
        return RawBlock(tick, version, sections, ages, pending, size, self._lasting)

    def _fresh(self, text: str) -> tuple[str, tuple[str, ...]]:
        """A section that was read for this tick, and does not read as in the block before."""
        head, *lines = text.split(_LINE_END)
        name = self._names.get(head) or self._name(head)
        section = name, self._bounded(head, lines)
        if name not in VOLATILE_SECTIONS:
            self._lasting = None
            self._known.pop(self._texts.get(name, ""), None)
            self._texts[name] = text
            self._known[text] = section
        return section

    def _name(self, head: str) -> str:
        match = _SECTION.fullmatch(head)
        if match is None:
            raise LoopGarbled(f"not the head of a section: {head[:80]!r}")
        name = match[1]
        if len(self._names) < _NAMES_KEPT:
            self._names[head] = name
        return name

    def _slow_part(
        self, text: str, now: timedelta, pending: dict[str, timedelta], *, is_first: bool
    ) -> bool:
        """A section that was heard since the block before, or is still waited for: False.

        `is_first`: no other was heard in this block.
        """
        head, *told = text.split(_LINE_END)
        match = _SLOW_SECTION.fullmatch(head)
        if match is None:
            raise LoopGarbled(f"not the head of a section: {head[:80]!r}")
        kind, name, centiseconds = match.groups()
        lines, time = self._bounded(head, told), _span(int(centiseconds))
        if kind == "?":
            pending[name] = max(now - time, _ZERO)
            return False
        if is_first:  # those of the block before may still be asked for
            self._asked = self._asked.copy()
        before = self._slow.pop(name, ())
        if before != lines and name not in VOLATILE_SECTIONS:
            self._lasting = None
        if lines:
            self._slow[name] = before if before == lines else lines
            self._asked[name] = time
        else:
            self._asked.pop(name, None)
        if len(self._slow) > self._limits.slow_sections_max:
            oldest = next(iter(self._slow))
            del self._slow[oldest], self._asked[oldest]
            self._lasting = None
        return True

    def _bounded(self, head: str, lines: list[str]) -> tuple[str, ...]:
        if len(lines) > self._limits.section_lines_max:
            raise LoopGarbled(f"section {head[:80]!r} has {len(lines)} lines")
        return tuple(lines)

    def _forget_known(self, parts: list[str]) -> None:
        """Keep of the lasting sections those of this block."""
        here = set(parts)
        gone = [name for name, text in self._texts.items() if text not in here]
        for name in gone:
            self._known.pop(self._texts.pop(name), None)
            self._lasting = None


def _centiseconds(span: timedelta) -> str:
    return str(round(span.total_seconds() * 100))


def _span(centiseconds: int) -> timedelta:
    """Never more than a timedelta holds, whatever a VM says."""
    return min(centiseconds, _SPAN_MAX) * _CENTISECOND
