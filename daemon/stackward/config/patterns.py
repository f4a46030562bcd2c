"""Pattern packs: YAML to a `SignatureSet`, with every sample tried on the way.

Expressions are RE2's: linear time whatever an operator writes and whatever a log holds. A pack that
loads has proved itself: each pattern hits its samples and not its near misses, and no other
pattern of the set takes a sample before it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import re2
from pydantic import Field, ValidationError, model_validator

from stackward.catalog.log_files import VM_SOURCES, LogSource, read_line
from stackward.catalog.records import LogFormat, Record
from stackward.catalog.signatures import LogRole, Scan, Signature, SignatureSet, Test
from stackward.config.document import DocumentPath, Node, read_document, spoken
from stackward.config.line_search import LineSearch, Wanted
from stackward.config.mistakes import Words, mistakes_of
from stackward.config.packs import pack_directory, pack_files
from stackward.config.strict import StrictModel, refusal
from stackward.errors import ConfigError, ConfigMistake
from stackward.model.guest import LogPosition
from stackward.model.sighting import EventClass, Severity

EXPRESSION_LENGTH_MAX = 2000
# For one expression, and for the automaton of all of them together.
EXPRESSION_MEMORY_BYTES = 8 << 20
SET_MEMORY_BYTES = 128 << 20

_SAMPLE_PLACE = LogPosition(
    device_inode="0:0", fingerprint="", fingerprint_bytes=0, generation=0, offset=0
)
_SAMPLE_READ_AT = datetime(2030, 1, 1, tzinfo=UTC)


class Level(StrEnum):
    """The levels of log4j."""

    TRACE = "TRACE"
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"
    FATAL = "FATAL"


Expression = Annotated[str, Field(min_length=1, max_length=EXPRESSION_LENGTH_MAX)]
Sample = Annotated[str, Field(min_length=1, max_length=8192)]
Samples = Annotated[tuple[Sample, ...], Field(min_length=1, max_length=50)]


class SampleSettings(StrictModel):
    """Texts on which a pattern is tried when it is loaded."""

    match: Samples
    """Records that it must hit: a message, or a whole line as it stands in the log; further lines
    are the trace."""
    near_miss: Samples
    """Records that look like it and that it must not hit."""


class PatternSettings(StrictModel):
    """One log pattern."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,79}$")]
    """Name of the pattern, in small letters, digits and dashes; one pattern has it."""
    event: EventClass
    """What happened. `benign` means nothing did, whatever other patterns say of the line."""
    severity: Severity
    """How much the event matters by itself."""
    message: Expression | None = None
    """RE2 expression that is looked for in the message, without time, level, logger and thread.
    Named groups become the event's fields; never capture a secret."""
    cause: Expression | None = None
    """RE2 expression that is looked for in message and stack trace together. With `message`, both
    must hit."""
    levels: Annotated[tuple[Level, ...], Field(max_length=6)] = ()
    """Levels that a record must have. Empty: any, or none at all."""
    formats: Annotated[tuple[LogFormat, ...], Field(max_length=7)] = ()
    """Formats that a record must have. Empty: any."""
    roles: Annotated[tuple[LogRole, ...], Field(max_length=5)] = ()
    """Roles of the VMs whose logs it is for. Empty: any."""
    proves: Annotated[str, Field(max_length=500)] = ""
    """What a hit is proof of, in words."""
    proves_not: Annotated[str, Field(max_length=500)] = ""
    """What a hit seems to prove and does not, in words."""
    echoes: Annotated[tuple[EventClass, ...], Field(max_length=10)] = ()
    """Events that this line only repeats without naming them: it takes the class of the last one
    in the same log."""
    samples: SampleSettings
    """Texts on which the pattern is tried when it is loaded."""

    @model_validator(mode="after")
    def _looks_somewhere(self) -> "PatternSettings":
        if self.message is None and self.cause is None:
            raise refusal("needs message or cause", "message: '^Text that the line begins with'")
        return self


class PatternFile(StrictModel):
    """A file of patterns."""

    about: Annotated[str, Field(max_length=2000)] = ""
    """What the file is for."""
    sources: Annotated[tuple[LogSource, ...], Field(max_length=6)] = ()
    """Logs that the patterns are for. Empty: those of a system VM itself, which are cloud, journal
    and boot."""
    patterns: Annotated[tuple[PatternSettings, ...], Field(max_length=2000)]
    """The patterns; of two that hit, the first counts, and what is benign goes first of all."""


@dataclass(frozen=True, slots=True)
class _Placed:
    """A pattern and where it stands."""

    pattern: PatternSettings
    file: str
    path: DocumentPath
    root: Node
    sources: frozenset[LogSource]
    is_builtin: bool

    def mistake(self, message: str, hint: str, *inner: str | int) -> ConfigMistake:
        """A mistake at this pattern, or at a place inside it."""
        path = (*self.path, *inner)
        return ConfigMistake(self.file, spoken(path), self.root.at(path).place.line, message, hint)


