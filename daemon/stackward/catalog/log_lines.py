"""Lines of a log as the sieve sees them, before they are records: heads, shapes, slices.

Rule of the room: what is read here as a head or as a line of log4j both assemblers read alike.
"""

import re
from collections.abc import Iterator

from stackward.catalog.records import LogFormat

# Shorter than RecordLimits.message_chars_max: nothing of such a line is cut.
LINE_BYTES_TRUSTED = 8000
SLICE_BYTES_MAX = 256 * 1024
SLICE_LINES_MAX = 1500
SAMPLE_BYTES, SHORT_LINE_BYTES = 4096, 32

# With more than a blank behind its thread, which ends at the first bracket before a blank.
_HEAD_BYTES = (
    rb"(\d{4}-\d\d-\d\d([ T])\d\d:\d\d:\d\d,\d{3}) (TRACE|DEBUG|INFO|WARN|ERROR|FATAL) ++"
    rb"\[[^\]\n]*+\] \([^)\n]*+\)(?:(?! )[^)\n]*+\))*+ (?:\(logid:[^)\n]*+\) )?(?!\(logid:)"
)
_HEAD = re.compile(_HEAD_BYTES)
LINE = re.compile(_HEAD_BYTES + rb"([^\n]*+)\n")
"""A line with its newline: time, what marks its format, level, message."""
FORMATS = {b" ": LogFormat.LOG4J1, b"T": LogFormat.LOG4J2}
LINE_FORMATS = frozenset(FORMATS.values())

ZEROS = bytes.maketrans(b"123456789", b"000000000")
Shape = tuple[bytes, bytes, bytes]
"""What marks its format, level and message, with zeros for digits."""
# It may run on over ends of lines, which is quicker: where it hits as often as there are lines it
# did not.
_SHAPE = re.compile(
    rb"^0000-00-00([ T])00:00:00,000 "
    + _HEAD_BYTES.partition(rb",\d{3}) ")[2].replace(rb"\n]*+", b"]*+").replace(rb"\n]++", b"]++")
    + rb"(.*+)\n",
    re.MULTILINE,
)
_NOT_ASCII = re.compile(rb"[\x80-\xff]")


def shapes_of(lines: bytes) -> list[Shape] | None:
    """The shapes of whole lines; None: not each of them is a line of log4j."""
    shapes = _SHAPE.findall(lines.translate(ZEROS))
    return shapes if len(shapes) == line_count(lines) else None


def text_of(message: bytes) -> str:
    """A message of ASCII as a record has it."""
    return message.rstrip(b"\r").decode("ascii")


def slices(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Whole lines in pieces that are read in a few milliseconds, whatever they are.

    Where each begins and ends, and how many lines it holds.
    """
    start, size = 0, len(data)
    while start < size:
        end = data.rfind(b"\n", start, start + SLICE_BYTES_MAX) + 1
        end = end or data.index(b"\n", start) + 1
        lines = line_count(data[start:end])
        while lines > SLICE_LINES_MAX:
            half = data.rfind(b"\n", start, (start + end) // 2) + 1
            end = half or data.index(b"\n", start) + 1  # the first line is more than half of it
            lines = data.count(b"\n", start, end)
        yield start, end, lines
        start = end


def line_count(data: bytes) -> int:
    """How many newlines there are.

    Python's `count` looks at each byte by itself. To take them out is several times quicker, unless
    lines are short, as the first ones show.
    """
    if data.count(b"\n", 0, SAMPLE_BYTES) > SAMPLE_BYTES // SHORT_LINE_BYTES:
        return data.count(b"\n")
    return len(data) - len(data.replace(b"\n", b""))


def turns(data: bytes, start: int, end: int, lines: int) -> Iterator[int]:
    """Where so many of these whole lines end, and so many more, up to all."""
    at = start
    while at < end:
        for _ in range(lines):
            at = data.index(b"\n", at) + 1
            if at == end:
                break
        yield at


def head_at(data: bytes, start: int) -> re.Match[bytes] | None:
    """The head of the line that begins here."""
    head = _HEAD.match(data, start)
    return head if head is not None and head.end() - start < LINE_BYTES_TRUSTED else None


def odd_lines(data: bytes) -> Iterator[int]:
    """The ends of the lines that only the slow way reads rightly."""
    size, at = len(data), 0
    while size - at > LINE_BYTES_TRUSTED:
        end = data.rfind(b"\n", at, at + LINE_BYTES_TRUSTED) + 1
        if not end:
            end = data.index(b"\n", at) + 1
            yield end
        at = end
    if data.isascii():
        return
    at = 0
    while (found := _NOT_ASCII.search(data, at)) is not None:
        at = data.index(b"\n", found.start()) + 1
        yield at
