"""Of whom a line of a management server speaks: system VMs, rows of `host`, addresses.

Up to 4.19 a host is a number (`Host 4`), from 4.20 it is `{"id":4,"name":"s-12-VM",..}`; the agent
of a system VM has a row of its own. A system VM's own number is the one in its name. Lines that
name number and name together teach which is whose.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

READ_CHARS_MAX = 4096
NAMED_MAX = 100  # things of one kind in one line

_NAME = re.compile(r"\b[sv]-\d{1,12}-\w{1,40}\b")
_VM_NUMBER = re.compile(
    r"(?i)\b(?:vm|proxy|instance)\b,? ?(?:with )?(?:id ?[:=] ?|\[|\{\"id\":)(\d{1,12})\b"
    r"|\bsystem ?vm (?:id ?[:=] ?)?(\d{1,12})\b|\bvm id ?: ?(\d{1,12})\b"
)
_ROW = re.compile(
    r"(?i)\b(?:host|agent)(?: (?:with )?(?:id ?[:=] ?)?|: |:)(\d{1,12})(?=\D|$)(?![.:]\d)"
    r"|\bSeq (\d{1,12})-|\bvia: (\d{1,12})\b"
    r"|\b(?:host|agent) \{\"id\":(\d{1,12})\b|\[id = (\d{1,12}); name\b|\(id:(\d{1,12})\)"
    r"|Attach[e] for (\d{1,12})\b"
)
_BEHIND = re.compile(r"behind on ping: \[([\d, ]{1,4000})\]")
_ADDRESS = re.compile(r"(?<![\d.])(\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})(?![\d.]\d)")
_HOST_NAME = re.compile(
    r"\"name\":\"([^\"]{1,200})\"|\bname ?[=:] ?([\w.-]{1,200})|\bvia: \d{1,12}\(([^)]{1,200})\)"
)
_TAUGHT = re.compile(
    r"\bvia: (\d{1,12})\(([^)\s]{1,200})\)|\{\"id\":(\d{1,12}),\"name\":\"([^\"]{1,200})\""
    r"|\[id = (\d{1,12}); name = ([^;\]]{1,200});"
)
_TAUGHT_BACKWARDS = re.compile(r"\bname: (\S{1,200}) \(id:(\d{1,12})\)")


# The same in whole lines as they stand in the log, where most name nobody.
_NAME_BYTES = re.compile(rb"\b[sv]-\d{1,12}-\w{1,40}\b")
_LOG_ID_BYTES = re.compile(rb"\(logid:([^)\n]{1,100})\)")
_TEACHES_BYTES = re.compile(rb"\bvia: \d{1,12}\(|\{\"id\":\d|\[id = \d|\(id:\d")
_VIA_BYTES = re.compile(rb"\bvia: (\d{1,12})\(([^)\s]{1,200})\)")


@dataclass(frozen=True, slots=True)
class Named:
    """A line, counted from 1, of a request that names system VMs."""

    line: int
    request: str
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Mentions:
    """What one line names. `rows` are ids of `host`, `taught` pairs of such a row and a name."""

    names: frozenset[str]
    numbers: frozenset[str]
    rows: frozenset[str]
    addresses: frozenset[str]
    host_names: frozenset[str]
    taught: tuple[tuple[str, str], ...]


def names_in(text: str) -> frozenset[str]:
    """Only the system VMs that are named."""
    return frozenset(_NAME.findall(text[:READ_CHARS_MAX])[:NAMED_MAX])


def mentions_in(text: str) -> Mentions:
    """Everything that a line names."""
    text = text[:READ_CHARS_MAX]
    rows = set(_groups(_ROW, text))
    for behind in _BEHIND.findall(text):
        rows.update(word for word in behind.replace(",", " ").split() if word.isdigit())
    return Mentions(
        names=names_in(text),
        numbers=frozenset(_groups(_VM_NUMBER, text)),
        rows=frozenset(rows),
        addresses=frozenset(_ADDRESS.findall(text)[:NAMED_MAX]),
        host_names=frozenset(_groups(_HOST_NAME, text)),
        taught=taught_in(text),
    )


def taught_in(text: str) -> tuple[tuple[str, str], ...]:
    """Rows of `host` with the names that stand beside them."""
    pairs = []
    for found in _TAUGHT.finditer(text[:READ_CHARS_MAX]):
        row, name = (group for group in found.groups() if group is not None)
        pairs.append((row, name))
    pairs += [(row, name) for name, row in _TAUGHT_BACKWARDS.findall(text[:READ_CHARS_MAX])]
    return tuple(pairs[:NAMED_MAX])


def names_by_request(lines: bytes) -> Iterator[Named]:
    """The lines that name system VMs and the request that they are part of."""
    number, counted_to, at = 1, 0, 0
    while (found := _NAME_BYTES.search(lines, at)) is not None:
        start = lines.rfind(b"\n", 0, found.start()) + 1
        end = lines.find(b"\n", found.end())
        at = end = len(lines) if end < 0 else end
        number += lines.count(b"\n", counted_to, start)
        counted_to = start
        request = _LOG_ID_BYTES.search(lines, start, end)
        if request is not None:
            names = names_in(lines[start:end].decode("utf-8", "replace"))
            yield Named(number, request[1].decode("utf-8", "replace"), names)


def lines_that_name(lines: bytes) -> Iterator[str]:
    """Those that name system VMs."""
    return _lines_with(_NAME_BYTES, lines)


def lines_that_teach(lines: bytes) -> Iterator[str]:
    """Those in which names may stand beside rows of `host`."""
    return _lines_with(_TEACHES_BYTES, lines)


def _lines_with(pattern: re.Pattern[bytes], lines: bytes) -> Iterator[str]:
    end = 0
    while end >= 0 and (found := pattern.search(lines, end)) is not None:
        start = lines.rfind(b"\n", 0, found.start()) + 1
        end = lines.find(b"\n", found.end())
        yield lines[start : None if end < 0 else end].decode("utf-8", "replace")


def taught_in_lines(lines: bytes) -> Iterator[tuple[str, str]]:
    """Rows of `host` with the names beside them, where commands are sent and answered."""
    for row, name in dict.fromkeys(_VIA_BYTES.findall(lines)):
        yield row.decode(), name.decode("utf-8", "replace")


def _groups(pattern: re.Pattern[str], text: str) -> list[str]:
    """What any group of the pattern found."""
    found = pattern.findall(text)[:NAMED_MAX]
    return [word for one in found for word in (one if isinstance(one, tuple) else (one,)) if word]