@dataclass(slots=True)
class _Compiled:
    """What could be compiled. `placed` and `signatures` stand in the order of trial."""

    placed: list[_Placed] = field(default_factory=list)
    signatures: list[Signature] = field(default_factory=list)

    def as_set(self) -> SignatureSet:
        patterns = [placed.pattern for placed in self.placed]
        wanted = [
            Wanted(each.message, each.cause, frozenset(each.formats), each.samples.match)
            for each in patterns
        ]
        return SignatureSet(tuple(self.signatures), _scan(patterns), LineSearch(wanted))


def load_patterns(
    files: Sequence[Path], *, with_builtin: bool = True, source: LogSource = LogSource.CLOUD
) -> SignatureSet:
    """Load the operator's files and the built-in packs; `ConfigError` holds every mistake.

    What the operator wrote for other logs than `source` is tried all the same, and left out.
    """
    mistakes: list[ConfigMistake] = []
    own = [placed for file in files for placed in _read(file, mistakes, is_builtin=False)]
    builtin: list[_Placed] = []
    if with_builtin:
        packs = pack_files("patterns")
        if not packs:
            directory = str(pack_directory("patterns"))
            hint = "install stackward again"
            mistakes.append(ConfigMistake(directory, "", None, "holds no built-in packs", hint))
        if source not in VM_SOURCES:
            packs = (*pack_files(f"patterns/{source}"), *packs)
        builtin = [placed for file in packs for placed in _read(file, mistakes, is_builtin=True)]
    mistakes += _twice([*own, *builtin])
    wanted = [each for each in (*own, *builtin) if source in each.sources]
    others = [each for each in own if source not in each.sources]
    compiled, aside = _compile(wanted, mistakes), _compile(others, mistakes)
    if mistakes:
        raise ConfigError(tuple(mistakes))
    known = compiled.as_set()
    mistakes += [*_try_samples(compiled, known), *_try_samples(aside, aside.as_set())]
    if mistakes:
        raise ConfigError(tuple(mistakes))
    return known


def _read(file: Path, mistakes: list[ConfigMistake], *, is_builtin: bool) -> Iterator[_Placed]:
    """Read one file; an empty one holds no patterns."""
    document = read_document(file)
    mistakes += document.mistakes
    if document.root is None or document.mistakes:
        return
    try:
        parsed = PatternFile.model_validate_json(document.root.json())
    except ValidationError as error:
        mistakes += mistakes_of(error, document.root, Words.of(PatternFile), str(file))
        return
    sources = frozenset(parsed.sources) or VM_SOURCES
    for number, pattern in enumerate(parsed.patterns):
        path = ("patterns", number)
        yield _Placed(pattern, str(file), path, document.root, sources, is_builtin)


def _twice(patterns: Iterable[_Placed]) -> Iterator[ConfigMistake]:
    first: dict[str, _Placed] = {}
    for placed in patterns:
        other = first.setdefault(placed.pattern.name, placed)
        if other is not placed:
            # The built-in packs come last and are not to be changed: the operator's file is wrong.
            wrong, right = (other, placed) if placed.is_builtin else (placed, other)
            place = right.mistake("", "", "name")
            yield wrong.mistake(
                f"has the name of the pattern in {place.file}:{place.line}",
                "give it another name",
                "name",
            )


def _compile(patterns: Sequence[_Placed], mistakes: list[ConfigMistake]) -> _Compiled:
    """Compile all that can be, in the order of trial: what is benign first."""
    compiled = _Compiled()
    for placed in sorted(patterns, key=lambda each: each.pattern.event is not EventClass.BENIGN):
        pattern = placed.pattern
        found = len(mistakes)
        matchers = {
            name: _matcher(placed, name, expression, mistakes)
            for name, expression in (("message", pattern.message), ("cause", pattern.cause))
            if expression is not None
        }
        if len(mistakes) > found:
            continue
        compiled.placed.append(placed)
        compiled.signatures.append(
            Signature(
                name=pattern.name,
                event=pattern.event,
                severity=pattern.severity,
                match=matchers.get("message"),
                cause=matchers.get("cause"),
                test=_test(matchers.get("message"), matchers.get("cause")),
                has_captures=any(each is not None and each.captures for each in matchers.values()),
                levels=frozenset(level.value for level in pattern.levels),
                formats=frozenset(pattern.formats),
                roles=frozenset(pattern.roles),
                proves=pattern.proves,
                proves_not=pattern.proves_not,
                echoes=frozenset(pattern.echoes),
            )
        )
    return compiled


class _Expression:
    """One expression of RE2's. A hit lies within one line."""

    def __init__(self, expression: str) -> None:
        options = _options(EXPRESSION_MEMORY_BYTES)
        self._compiled = re2.compile(expression, options)
        self._alone = re2.Set.SearchSet(options)
        self._alone.Add(expression)
        self._alone.Compile()
        self.captures = bool(self._compiled.groupindex)

    def __call__(self, text: str) -> Mapping[str, str] | None:
        if not self.captures:
            return {} if self.test(text) else None
        found = self._compiled.search(text.encode())  # in a text it counts characters anew
        if found is None:
            return None
        groups: dict[str, bytes | None] = found.groupdict()
        return {key: value.decode("utf-8", "replace") for key, value in groups.items() if value}

    def test(self, text: str) -> bool:
        """True if it is in the text: several times quicker than to look for captures."""
        return bool(self._alone.Match(text))


