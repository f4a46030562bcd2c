"""One look of all patterns at whole lines of a log: hyperscan over the bytes, as they came.

Most patterns hit only texts that hold one of a few words (needles.py), and words are what it finds
quickest, by far if there is nothing else. Other patterns are looked for as they are. They are for
messages and here they meet raw lines, with a head before the message and perhaps a carriage return
behind it. So each is loosened until it holds there: what it hits in a record it must hit in one of
the record's lines. It may hit more, for every hit is confirmed.

Rules of the room:

1. Loosened is never narrowed: an assertion is dropped or widened, nothing is added that a line
   that RE2 hits could lack. It holds for ASCII; nobody asks about other lines.
2. Each expression goes on to the end of its line: a line is told once for each.
3. What hyperscan does not take is looked for by RE2, so linear time stays.
"""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import hyperscan
import re2

from stackward.catalog.log_lines import LINE_FORMATS
from stackward.catalog.records import LogFormat
from stackward.catalog.signatures import Marks
from stackward.config.needles import LETTERS_ENOUGH, Needle, Needles, needles
from stackward.config.shapes import shapes_of

# What follows a head is the message. With `^`: the line is the message, or the line of a trace.
_AFTER_HEAD = r"(?:^|[ \r])"
_LINE_END = r"[^\n]*\n"
# So lines of boot scripts begin. A pattern for these alone looks at hardly any other line.
_DAYS = ("Mon ", "Tue ", "Wed ", "Thu ", "Fri ", "Sat ", "Sun ")
_SHELL_ONLY = frozenset({LogFormat.SHELL})
_TOKEN = re.compile(
    r"\\[pP](?:\{[^}]*\}|.)|\\x\{[^}]*\}|\\Q.*?(?:\\E|$)|\\."  # an escape
    r"|\[\^?\]?(?:\[:\^?\w+:\]|\\[pP]\{[^}]*\}|\\.|[^\]\\])*\]"  # a class
    r"|\.(?:\{\d+,\d*\}|[*+])\??"  # a gap
    r"|.",
    re.DOTALL,
)
# White space is another set for hyperscan, which counts the vertical tab.
_IN_CLASS = {r"\s": r"\t\f\r ", r"\S": r"\x00-\x08\x0b\x0e-\x1f!-\xff"}
_SETS = {name: f"[{inner}]" for name, inner in _IN_CLASS.items()} | {
    r"\W": r"[^\w\n]",
    r"\D": r"[^\d\n]",
}
_FLAGS = hyperscan.HS_FLAG_MULTILINE
LETTERS_RARE = 12  # shorter words stand in many lines
SHAPES_MEMORY_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """A signature's expressions, formats of its records (empty: any), and what it must hit."""

    message: str | None
    cause: str | None
    formats: frozenset[LogFormat] = frozenset()
    samples: tuple[str, ...] = ()


Way = tuple[str, ...]
"""Expressions for hyperscan: what is looked for hits only lines that one of them hits."""

Locate = Callable[[bytes, int], int | None]
"""Where a hit ends that begins at this place or behind it."""


