"""Reads log files and says what stands in them: no daemon, no configuration, no VM.

Files of any size in bounded memory: a block is read, goes through the sieve, and is let go. Plain
text and gzip. A line too long to be a log's is read to its end and kept only as far as records go.
"""

import gzip
import sys
import zlib
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BufferedReader
from os import fstat
from pathlib import Path
from typing import BinaryIO, cast

from stackward.catalog.log_files import (
    VM_SOURCES,
    FileAssembler,
    LogSource,
    guess_role,
    guess_source,
)
from stackward.catalog.log_lines import slices
from stackward.catalog.records import RecordAssembler
from stackward.catalog.sieve import Sieve
from stackward.catalog.signatures import Hit, LogRole, SignatureSet
from stackward.catalog.telling import Telling
from stackward.config.patterns import load_patterns
from stackward.model.guest import LogChunk, LogPosition
from stackward.model.sighting import EventClass, Sighting

BLOCK_BYTES = 256 * 1024
LINE_BYTES_MAX = 32 * 1024
GUESS_LINES = 400
# So much is read before it pays to make a search of all patterns.
SHORT_BYTES = 4 << 20
# Of the first block: more of these than that is no text.
ODD_SHARE_MAX = 0.1
# A journal is read as that of the machine whose programs speak in it.
_JOURNALS = frozenset({LogSource.HOST_AGENT, LogSource.MANAGEMENT})
_GZIP = b"\x1f\x8b"
_ODD = bytes(set(range(32)) - set(b"\x00\t\n\x0b\x0c\r\x1b")) + b"\x7f"


_NOWHERE = LogPosition(device_inode="", fingerprint="", fingerprint_bytes=0, generation=0, offset=0)


class UnreadableError(Exception):
    """A file that could not be read, or not to its end."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event and the line, from 1, on which it begins."""

    file: str
    line: int
    sighting: Sighting


@dataclass(slots=True)
class Measure:
    """What one file held, and how much of it was told one by one, as the daemon would."""

    lines: int = 0
    size_bytes: int = 0
    unparsed: int = 0
    told: int = 0
    events: Counter[EventClass] = field(default_factory=Counter)

    def tell(self, sieve: Sieve, telling: Telling, seen_at: datetime) -> None:
        """A stretch was read."""
        telling.count(sieve.shed)
        for hit in telling.told():
            self.told += 1
            self.events[hit.event] += 1
            sieve.tell(hit, seen_at)
        self.events += telling.counted


class Classifier:
    """Says what log files hold. Patterns are loaded when a file needs them, and once."""

    def __init__(self, *, pattern_files: Sequence[Path] = (), with_benign: bool = False) -> None:
        self._pattern_files = pattern_files
        self._with_benign = with_benign
        self._signatures: dict[LogSource, SignatureSet] = {}

    def events(
        self, file: str, source: LogSource | None = None, role: LogRole | None = None
    ) -> Iterator[Told]:
        """The events of one file, `-` for standard input, in its order. UnreadableError ends it.

        `source` and `role` None: guessed by what the file says.
        """
        try:
            with _opened(file) as (stream, written_at):
                yield from self.events_in(stream, file, written_at, source, role)
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(file, error) from error

    def events_in(
        self,
        stream: BinaryIO,
        file: str,
        written_at: datetime,
        source: LogSource | None = None,
        role: LogRole | None = None,
    ) -> Iterator[Told]:
        """The same, of what is open already."""
        first = _first_block(stream, file)
        beginning = first_lines(first)
        guessed = guess_source(beginning)
        if source is None or (source is LogSource.JOURNAL and guessed in _JOURNALS):
            source = guessed
        if role is None and source in VM_SOURCES:
            role = guess_role(beginning)
        sieve, assembler = self._sieve(source, role, written_at)
        read_bytes = 0
        for data in _blocks(stream, first):
            sieve.is_in_haste = read_bytes > SHORT_BYTES
            read_bytes += len(data)
            yield from self._told(file, sieve, sieve.read(data, written_at), written_at)
        rest = sieve.judged(assembler.close(), written_at)
        yield from self._told(file, sieve, rest, written_at)

    def measure(
        self, file: str, source: LogSource = LogSource.CLOUD, role: LogRole | None = None
    ) -> Measure:
        """Read a log as the daemon reads it, and count. UnreadableError ends it."""
        measure = Measure()
        try:
            with _opened(file) as (stream, written_at):
                assembler: RecordAssembler | FileAssembler = RecordAssembler()
                if source is not LogSource.CLOUD:
                    assembler = FileAssembler(source, read_at=written_at)
                sieve = Sieve(self._signatures_for(source), role, assembler, crash)
                sieve.may_shed = True
                for data in _blocks(stream, _first_block(stream, file)):
                    telling = Telling()
                    for start, end, lines in slices(data):
                        place = _NOWHERE.at(measure.size_bytes)
                        part = LogChunk(
                            data=data[start:end], start=place, end=place, received_at=written_at
                        )
                        if isinstance(assembler, RecordAssembler):
                            assembler.enter(part)
                        for hit in sieve.read(part.data, written_at):
                            telling.add(hit)
                        measure.lines += lines
                        measure.size_bytes += end - start
                    measure.tell(sieve, telling, written_at)
                telling = Telling()
                for hit in sieve.judged(assembler.close(), written_at):
                    telling.add(hit)
                measure.tell(sieve, telling, written_at)
                measure.unparsed = assembler.orphans
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(file, error) from error
        return measure

    def _sieve(
        self, source: LogSource, role: LogRole | None, written_at: datetime
    ) -> tuple[Sieve, FileAssembler]:
        assembler = FileAssembler(source, read_at=written_at)
        return Sieve(self._signatures_for(source), role, assembler, crash), assembler

    def _told(
        self, file: str, sieve: Sieve, hits: Iterable[Hit], written_at: datetime
    ) -> Iterator[Told]:
        for hit in hits:
            if hit.event is EventClass.BENIGN and not self._with_benign:
                continue
            sighting = sieve.tell(hit, written_at)
            if sighting is not None:
                yield Told(file, sighting.line_start.offset, sighting)

    def _signatures_for(self, source: LogSource) -> SignatureSet:
        if source not in self._signatures:
            self._signatures[source] = load_patterns(self._pattern_files, source=source)
        return self._signatures[source]


