"""What is fuzzed: each reader with what must hold for any bytes.

`check` reads one input and asserts; `read` only reads, as much as it is given, and is what the
clock and the memory are measured on. The first four bytes of an input are dice (where a log is
cut into pieces, whose log it is); the rest is the log.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random

from stackward.catalog.log_files import FileAssembler, LogSource, guess_role, guess_source
from stackward.catalog.log_tail import LogTailSettings, RawChunk, TailGarbled, TailReader
from stackward.catalog.mentions import NAMED_MAX, mentions_in, names_by_request, taught_in_lines
from stackward.catalog.records import Record, RecordAssembler, RecordLimits
from stackward.catalog.redact import redact
from stackward.catalog.sieve import Sieve
from stackward.catalog.signatures import (
    FIELD_LENGTH_MAX,
    TEXT_LENGTH_MAX,
    LogReading,
    LogRole,
    SignatureSet,
)
from stackward.config.patterns import load_patterns
from stackward.model.guest import LogChunk, LogPosition
from tests.fuzz import DICE_BYTES

READ_AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LIMITS = RecordLimits()
NONCE = "0123456789abcdef"
TAIL = LogTailSettings(line_bytes_max=4096, chunk_bytes_max=8192, bulk_bytes=65536)
START = LogPosition(
    device_inode="1:2", fingerprint="f0", fingerprint_bytes=256, generation=1, offset=0
)


@dataclass(frozen=True, slots=True)
class Reader:
    """One reader. Both functions take any bytes; `check` raises when something does not hold.

    What `is_given_whole` has its input in memory before it begins, and is not weighed. `prepare`
    does once what takes long.
    """

    name: str
    check: Callable[[bytes], None]
    read: Callable[[bytes], None]
    is_given_whole: bool = False
    prepare: Callable[[], None] = lambda: None


def split(data: bytes) -> tuple[Random, bytes]:
    """The dice of an input, and its log."""
    return Random(data[:DICE_BYTES]), data[DICE_BYTES:]


def pieces(parts: Iterable[bytes], dice: Random, size: int) -> Iterator[bytes]:
    """The same bytes, cut anywhere; an input of a large size not into its every byte."""
    longest = dice.choice((1, 7, 64, 700, 65536) if size < 20_000 else (64, 700, 65536))
    waiting = bytearray()
    wanted = dice.randint(1, longest)
    for part in parts:
        waiting += part
        while len(waiting) >= wanted:
            yield bytes(waiting[:wanted])
            del waiting[:wanted]
            wanted = dice.randint(1, longest)
    yield bytes(waiting)


def whole_lines(body: bytes, dice: Random) -> Iterator[bytes]:
    """The same bytes, cut behind newlines only; a last line without one is left out.

    What is cut out of a large input is not small: it is the reader that is to be measured.
    """
    most = dice.choice((1, 3, 40, 10_000) if len(body) < 20_000 else (400, 10_000))
    at = 0
    while at < len(body):
        end = at
        for _ in range(dice.randint(1, most)):
            found = body.find(b"\n", end)
            if found < 0:
                break
            end = found + 1
        if end == at:
            return
        yield body[at:end]
        at = end


# --- records -------------------------------------------------------------------------------------


def chunks(body: bytes, dice: Random) -> Iterator[LogChunk]:
    """A log as it is followed: now and then it is rotated, or some of it is lost."""
    place, at = START, READ_AT
    for data in whole_lines(body, dice):
        gap: int | None = 0
        if dice.random() < 0.05:
            place = place._replace(generation=place.generation + 1, offset=0)
            gap = dice.choice((0, 12, None))
        end = place.at(place.offset + len(data))
        yield LogChunk(data=data, start=place, end=end, received_at=at, gap_bytes_min=gap)
        place = end
        at += timedelta(milliseconds=dice.choice((0, 5, 200)))


def followed(body: bytes, dice: Random) -> Iterator[Record]:
    """The records of a log that is followed to its end."""
    assembler = RecordAssembler()
    for chunk in chunks(body, dice):
        yield from assembler.feed(chunk)
        held = assembler.held_from
        assert (held is None) == (assembler.due_at is None)
        assert held is None or held.generation <= chunk.end.generation
        if dice.random() < 0.3:
            yield from assembler.flush(chunk.received_at + LIMITS.hold)
            assert assembler.held_from is None, "what is due is held back"
    yield from assembler.close()


def check_bounds(record: Record) -> None:
    assert len(record.message) <= LIMITS.message_chars_max
    assert len(record.trace) <= 2 * LIMITS.trace_lines_max
    assert sum(map(len, record.trace)) <= 2 * LIMITS.trace_bytes_max
    assert record.logged_at is None or record.logged_at.tzinfo is not None


def check_records(data: bytes) -> None:
    dice, body = split(data)
    before = (0, -1)
    for record in followed(body, dice):
        check_bounds(record)
        place = (record.line_start.generation, record.line_start.offset)
        assert place > before, "a line begins two records"
        before = place


def read_records(data: bytes) -> None:
    dice, body = split(data)
    for _ in followed(body + b"\n", dice):
        pass


# --- whole files ---------------------------------------------------------------------------------


def lines_of(body: bytes) -> Iterator[bytes]:
    """One after another: what is measured is the reader's memory."""
    return (line.removesuffix(b"\n") for line in io.BytesIO(body))