class LineSearch:
    """All patterns at once; a `Search`. Made at the first look, which takes its time."""

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._wanted = tuple(wanted)

    def make(self) -> None:
        """Compile everything now."""
        self.find(b"\n")
        self.varies("")

    def find(
        self, lines: bytes, start: int = 0, end: int | None = None, most: int | None = None
    ) -> Marks | None:
        """As `Search` asks."""
        made = self._made
        if made.slow and most is not None:
            return None
        part = memoryview(lines)[start:end]
        found = made.scanner.found(part, most)
        if found is None:
            return None
        if made.slow:
            found += _slowly(made.slow, bytes(part))
        found.sort()  # no order is promised
        marks: Marks = {}
        line_end = 0
        for at, number in found:
            if start + at > line_end:
                line_end = lines.index(b"\n", start + at - 1) + 1
                marks[line_end] = set()
            marks[line_end].update(made.meant[number])
        return marks

    def varies(self, shape: str) -> bool:
        """As `Search` asks."""
        return self._varies(shape)

    @cached_property
    def _varies(self) -> Callable[[str], bool]:
        """Looks for what looks at digits and is not hit whatever they are."""
        shapes = [
            shapes_of(expression)
            for each in self._wanted
            if not each.formats or each.formats & LINE_FORMATS
            for expression in (each.message, each.cause)
            if expression
        ]
        looking = [each for each in shapes if each is None or each.is_other]
        if not looking:
            return lambda _: False
        options = re2.Options()
        options.never_nl, options.log_errors, options.max_mem = True, False, SHAPES_MEMORY_BYTES
        together = re2.Set.SearchSet(options)
        try:
            for each in looking:
                if each is None:
                    return lambda _: True
                together.Add(each.some)
            together.Compile()
            every = [re2.compile(each.every, options) for each in looking if each]
        except re2.error:
            return lambda _: True

        def varies(shape: str) -> bool:
            return any(every[n].search(shape) is None for n in together.Match(shape) or ())

        return varies

    @cached_property
    def _made(self) -> "_Made":
        """What hyperscan takes, and the rest."""
        chosen: list[Way | None] = [next(_ways(each)) for each in self._wanted]
        made = _together(chosen)
        if made is None:
            # The error of all of them does not say which is at fault.
            chosen = [next(filter(_database, _ways(each)), None) for each in self._wanted]
            made = _together(chosen) or _Made(_Scanner(None), [])
        known = {number for numbers in made.meant for number in numbers}
        slow = {*range(len(chosen))} - known | set(_missed(made, self._wanted, chosen))
        for number in sorted(slow):
            made.slow.append((len(made.meant), _by_re2(self._wanted[number])))
            made.meant.append((number,))
        return made


@dataclass(slots=True)
class _Made:
    """What is looked for: by hyperscan, whose numbers mean so many signatures; by RE2."""

    scanner: "_Scanner"
    meant: list[tuple[int, ...]]
    slow: list[tuple[int, Locate]] = field(default_factory=list)


def _together(chosen: Sequence[Way | None]) -> _Made | None:
    """None: hyperscan does not take them."""
    meanings: dict[str, list[int]] = {}
    for number, way in enumerate(chosen):
        for form in way or ():
            meanings.setdefault(form, []).append(number)
    database = _database(list(meanings))
    if database is None and meanings:
        return None
    return _Made(_Scanner(database), [tuple(numbers) for numbers in meanings.values()])


def _missed(made: _Made, wanted: Sequence[Wanted], chosen: Sequence[Way | None]) -> Iterator[int]:
    """Those of which a sample was not found: hyperscan has its faults."""
    for number, (each, way) in enumerate(zip(wanted, chosen, strict=True)):
        lines = "\n".join(each.samples).encode() + b"\n"
        if not each.samples or not lines.isascii() or way in (None, _DAYS):
            continue
        found = made.scanner.found(lines) or ()
        ends = {lines.index(b"\n", at - 1) for at, form in found if number in made.meant[form]}
        at = 0
        for sample in each.samples:
            begin, at = at, at + len(sample) + 1
            if not any(begin < end < at for end in ends):
                yield number
                break


class _Scanner:
    """A database, with a scratch for each thread."""

    def __init__(self, database: hyperscan.Database | None) -> None:
        self._database = database
        self._threads = threading.local()

    def found(
        self, data: bytes | memoryview, most: int | None = None
    ) -> list[tuple[int, int]] | None:
        """Where something ends, and the number of what it is. None: more than `most`."""
        found: list[tuple[int, int]] = []
        if self._database is None:
            return found
        scratch = getattr(self._threads, "scratch", None)
        if scratch is None:
            scratch = self._threads.scratch = hyperscan.Scratch(self._database)
        take = found.append

        def hit(number: int, _start: int, end: int, _flags: int, _context: object) -> bool:
            take((end, number))
            return len(found) == limit  # enough

        limit = -1 if most is None else most + 1
        try:
            self._database.scan(  # type: ignore[type-var]  # it takes any buffer
                data, match_event_handler=hit, scratch=scratch
            )
        except hyperscan.ScanTerminated:
            return None
        return found


