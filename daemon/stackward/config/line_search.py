"""One look of all patterns at whole lines of a log: hyperscan over the bytes, as they came.

The patterns are for messages; here they meet raw lines, with a head before the message and perhaps
a carriage return behind it. So each is loosened until it holds there: what it hits in a record it
must hit in one of the record's lines. It may hit more, for every hit is confirmed.

Rules of the room:

1. Loosened is never narrowed: an assertion is dropped or widened, nothing is added that a line
   that RE2 hits could lack. It holds for ASCII; nobody asks about other lines.
2. Each expression goes on to the end of its line: a line is told once for each, and which line it
   is is known without looking for it.
3. What hyperscan does not take is looked for by RE2, so linear time stays.
"""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, count
from operator import add, itemgetter

import hyperscan
import re2

from stackward.catalog.records import LogFormat
from stackward.catalog.sieve import LINE_FORMATS
from stackward.catalog.signatures import Marks

# What follows a head is the message. With `^`: the line is the message, or the line of a trace.
_AFTER_HEAD = r"(?:^|[ \r])"
_LINE_END = r"[^\n]*\n"
# Beginnings of lines by format. A pattern for these alone looks at no other line.
_HEADS = {
    LogFormat.SHELL: r"[A-Z][a-z][a-z] ",
    LogFormat.JOURNAL: r"(?:[A-Z][a-z][a-z] |\d\d\d\d-)",
    LogFormat.KERNEL: r"(?:[A-Z][a-z][a-z] |\d\d\d\d-|[\[\x1b])",
    LogFormat.PYTHON: r"\d\d\d\d-",
}
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


@dataclass(frozen=True, slots=True)
class Wanted:
    """A signature's expressions, and the formats that a record must have (empty: any)."""

    message: str | None
    cause: str | None
    formats: frozenset[LogFormat] = frozenset()


Form = tuple[int, str]
"""An expression for hyperscan and its number."""

Locate = Callable[[bytes, int], int | None]
"""Where a hit ends that begins at this place or behind it."""