def filed(body: bytes, source: LogSource) -> Iterator[Record]:
    """The records of a whole file."""
    assembler = FileAssembler(source, read_at=READ_AT)
    for line in lines_of(body):
        if (record := assembler.take(line)) is not None:
            yield record
    if (record := assembler.end()) is not None:
        yield record


def a_source(dice: Random) -> LogSource:
    return dice.choice(list(LogSource))


def check_files(data: bytes) -> None:
    dice, body = split(data)
    number = 0
    for record in filed(body, a_source(dice)):
        check_bounds(record)
        assert record.line_start.offset > number, "a line begins two records"
        number = record.line_start.offset
    assert number <= body.count(b"\n") + 1
    text = [line.decode("utf-8", "replace") for line in lines_of(body[:4096])]
    assert guess_source(text) in LogSource
    guess_role(text)


def read_files(data: bytes) -> None:
    dice, body = split(data)
    for _ in filed(body, a_source(dice)):
        pass


# --- signatures ----------------------------------------------------------------------------------


@cache
def signatures(source: LogSource) -> SignatureSet:
    """The built-in packs."""
    return load_patterns([], source=source)


def read_by_packs(body: bytes, dice: Random) -> Iterator[tuple[str, Mapping[str, str]]]:
    source = a_source(dice)
    role = dice.choice([None, *LogRole])
    reading = LogReading(signatures(source), role)
    is_followed = source is LogSource.CLOUD and dice.random() < 0.5
    for record in followed(body, dice) if is_followed else filed(body, source):
        sighting = reading.read(record, READ_AT)
        if sighting is not None:
            yield sighting.text, sighting.fields


def check_signatures(data: bytes) -> None:
    dice, body = split(data)
    for text, fields in read_by_packs(body, dice):
        assert len(text) <= TEXT_LENGTH_MAX
        assert redact(text, limit=TEXT_LENGTH_MAX) == text, "a secret got through"
        assert all(len(value) <= FIELD_LENGTH_MAX for value in fields.values())


def read_signatures(data: bytes) -> None:
    dice, body = split(data)
    for _ in read_by_packs(body, dice):
        pass


# --- the sieve -----------------------------------------------------------------------------------


# One that is followed and one that is a file; to compile for all takes too long.
SIEVED = (LogSource.CLOUD, LogSource.MANAGEMENT)


def crash(error: Exception) -> None:
    raise error


def prepare_sieve() -> None:
    for source in SIEVED:
        signatures(source).prepare()


def sieved(
    source: LogSource, role: str | None, stretches: Sequence[bytes], *, is_fast: bool = True
) -> Iterator[object]:
    """What a log tells stretch by stretch, with places. Slowly: each record, all patterns on it."""
    known = signatures(source) if is_fast else replace(signatures(source), search=None)
    is_followed = source is LogSource.CLOUD
    assembler = RecordAssembler() if is_followed else FileAssembler(source, read_at=READ_AT)
    sieve = Sieve(known, role, assembler, crash)
    place, now = START, READ_AT
    for data in stretches:
        if isinstance(assembler, RecordAssembler):
            now += timedelta(milliseconds=30)
            yield from (sieve.tell(hit, now) for hit in sieve.judged(assembler.flush(now), now))
            chunk = LogChunk(data=data, start=place, end=place, received_at=now)
            yield from (sieve.tell(hit, now) for hit in sieve.judged(assembler.enter(chunk), now))
        yield from (sieve.tell(hit, now) for hit in sieve.read(data, now))
        if isinstance(assembler, RecordAssembler):
            yield from (sieve.tell(hit, now) for hit in sieve.judged(assembler.settle(), now))
            yield assembler.held_from
        place = place.at(place.offset + len(data))
    yield from (sieve.tell(hit, now) for hit in sieve.judged(assembler.close(), now))


def a_log_for_the_sieve(data: bytes) -> tuple[LogSource, str | None, list[bytes]]:
    dice, body = split(data)
    source, role = dice.choice(SIEVED), dice.choice([None, *LogRole])
    if source is not LogSource.CLOUD:
        body = body.replace(b"\0", b"")  # as whoever reads files does
    return source, role, list(whole_lines(body + b"\n", dice))