def whole_lines(file: str) -> Generator[bytes, None, None]:
    """A file in blocks of whole lines, as all readers get them. UnreadableError ends it."""
    try:
        with _opened(file) as (stream, _):
            yield from _blocks(stream, _first_block(stream, file))
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(file, error) from error


def last_written(file: str) -> datetime:
    """When a file was last written. UnreadableError, if it cannot be read."""
    try:
        return datetime.fromtimestamp(Path(file).stat().st_mtime, UTC)
    except OSError as error:
        raise _unreadable(file, error) from error


def first_lines(first: bytes) -> list[str]:
    """So much of a first block as tells what a file is."""
    return first.decode("utf-8", "replace").splitlines()[:GUESS_LINES]


def crash(error: Exception) -> None:
    """No daemon has to go on here: a bug is to be seen."""
    raise error


def _unreadable(file: str, error: Exception) -> UnreadableError:
    reason = getattr(error, "strerror", None) or str(error) or "it cannot be read"
    return UnreadableError(f"{file}: {reason}")


@contextmanager
def _opened(file: str) -> Iterator[tuple[BinaryIO, datetime]]:
    """The file's text, unpacked, and when it was last written: its lines may lack the year."""
    # Standard input is buffered too, whatever its type says.
    standard = cast("BufferedReader", sys.stdin.buffer)
    raw = standard if file == "-" else Path(file).open("rb")  # noqa: SIM115  closed below
    try:
        written_at = datetime.fromtimestamp(fstat(raw.fileno()).st_mtime, UTC)
        is_packed = raw.peek(2).startswith(_GZIP)
        yield cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if is_packed else raw, written_at
    finally:
        if file != "-":
            raw.close()


def _first_block(stream: BinaryIO, file: str) -> bytes:
    """Without the mark that some editors begin with; UnreadableError for what is no log."""
    first = stream.read(BLOCK_BYTES).removeprefix(BOM_UTF8)
    if _is_odd(first):
        raise UnreadableError(f"{file}: holds neither text nor gzip")
    return first


def _blocks(stream: BinaryIO, block: bytes) -> Iterator[bytes]:
    """Whole lines without zeros, each cut to LINE_BYTES_MAX; the last one gets its newline."""
    while block:
        data = block.replace(b"\x00", b"")
        if not block.endswith(b"\n"):
            data += _line_rest(stream)
        yield _cut(data)
        block = stream.read(BLOCK_BYTES)


def _line_rest(stream: BinaryIO) -> bytes:
    """The rest of a line, as much of it as may be of interest."""
    rest = b""
    while True:
        piece = stream.readline(BLOCK_BYTES)
        if len(rest) < LINE_BYTES_MAX:
            rest += piece.replace(b"\x00", b"")[:LINE_BYTES_MAX]
        if not piece or piece.endswith(b"\n"):
            return rest if rest.endswith(b"\n") else rest + b"\n"


def _cut(data: bytes) -> bytes:
    """The lines, those cut that are too long."""
    at = 0
    while len(data) - at > LINE_BYTES_MAX:
        at = data.rfind(b"\n", at, at + LINE_BYTES_MAX + 1) + 1
        if not at:
            return b"\n".join(line[:LINE_BYTES_MAX] for line in data.split(b"\n"))
    return data


def _is_odd(block: bytes) -> bool:
    """More control characters and broken letters than any log has.

    Zeros are not counted: a file system that crashed, or a writer that outlived copytruncate, puts
    them before good lines.
    """
    text = block.replace(b"\x00", b"")
    controls = len(text) - len(text.translate(None, _ODD))
    broken = text.decode("utf-8", "replace").count("\ufffd")
    return controls + broken > ODD_SHARE_MAX * len(text)
