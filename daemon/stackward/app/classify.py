"""Reads log files and says what stands in them: no daemon, no configuration, no VM.

Files of any size in bounded memory: a block is read, cut into lines, and let go. Plain text and
gzip. A line too long to be a log's is read to its end and kept only as far as records go.
"""

import gzip
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedReader
from itertools import chain
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
from stackward.catalog.signatures import LogReading, LogRole, SignatureSet
from stackward.config.patterns import load_patterns
from stackward.model.sighting import EventClass, Sighting

BLOCK_BYTES = 64 * 1024
LINE_BYTES_MAX = 32 * 1024
GUESS_LINES = 400
# Of the first block: more of these than that is no text.
ODD_SHARE_MAX = 0.1
_GZIP = b"\x1f\x8b"
_ODD = bytes(set(range(32)) - set(b"\x00\t\n\x0b\x0c\r\x1b")) + b"\x7f"


class UnreadableError(Exception):
    """A file that could not be read, or not to its end."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event and the line, from 1, on which it begins."""

    file: str
    line: int
    sighting: Sighting


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
            reason = getattr(error, "strerror", None) or str(error) or "it cannot be read"
            raise UnreadableError(f"{file}: {reason}") from error

    def events_in(
        self,
        stream: BinaryIO,
        file: str,
        written_at: datetime,
        source: LogSource | None = None,
        role: LogRole | None = None,
    ) -> Iterator[Told]:
        """The same, of what is open already."""
        first = stream.read(BLOCK_BYTES)
        if _is_odd(first):
            raise UnreadableError(f"{file}: holds neither text nor gzip")
        beginning = first.decode("utf-8", "replace").splitlines()[:GUESS_LINES]
        source = source or guess_source(beginning)
        if role is None and source in VM_SOURCES:
            role = guess_role(beginning)
        reading = LogReading(self._signatures_for(source), role)
        assembler = FileAssembler(source, read_at=written_at)
        for line in chain(_lines(stream, first), (None,)):
            record = assembler.end() if line is None else assembler.take(line)
            sighting = None if record is None else reading.read(record, written_at)
            if sighting is None:
                continue
            if self._with_benign or sighting.event is not EventClass.BENIGN:
                yield Told(file, sighting.line_start.offset, sighting)

    def _signatures_for(self, source: LogSource) -> SignatureSet:
        if source not in self._signatures:
            self._signatures[source] = load_patterns(self._pattern_files, source=source)
        return self._signatures[source]


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


def _lines(stream: BinaryIO, block: bytes) -> Iterator[bytes]:
    """The lines without zeros, each cut to LINE_BYTES_MAX; the last may lack its end."""
    rest = b""
    while block:
        *whole, tail = block.replace(b"\x00", b"").split(b"\n")
        for line in whole:
            yield (rest + line)[:LINE_BYTES_MAX]
            rest = b""
        rest = (rest + tail)[:LINE_BYTES_MAX]
        block = stream.read(BLOCK_BYTES)
    if rest:
        yield rest


def _is_odd(block: bytes) -> bool:
    """More control characters and broken letters than any log has.

    Zeros are not counted: a file system that crashed, or a writer that outlived copytruncate, puts
    them before good lines.
    """
    text = block.replace(b"\x00", b"")
    controls = len(text) - len(text.translate(None, _ODD))
    broken = text.decode("utf-8", "replace").count("\ufffd")
    return controls + broken > ODD_SHARE_MAX * len(text)