def _slowly(expressions: list[tuple[int, Locate]], data: bytes) -> Iterator[tuple[int, int]]:
    """The same, each once in a line; a part of the data that is not at its end has its newline."""
    for number, locate in expressions:
        at = 0
        while (end := locate(data, at)) is not None:
            at = data.index(b"\n", max(end - 1, at)) + 1
            yield at, number


def _database(forms: Sequence[str]) -> hyperscan.Database | None:
    """None: hyperscan does not take them."""
    if not forms:
        return None
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    try:
        database.compile(
            expressions=[form.encode() for form in forms],
            ids=list(range(len(forms))),
            elements=len(forms),
            flags=[_FLAGS] * len(forms),
        )
    except (hyperscan.error, UnicodeEncodeError):
        return None
    return database


def _by_re2(wanted: Wanted) -> Locate:
    *_, (form,) = _ways(wanted)
    options = re2.Options()
    options.log_errors = False
    compiled = re2.compile(f"(?m:{form})", options)

    def locate(data: bytes, at: int) -> int | None:
        found = compiled.search(data, at)
        return None if found is None else int(found.end())

    return locate


def _ways(wanted: Wanted) -> Iterator[Way]:
    """How to look for it in raw lines: the best way first, then ever looser ones."""
    both = needles(wanted.message or ""), needles(wanted.cause or "")
    if wanted.message and wanted.formats == _SHELL_ONLY:
        yield _DAYS
    elif known := [words for words in both if words]:
        # Both have to hit, so one is looked for.
        best = min(known, key=_hardness)
        yield tuple(sorted({*map(_word, best)}))
    expression = wanted.message or wanted.cause or ""
    yield (f"(?:{_loosen(expression, _AFTER_HEAD)}){_LINE_END}",)
    bare = _loosen(expression, "")
    yield (f"(?:{bare}){_LINE_END}",)
    yield (f"(?:{_without_counts(bare)}){_LINE_END}",)


def _hardness(words: Needles) -> tuple[int, int]:
    """The less, the better to look for: no word that many lines hold, and then few words."""
    return -min(LETTERS_RARE, *(len(needle.text) for needle in words)), len(words)


def _word(needle: Needle) -> str:
    """Its beginning: many words have one in common, and then there are fewer to look for."""
    letters = needle.text[:LETTERS_ENOUGH]
    text = "".join(each if each.isalnum() else f"\\x{ord(each):02x}" for each in letters)
    return f"(?i){text}" if needle.any_case else text


def _loosen(expression: str, beginning: str) -> str:
    """`beginning` stands for the place where a message begins."""
    tokens, loose = _TOKEN.findall(expression), []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        at += 1
        if token == "^":  # noqa: S105  no password
            skipped = _gap_at(tokens, at)
            at += skipped
            # Behind a gap at the beginning the rest may stand anywhere.
            loose.append("" if skipped else beginning)
        elif token != "$":  # noqa: S105  no password
            loose.append(_in_line(token))
    return "".join(loose)


def _gap_at(tokens: list[str], at: int) -> int:
    """How many tokens here may stand for nothing or for any length."""
    if at < len(tokens) and len(tokens[at]) > 1 and tokens[at][0] == ".":
        return 1
    if at + 1 < len(tokens) and tokens[at + 1] == "*" and tokens[at] not in "()":
        return 3 if tokens[at + 2 : at + 3] == ["?"] else 2
    return 0


def _in_line(token: str) -> str:
    """A set of characters as RE2 has it, without the newline: no hit reaches into another line."""
    if token in _SETS:
        return _SETS[token]
    if token[0] != "[" or len(token) == 1:
        return token
    parts = re.findall(r"\\.|[^\\]", token, re.DOTALL)
    inner = "".join(_IN_CLASS.get(part, part) for part in parts)
    return f"{inner[:-1]}\\n]" if inner.startswith("[^") else inner


_COUNT = re.compile(r"(?<!\\)\{(\d+),?\d*\}")


def _without_counts(expression: str) -> str:
    return _COUNT.sub(lambda found: "*" if int(found[1]) == 0 else "+", expression)
