"""The fast way through a log: only what may matter is made into records.

All patterns look at whole lines at once (`Search`) and mark those that they may hit.
Round a mark the lines are assembled as always, from the head before it to the head behind it; a
record that is one line of log4j's, as nearly all are, is judged without making one. What nobody
marks is passed over. So a line that says nothing costs next to nothing, and one of many that say
the same not much more.

Rules of the room:

1. The events are those of the slow way, which assembles every record and tries all patterns on it.
2. What a `Search` cannot be trusted with is assembled: lines that are no ASCII, or too long.
   What matters is asked for once for all messages that differ in digits only, unless some pattern
   looks at digits that may stand there.
3. The lines before the first head of a stretch, and those from the last one on, are always
   assembled: their records reach into other stretches.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from datetime import datetime, tzinfo
from itertools import accumulate, repeat
from typing import Protocol

from stackward.catalog.log_lines import (
    FORMATS,
    LINE,
    ZEROS,
    Shape,
    head_at,
    odd_lines,
    shapes_of,
    text_of,
    turns,
)
from stackward.catalog.records import Record
from stackward.catalog.signatures import Hit, LogReading, Marks, SignatureSet
from stackward.model.guest import LogPosition
from stackward.model.sighting import EventClass, Sighting

# So many lines that hit, of one look, may be a storm.
STORM_LINES_MIN = 40
# What is kept of messages that differ in their digits only.
SHAPES_MAX = 5000
SHAPE_BYTES_MAX = 1000
# Looked at in one go: as a rule, in a flood, and where no more than so much is marked.
STEP_BYTES, FLOOD_STEP_BYTES = 32 * 1024, 16 * 1024
LONG_STEP_BYTES, LONG_STEP_MARKS_MAX = 256 * 1024, 64
TURN_LINES = 50  # so many are taken or asked for one by one before others have their turn

# In place of its signature: nobody asked yet, nobody asked whether digits matter, they do.
_NOT_ASKED, _SEEN_ONCE, _VARIES = -1, -2, -3
_UNSURE = frozenset({_NOT_ASKED, _SEEN_ONCE, _VARIES})


class Assembler(Protocol):
    """What joins lines to records: `RecordAssembler` and `FileAssembler`."""

    @property
    def has_heads(self) -> bool: ...
    @property
    def zone(self) -> tzinfo | None: ...
    def begins(self, line: bytes) -> bool: ...
    def lines(self, data: bytes, start: int, end: int) -> list[Record]: ...
    def pass_by(self, data: bytes, start: int, end: int) -> None: ...
    def close(self) -> tuple[Record, ...]: ...
    def places(self, data: bytes, at: int, starts: Sequence[int]) -> Sequence[int]: ...
    def head(self, line: bytes, place: int) -> Record | None: ...
    def position(self, place: int) -> LogPosition: ...


Known = dict[Shape, int | None]
"""The signature that counts for messages of a shape, as far as that is known; None: none does."""

_Line = tuple[re.Match[bytes], Collection[int]]
"""A record that is one line, newline and all, and what may hit it."""


class Sieve:
    """Reads one log, stretch by stretch of whole lines.

    `broken` is called with what went wrong with one record (the wall stands round a record).
    `is_in_haste` False: it goes the slow way, which for a short log is the quicker one, as a
    `Search` takes its time to be made. `may_shed` True: in a storm it may count in `shed` what lies
    between the first and the last event of a class, instead of giving it out. Sieves of the same
    signatures and role may share what is `known`.
    """

    def __init__(
        self,
        signatures: SignatureSet,
        role: str | None,
        assembler: Assembler,
        broken: Callable[[Exception], None],
        known: Known | None = None,
    ) -> None:
        self._search = signatures.search if assembler.has_heads else None
        self._assembler = assembler
        self._reading = LogReading(signatures, role, assembler.zone)
        self._broken = broken
        self._allowed: dict[tuple[bytes, bytes], Sequence[bool]] = {}
        self._known: Known = {} if known is None else known
        self._is_storm = False
        self._is_calm = True  # as far as one step shows
        self.is_in_haste = True
        self.may_shed = False
        self.shed: Counter[EventClass] = Counter()

    def read(self, data: bytes, seen_at: datetime) -> Iterator[Hit]:
        """What is hit in these lines, in their order. The last record stays open."""
        return (hit for hit in self.steps(data, seen_at) if hit is not None)

    def steps(self, data: bytes, seen_at: datetime) -> Iterator[Hit | None]:
        """The same, with None now and then, where others may have their turn."""
        if self._search is None or not self.is_in_haste:
            yield from self._taken(data, 0, len(data), seen_at)
            return
        assembler, size = self._assembler, len(data)
        first = self._head_from(data, 0)
        if first:
            yield None
        yield from self._taken(data, 0, first, seen_at)
        if first == size:
            return
        yield from self.judged(assembler.close(), seen_at)
        last = self._head_before(data, size, first)
        odd = frozenset(odd_lines(data))
        at = first
        if self._is_storm and self.may_shed and not odd:
            at = yield from self._flood(data, at, last, seen_at)
        for lines, begin, end in self._parts(data, at, last, odd):
            if lines:
                yield from self._confirmed(data, at, lines, seen_at)
                at = lines[-1][0].start()
            if begin < end:
                assembler.pass_by(data, at, begin)
                yield from self._taken(data, begin, end, seen_at)
                yield from self.judged(assembler.close(), seen_at)
                at = end
            yield None
        assembler.pass_by(data, at, last)
        yield from self._taken(data, last, size, seen_at)

    def judged(self, records: Iterable[Record], seen_at: datetime) -> Iterator[Hit]:
        """What hits these records."""
        for record in records:
            try:
                hit = self._reading.recognise(record, seen_at)
            except Exception as error:
                self._broken(error)
                continue
            if hit is not None:
                yield hit

    def tell(self, hit: Hit, seen_at: datetime) -> Sighting | None:
        """The hit as a sighting, while its stretch is still the one that is read."""
        try:
            if hit.found is None:
                assert hit.record is not None
                return self._reading.tell(hit, hit.record, seen_at)
            stamp, _, _, message = hit.found.groups()
            line_start = self._assembler.position(hit.place)
            return self._reading.tell_line(hit, text_of(message), stamp, line_start, seen_at)
        except Exception as error:
            self._broken(error)
            return None

    def _taken(self, data: bytes, start: int, end: int, seen_at: datetime) -> Iterator[Hit | None]:
        for stop in turns(data, start, end, TURN_LINES):
            if stop < end:
                yield None
            yield from self.judged(self._assembler.lines(data, start, stop), seen_at)
            start = stop

    def _parts(
        self, data: bytes, start: int, last: int, odd: frozenset[int]
    ) -> Iterator[tuple[list[_Line], int, int]]:
        """What may matter: records of one line each, and then the lines of other records.

        All between the heads at `start` and `last`, in steps.
        """
        at = start
        while at < last:
            if self._is_storm:
                stop = self._step(data, at, last, STEP_BYTES)
                parts = self._every_part(data, at, stop, odd)
            else:
                stop, marks = self._look(data, at, last)
                yield [], at, at  # it took its time
                parts = self._marked_parts(data, at, stop, odd, marks)
            yield from parts
            at = stop

    def _look(self, data: bytes, at: int, last: int) -> tuple[int, Marks]:
        """A step, and what is marked in it."""
        assert self._search is not None
        if self._is_calm:
            stop = self._step(data, at, last, LONG_STEP_BYTES)
            marks = self._search.find(data, at, stop, LONG_STEP_MARKS_MAX)
            if marks is not None:
                return stop, marks
        stop = self._step(data, at, last, STEP_BYTES)
        marks = self._search.find(data, at, stop) or {}
        self._is_calm = len(marks) * LONG_STEP_BYTES <= LONG_STEP_MARKS_MAX * STEP_BYTES
        return stop, marks

    def _step(self, data: bytes, at: int, last: int, size: int) -> int:
        """A head about so far from here, or `last`."""
        step = data.rfind(b"\n", at, at + size) + 1 or data.index(b"\n", at) + 1
        return self._head_from(data, min(step, last))

    def _flood(
        self, data: bytes, start: int, stop: int, seen_at: datetime
    ) -> Generator[Hit | None, None, int]:
        """The first and last of each class, the rest counted, as long as it storms and is simple.

        It is if every line is a record of its own, and nothing echoes. Returns where that ends.
        """
        starts: list[int] = []
        numbers: list[int | None] = []
        at = start
        while self._is_storm and at < stop:
            step = self._step(data, at, stop, FLOOD_STEP_BYTES)
            shapes = shapes_of(data[at:step])
            if shapes is None:
                break
            lengths = [len(line) + 1 for line in data[at : step - 1].split(b"\n")]
            begins = [*accumulate(lengths, initial=at)]
            found = yield from self._numbers(data, begins, shapes)
            if any(number is not None and self._reading.is_echo(number) for number in {*found}):
                break
            starts += begins[:-1]
            numbers += found
            self._is_storm = 2 * found.count(None) < len(found)
            at = step
            yield None
        passed = yield from self._firsts_and_lasts(data, start, starts, numbers, seen_at)
        self._assembler.pass_by(data, passed, at)
        return at

    def _firsts_and_lasts(
        self,
        data: bytes,
        at: int,
        starts: Sequence[int],
        numbers: Sequence[int | None],
        seen_at: datetime,
    ) -> Generator[Hit | None, None, int]:
        """Of each class the first and the last hit; the others are counted, as `shed`.

        The assembler is `at` this place; returns where it is now.
        """
        size = len(numbers)
        lasts = dict(zip(numbers, range(size), strict=True))
        firsts = dict(zip(reversed(numbers), range(size - 1, -1, -1), strict=True))
        totals: Counter[EventClass] = Counter()
        ends: dict[EventClass, tuple[int, int]] = {}
        for number, count in Counter(numbers).items():
            if number is None:
                continue
            event = self._reading.event_of(number)
            first, last = ends.get(event, (size, 0))
            ends[event] = min(first, firsts[number]), max(last, lasts[number])
            totals[event] += count
        yield None
        kept = {event: {*both} for event, both in ends.items()}
        totals.subtract({event: len(both) for event, both in kept.items()})
        self.shed += totals
        indexes = sorted(index for both in kept.values() for index in both)
        begins = [starts[index] for index in indexes]
        places = self._assembler.places(data, at, begins)
        for index, begin, place in zip(indexes, begins, places, strict=True):
            line, number = LINE.match(data, begin), numbers[index]
            assert line is not None
            assert number is not None
            yield self._reading.hit(number, line[1], seen_at, line, place)
        return begins[-1] if begins else at

    def _numbers(
        self, data: bytes, starts: Sequence[int], shapes: list[Shape]
    ) -> Generator[None, None, list[int | None]]:
        """The signature that counts for each of these lines, None for none."""
        numbers = [*map(self._known.get, shapes, repeat(_NOT_ASKED))]
        unsure = [index for index, number in enumerate(numbers) if number in _UNSURE]
        marks: Marks | None = None
        if len(unsure) >= STORM_LINES_MIN:  # one look at all costs less than one at each
            assert self._search is not None
            marks = self._search.find(data, starts[0], starts[-1])
        for count, index in enumerate(unsure):
            if count % TURN_LINES == 0:
                yield None
            end = starts[index + 1]
            message = data[end - 1 - len(shapes[index][2]) : end - 1]
            among = () if marks is None else marks.get(end)
            numbers[index] = self._number(shapes[index], message, among)
        return numbers

    def _number(self, shape: Shape, message: bytes, among: Collection[int] | None) -> int | None:
        """The signature that counts for a message of this shape, looked up if it is known.

        `among` is what may hit; empty: anything, None: nothing.
        """
        known = self._known.get(shape, _NOT_ASKED)
        if known not in _UNSURE:
            return known
        mark, level, zeros = shape
        allowed = self._allowed.get((mark, level)) or self._allow(mark, level)
        number = None
        if among is not None:
            try:
                text, numbers = text_of(message), sorted(among) or None
                number = self._reading.recognise_message(allowed, text, numbers)
            except Exception as error:  # the wall round one log record: nothing is known of others
                self._broken(error)
                return None
        if known == _NOT_ASKED and len(zeros) <= SHAPE_BYTES_MAX:
            if len(self._known) >= SHAPES_MAX:
                self._known.clear()
            self._known[shape] = _SEEN_ONCE
        elif known == _SEEN_ONCE:
            assert self._search is not None
            self._known[shape] = _VARIES if self._search.varies(text_of(zeros)) else number
        return number

    def _marked_parts(
        self, data: bytes, start: int, last: int, odd: frozenset[int], marks: Marks
    ) -> Iterator[tuple[list[_Line], int, int]]:
        if odd:
            marks |= {end: set() for end in odd if start < end <= last}
        lines: list[_Line] = []
        at = start
        for end, among in sorted(marks.items()) if odd else marks.items():
            if end <= at:
                continue
            begin = data.rfind(b"\n", at, end - 1) + 1 or at
            line = None if end in odd else LINE.match(data, begin)
            if line is not None and self._is_head(data, end):
                lines.append((line, among))
                at = end
                continue
            before, at = at, self._head_from(data, end)
            yield lines, self._head_before(data, end, before), at
            lines = []
        yield lines, last, last

    def _every_part(
        self, data: bytes, start: int, last: int, odd: frozenset[int]
    ) -> Iterator[tuple[list[_Line], int, int]]:
        """The same in a storm: every line may matter."""
        lines: list[_Line] = []
        at = start
        while at < last:
            line = LINE.match(data, at)
            if line is not None and line.end() not in odd:
                lines.append((line, ()))
                at = line.end()
                continue
            # What begins no record belongs to the one before it.
            begin = at if self._is_head(data, at) else lines.pop()[0].start()
            at = self._head_from(data, data.index(b"\n", at) + 1)
            yield lines, begin, at
            lines = []
        yield lines, last, last

    def _confirmed(
        self, data: bytes, at: int, lines: list[_Line], seen_at: datetime
    ) -> Iterator[Hit | None]:
        """What hits these records of one line each; the assembler is `at` this place."""
        hit = self._reading.hit
        places = self._assembler.places(data, at, [line.start() for line, _ in lines])
        hits = 0
        for count, ((line, among), place) in enumerate(zip(lines, places, strict=True)):
            if count % TURN_LINES == 0:
                yield None
            stamp, mark, level, message = line.groups()
            number = self._number((mark, level, message.translate(ZEROS)), message, among)
            if number is not None:
                hits += 1
                yield hit(number, stamp, seen_at, line, place)
        is_storm = self._is_storm or hits >= STORM_LINES_MIN
        self._is_storm = is_storm and 2 * hits > len(lines)

    def _allow(self, mark: bytes, level: bytes) -> Sequence[bool]:
        allowed = self._allowed[mark, level] = self._reading.allowed(FORMATS[mark], level.decode())
        return allowed

    def _is_head(self, data: bytes, start: int) -> bool:
        """True if a record begins here whatever stands before it."""
        first = data[start]
        if first in b" \t\r\n":
            return False
        if first in b"0123456789" and head_at(data, start) is not None:
            return True
        return self._assembler.begins(data[start : data.index(b"\n", start)])

    def _head_from(self, data: bytes, start: int) -> int:
        """The first head from here on, or the end of the data."""
        size = len(data)
        while start < size and not self._is_head(data, start):
            start = data.index(b"\n", start) + 1
        return start

    def _head_before(self, data: bytes, end: int, floor: int) -> int:
        """The last head before this line's end; at `floor` there is one."""
        while end > floor:
            end = data.rfind(b"\n", floor, end - 1) + 1 or floor
            if self._is_head(data, end):
                break
        return end