def _test(message: _Expression | None, cause: _Expression | None) -> Test:
    if cause is None:
        assert message is not None
        first = message.test
        return lambda text, _: first(text)
    second = cause.test
    if message is None:
        return lambda _, whole: second(whole)
    first = message.test
    return lambda text, whole: first(text) and second(whole)


def _options(memory_bytes: int) -> re2.Options:  # type: ignore[no-any-unimported]  # untyped
    options = re2.Options()
    options.max_mem = memory_bytes
    options.log_errors = False
    options.never_nl = True
    return options


def _matcher(
    placed: _Placed, name: str, expression: str, mistakes: list[ConfigMistake]
) -> _Expression | None:
    """Compile one expression, and once more as it stands in the scan of all of them."""
    try:
        compiled = _Expression(expression)
        re2.compile(_scanned(expression), _options(EXPRESSION_MEMORY_BYTES))
    except re2.error as error:
        # Only the kind of the complaint: what follows the colon repeats the file.
        kind = bytes(error.args[0]).decode("utf-8", "replace").split(":")[0][:80]
        hint = "RE2 has no look-around and no back-references; quote it with '...'"
        mistakes.append(placed.mistake(f"is not an RE2 expression: {kind}", hint, name))
        return None
    if "\\z" in expression or "\\A" in expression:
        mistakes.append(placed.mistake("uses \\A or \\z", "use ^ and $ instead", name))
    if compiled.test(""):
        hint = "begin it with ^ and a word of the line"
        mistakes.append(placed.mistake("matches the empty text, so every line", hint, name))
    return compiled


# Counted gaps make the automaton of all patterns large and slow.
_COUNTED_GAP = re.compile(r"(?<!\\)\.\{\d+,\d*\}\??")


def _scanned(expression: str) -> str:
    """For the scan ^ and $ hold at every line, and a gap may be of any length.

    It may name too many and must not name too few.
    """
    return f"(?m:{_COUNTED_GAP.sub('.*', expression)})"


def _scan(patterns: Sequence[PatternSettings]) -> Scan:
    """One automaton for all patterns."""
    if not patterns:
        return lambda _text: ()
    together = re2.Set.SearchSet(_options(SET_MEMORY_BYTES))
    for pattern in patterns:
        together.Add(_scanned(pattern.message or pattern.cause or ""))
    together.Compile()

    def scan(text: str) -> Iterable[int]:
        found: list[int] | None = together.Match(text)
        return found or ()

    return scan


def _try_samples(compiled: _Compiled, everything: SignatureSet) -> Iterator[ConfigMistake]:
    """Try every sample on its own pattern and on the whole set, which is quicker from then on.

    An operator's pattern may take the samples of a built-in one: that is what it is for.
    """
    names_builtin = {each.pattern.name for each in compiled.placed if each.is_builtin}
    for placed, signature in zip(compiled.placed, compiled.signatures, strict=True):
        for number, sample in enumerate(placed.pattern.samples.match):
            record = _sample_record(sample, signature, placed.sources)
            role = next(iter(sorted(signature.roles)), None)
            where = ("samples", "match", number)
            if signature.captures(record, role) is None:
                yield placed.mistake("is not hit", "correct the expression or the sample", *where)
                continue
            takers = [hit.name for hit, _ in everything.hits(record, role)]
            if placed.is_builtin:
                takers = [name for name in takers if name in names_builtin]
            if takers[:1] != [signature.name]:
                hint = f"{takers[0] if takers else 'none'} takes it; make one of the two narrower"
                yield placed.mistake("is taken by another pattern first", hint, *where)
        for number, sample in enumerate(placed.pattern.samples.near_miss):
            record = _sample_record(sample, signature, placed.sources)
            if signature.captures(record, None) is not None:
                hint = "make the expression narrower"
                yield placed.mistake("is hit", hint, "samples", "near_miss", number)


def _sample_record(sample: str, signature: Signature, sources: frozenset[LogSource]) -> Record:
    """A sample without time and level stands for a record that has what the pattern asks for."""
    first, *trace = sample.rstrip("\n").split("\n")
    source = min(sources)
    record = None
    if source is not LogSource.SSVM_CHECK:
        record = read_line(first, 0, source, read_at=_SAMPLE_READ_AT)
    if record is None:
        record = Record(
            line_start=_SAMPLE_PLACE,
            format=next(iter(sorted(signature.formats)), LogFormat.LOG4J1),
            level=next(iter(sorted(signature.levels)), None),
            message=first,
        )
    return Record(
        line_start=record.line_start,
        format=record.format,
        message=record.message,
        level=record.level,
        trace=tuple(trace),
    )