class LineSearch:
    """All patterns at once; a `Search`. Made at the first look, which takes its time."""

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._wanted = tuple(wanted)

    @property
    def unsure(self) -> frozenset[int]:
        """Signatures that RE2 must confirm."""
        return self._exact[1]

    def make(self) -> None:
        """Compile everything now."""
        self.find(b"\n")
        self.confirm([b""])

    def find(self, lines: bytes | memoryview) -> Marks:
        """As `Search` asks."""
        found: list[tuple[int, int]] = []
        take = found.append

        def hit(number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            take((number, end))

        self._rough.scan(lines, hit)
        if self._slow:
            found += _slowly(self._slow, bytes(lines))
            found.sort(key=itemgetter(1))
        return found

    def confirm(self, messages: Sequence[bytes]) -> Sequence[Sequence[int]]:
        """As `Search` asks. A cause beside a message is numbered behind all messages."""
        text, behind = b"\n".join([*messages, b""]), len(self._wanted)
        found: list[list[int]] = [[] for _ in messages]
        ends = map(add, accumulate(map(len, messages)), count(1))  # with their newlines
        lines = dict(zip(ends, found, strict=False))
        several = self._two_sided

        def hit(number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            line = lines.get(end)
            if line is None:  # it has an end of its own
                line = lines[text.index(b"\n", end) + 1]
            line.append(number)

        self._exact[0].scan(text, hit)
        for line in found:
            if line and (len(line) > 1 or line[0] >= behind or line[0] in several):
                line[:] = [
                    number
                    for number in line
                    if number < behind and (number not in several or number + behind in line)
                ]
        return found

    @cached_property
    def _two_sided(self) -> frozenset[int]:
        return frozenset(n for n, each in enumerate(self._wanted) if each.message and each.cause)

    def _numbered(self) -> Iterator[tuple[int, str]]:
        """The expressions that a message of log4j may hit."""
        for number, each in enumerate(self._wanted):
            if each.formats.isdisjoint(LINE_FORMATS) and each.formats:
                continue
            yield number, each.message or each.cause or ""
            if each.message and each.cause:
                yield number + len(self._wanted), each.cause

    @cached_property
    def _exact(self) -> tuple["_Scanner", frozenset[int]]:
        """The expressions that mean the same to hyperscan, and the signatures that have others."""
        behind = len(self._wanted)
        numbered = list(self._numbered())
        unsure = {number % behind for number, expression in numbered if not _is_plain(expression)}
        forms = [(n, _exactly(each)) for n, each in numbered if n % behind not in unsure]
        database = _database(forms)
        if forms and database is None:
            unsure |= {number % behind for number, form in forms if not _database([(number, form)])}
            forms = [(number, form) for number, form in forms if number % behind not in unsure]
            database = _database(forms)
        if forms and database is None:
            unsure = set(range(behind))
        return _Scanner(database), frozenset(unsure)

    @cached_property
    def _made(self) -> tuple["_Scanner", list[tuple[int, Locate]]]:
        """What hyperscan takes, and the rest."""
        loosened = [list(_loosened(each)) for each in self._wanted]
        database = _database([(number, forms[0]) for number, forms in enumerate(loosened)])
        if database is not None or not loosened:
            return _Scanner(database), []
        # The error of all of them does not say which is at fault.
        taken: list[Form] = []
        slow: list[Form] = []
        for number, forms in enumerate(loosened):
            form = next((form for form in forms if _database([(number, form)])), None)
            (slow if form is None else taken).append((number, form or forms[-1]))
        database = _database(taken)
        if database is None:
            taken, slow = [], [*slow, *taken]
        return _Scanner(database), [(number, _by_re2(form)) for number, form in slow]

    @property
    def _rough(self) -> "_Scanner":
        return self._made[0]

    @property
    def _slow(self) -> list[tuple[int, Locate]]:
        return self._made[1]


class _Scanner:
    """A database, with a scratch for each thread."""

    def __init__(self, database: hyperscan.Database | None) -> None:
        self._database = database
        self._threads = threading.local()

    def scan(
        self, data: bytes | memoryview, hit: Callable[[int, int, int, int, object], None]
    ) -> None:
        """Call `hit` with the number of every expression that hits, and where it ends."""
        if self._database is None:
            return
        scratch = getattr(self._threads, "scratch", None)
        if scratch is None:
            scratch = self._threads.scratch = hyperscan.Scratch(self._database)
        self._database.scan(  # type: ignore[type-var]  # it takes any buffer
            data, match_event_handler=hit, scratch=scratch
        )


def _slowly(expressions: list[tuple[int, Locate]], data: bytes) -> Iterator[tuple[int, int]]:
    for number, locate in expressions:
        at = 0
        while (end := locate(data, at)) is not None:
            at = data.index(b"\n", max(end - 1, at)) + 1
            yield number, at


def _database(expressions: list[tuple[int, str]]) -> hyperscan.Database | None:
    """None: hyperscan does not take them."""
    if not expressions:
        return None
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    try:
        database.compile(
            expressions=[form.encode() for _, form in expressions],
            ids=[place for place, _ in expressions],
            elements=len(expressions),
            flags=[_FLAGS] * len(expressions),
        )
    except (hyperscan.error, UnicodeEncodeError):
        return None
    return database


def _by_re2(form: str) -> Locate:
    options = re2.Options()
    options.log_errors = False
    compiled = re2.compile(f"(?m:{form})", options)

    def locate(data: bytes, at: int) -> int | None:
        found = compiled.search(data, at)
        return None if found is None else int(found.end())

    return locate


def _loosened(wanted: Wanted) -> Iterator[str]:
    """An expression as it holds in raw lines: the best form first, then ever looser ones."""
    expression = wanted.message or wanted.cause or ""
    heads = [_HEADS[each] for each in sorted(wanted.formats) if each in _HEADS]
    if wanted.message and heads and len(heads) == len(wanted.formats):
        yield rf"^\r*(?:{'|'.join(heads)})[^\n]*(?:{_loosen(expression, ' ')}){_LINE_END}"
    yield f"(?:{_loosen(expression, _AFTER_HEAD)}){_LINE_END}"
    bare = _loosen(expression, "")
    yield f"(?:{bare}){_LINE_END}"
    yield f"(?:{_without_counts(bare)}){_LINE_END}"


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


# What means the same to RE2 and to hyperscan, in texts of ASCII.
_PLAIN_CLASS = re.compile(
    r"\[\^?(?:\\[wdsS.\-\[\](){}+*?^$|/\\]|[\w ,.;:'\"/=()<>@#%&!~+*?|${}-])+\]"
)
_PLAIN_TOKEN = re.compile(
    r"\\[wWdDsSbB]|\\[^\w\s]|\.(?:\{\d+,\d*\}|[*+])\??|[^\\\[]", re.DOTALL | re.ASCII
)
_PLAIN_GROUP = re.compile(r"\(\?(?!:|i\)|i:|P<\w+>)")


def _is_plain(expression: str) -> bool:
    return (
        expression.isascii()
        and _PLAIN_GROUP.search(expression) is None
        and all(
            (_PLAIN_CLASS if len(token) > 1 and token[0] == "[" else _PLAIN_TOKEN).fullmatch(token)
            for token in _TOKEN.findall(expression)
        )
    )


def _exactly(expression: str) -> str:
    """The expression as it holds in messages, each of them a line.

    It goes on to the end of the line, unless it has an end of its own somewhere.
    """
    tokens = [_in_line(token) for token in _TOKEN.findall(expression)]
    if "$" not in tokens:
        return f"(?:{''.join(tokens)}){_LINE_END}"
    if tokens.index("$") == len(tokens) - 1 and "|" not in _top(tokens):
        return "".join([*tokens[:-1], r"\n"])
    return f"(?:{''.join(tokens)})"


def _top(tokens: list[str]) -> Iterator[str]:
    """The tokens that stand in no group."""
    depth = 0
    for token in tokens:
        depth += (token == "(") - (token == ")")  # noqa: S105  no password
        if depth == 0:
            yield token


_COUNT = re.compile(r"(?<!\\)\{(\d+),?\d*\}")


def _without_counts(expression: str) -> str:
    return _COUNT.sub(lambda found: "*" if int(found[1]) == 0 else "+", expression)