def check_sieve(data: bytes) -> None:
    log = a_log_for_the_sieve(data)
    assert list(sieved(*log)) == list(sieved(*log, is_fast=False)), (
        "the fast way tells another tale"
    )


def read_sieve(data: bytes) -> None:
    for _ in sieved(*a_log_for_the_sieve(data)):
        pass


# --- of whom a management server speaks ----------------------------------------------------------


def check_mentions(data: bytes) -> None:
    _, body = split(data)
    before = 0
    for named in names_by_request(body):
        assert before < named.line <= body.count(b"\n") + 1, "a line is named twice, or is none"
        before = named.line
    for line in lines_of(body):
        told = mentions_in(line.decode("utf-8", "replace"))
        assert max(map(len, (told.names, told.numbers, told.addresses, told.taught))) <= NAMED_MAX
    assert all(row.isdigit() for row, _ in taught_in_lines(body))


def read_mentions(data: bytes) -> None:
    _, body = split(data)
    for line in lines_of(body):
        mentions_in(line.decode("utf-8", "replace"))
    for _ in names_by_request(body):
        pass
    for _ in taught_in_lines(body):
        pass


# --- redaction -----------------------------------------------------------------------------------


def check_redact(data: bytes) -> None:
    text = data[DICE_BYTES:].decode("utf-8", "replace")
    clean = redact(text)
    assert redact(clean) == clean, "redacting twice is not redacting once"
    limit = data[0] if data else 0
    assert len(redact(text, limit=limit)) <= max(1, limit)


def read_redact(data: bytes) -> None:
    redact(data[DICE_BYTES:].decode("utf-8", "replace"))


# --- the tail's stream ---------------------------------------------------------------------------


def stream(body: bytes) -> Iterator[bytes]:
    """What a tail might send, with the body as its script: mostly right, sometimes not.

    One byte says what is sent, the next how much of the body that follows belongs to it.
    """
    mark = f"\n\x1e{NONCE} ".encode()
    at = sent = 0
    long_lines = 8
    yield mark + b"H start 1:2 f0 256 0 0\n"
    while at + 1 < len(body):
        what, size = body[at] % 16, body[at + 1]
        data = body[at + 2 : at + 2 + size]
        at += 2 + size
        match what:
            case 0 | 1 | 2 | 3 | 4:
                sent += len(data)
                yield data
                yield mark + b"K %d\n" % sent
            case 5 | 6 | 7 | 8:
                sent += len(data)
                yield data
            case 9:
                yield mark + b"K %d\n" % sent
            case 10:
                sent = 0
                yield mark + b"H next 1:%d f1 256 0 0\n" % (size + 3)
            case 11:
                sent = 0
                yield mark + b"H anew 1:2 f2 %d 0 ?\n" % size
            case 12:
                yield mark + b"F f3 %d\n" % size
            case 13:
                yield mark + b"H same 1:9 f0 256 %d 0\n" % sent
            case 14:
                yield mark + data
            case _ if long_lines and data:
                long_lines -= 1
                sent += 5000
                yield data[:1] * 5000
            case _:
                yield b"\n"
                sent += 1


def tailed(body: bytes, dice: Random) -> Iterator[RawChunk]:
    reader = TailReader(None, TAIL, nonce=NONCE)
    raw = [body] if dice.random() < 0.2 else stream(body)
    for piece in pieces(raw, dice, len(body)):
        yield from reader.feed(piece)


def check_tail(data: bytes) -> None:
    dice, body = split(data)
    place: LogPosition | None = None
    try:
        for chunk in tailed(body, dice):
            start, end = chunk.start, chunk.end
            assert start.generation == end.generation
            assert start.offset <= end.offset
            is_cut = len(chunk.data) < end.offset - start.offset
            assert is_cut or len(chunk.data) - 1 <= end.offset - start.offset
            assert chunk.data.endswith(b"\n") or not chunk.data, "half a line left"
            assert all(len(line) <= TAIL.line_bytes_max for line in chunk.lines)
            if place is not None and start.generation == place.generation:
                assert start.offset == place.offset, "bytes were passed over, or read twice"
            place = end
    except TailGarbled:
        pass


def read_tail(data: bytes) -> None:
    dice, body = split(data)
    try:
        for _ in tailed(body, dice):
            pass
    except TailGarbled:
        pass


READERS: Mapping[str, Reader] = {
    reader.name: reader
    for reader in (
        Reader("records", check_records, read_records),
        Reader("files", check_files, read_files),
        Reader("signatures", check_signatures, read_signatures),
        Reader("sieve", check_sieve, read_sieve, prepare=prepare_sieve),
        Reader("mentions", check_mentions, read_mentions),
        Reader("redact", check_redact, read_redact, is_given_whole=True),
        Reader("tail", check_tail, read_tail),
    )
}
