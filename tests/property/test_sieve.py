"""The fast way through a log tells what the slow way tells: every record, all patterns on each."""

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackward.catalog.log_files import FileAssembler, LogSource
from stackward.catalog.records import RecordAssembler
from stackward.catalog.sieve import Assembler, Sieve
from stackward.catalog.signatures import Hit, LogRole, Signature, SignatureSet
from stackward.config.document import read_document
from stackward.config.packs import pack_files
from stackward.config.patterns import PatternFile, load_patterns
from stackward.model.guest import LogChunk, LogPosition
from stackward.model.sighting import EventClass, Severity, Sighting

PATIENT = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
PLACE = LogPosition(
    device_inode="1:2", fingerprint="ff", fingerprint_bytes=256, generation=1, offset=0
)
LOGS = Path(__file__).parent.parent / "unit" / "catalog" / "fixtures" / "logs"

HEADS = [
    b"2025-06-01 11:59:%02d,123 WARN  [cloud.agent.Agent] (Agent-Handler-2:null) ",
    b"2025-06-01 11:59:%02d,007 ERROR [utils.nio.Link] (Agent-SelfTask (x) y-1:null) ",
    b"2025-06-01T11:59:%02d,500 INFO  [cloud.agent.Agent] (main:[]) (logid:1a2b3c4d) ",
    b"2025-06-01T11:59:%02d,501 DEBUG [a.B] (main:[]) (logid:) (logid:2) ",
    b"2025-06-01T11:59:%02d,502 FATAL [a.B] (main:[])(x) ",
    b"2025-06-01 11:59:%02d,502 ERROR CsHelper.py execute:170 ",
    b"Jun  1 11:59:%02d v-2-VM systemd[1]: ",
    b"Jun  1 11:59:%02d v-2-VM kernel: [    7.123456] ",
    b"Jun  1 11:59:%02d v-2-VM _run.sh[77]: ",
    b"Jun  1 11:59:%02d v-2-VM _run.sh[77]: ERROR [cloud.agent.Agent] (main:) ",
    b"2025-06-01T11:59:%02d+00:00 v-2-VM java[77]: ",
    b"Sun Jun  1 11:59:%02d AM UTC 2025 ",
    b"[   12.0000%02d] ",
    b"",
]
TAILS = [b"", b"", b"", b"", b"\r", b"\r\r", b" ", b"\xff", b" \xc3\xa4", b"\x00", b"\x0b", b" ok"]
ODD = [
    b"", b"", b" ", b"\t", b"\r", b"\x00", b"x", b"\xff\xfe", b"\tat a.B.c(B.java:1)",
    b"java.net.ConnectException: Connection refused", b"Caused by: java.lang.OutOfMemoryError: x",
    b"Caused by: java.io.IOException: No space left on device", b"\t... 12 more",
    b"2025-06-01 11:59:59,123 WARN  [a.B] (main:null)", b"2025-06-01", b"Jun ", b"[",
    b"2025-06-01T11:59:59,123 WARN  [a.B] (" + b"x" * 9000 + b") Agent started",
    b"2025-06-01T11:59:59,123 WARN  [a.B] (m:[]) " + b"x" * 8300 + b" Too many open files",
    b"2025-06-01T11:59:59,123 WARN  [a.B] (m:[]) Failed to load keystore, using trust all manager",
]  # fmt: skip


@cache
def signatures(source: LogSource) -> SignatureSet:
    return load_patterns((), source=source)


@cache
def messages() -> tuple[bytes, ...]:
    """What the built-in packs were made for, and whole logs."""
    found: list[bytes] = []
    for file in sorted(pack_files("patterns")):
        root = read_document(file).root
        assert root is not None
        for pattern in PatternFile.model_validate_json(root.json()).patterns:
            for sample in (*pattern.samples.match, *pattern.samples.near_miss):
                found += [line.encode() for line in sample.split("\n")]
    for path in sorted(LOGS.glob("*.log")):
        found += path.read_bytes().splitlines()
    return tuple(dict.fromkeys(found))


def lines(seed: int, count: int) -> list[bytes]:
    """A log that its writer was not quite well for."""
    dice = random.Random(seed)
    head = dice.choice(HEADS)
    told: list[bytes] = []
    for number in range(count):
        if dice.random() < 0.3:
            head = dice.choice(HEADS)
        begin = head % (number % 60) if b"%" in head else head
        line = begin + dice.choice(messages()) + dice.choice(TAILS)
        if dice.random() < 0.15:
            line = dice.choice(ODD)
        if dice.random() < 0.1:
            line = mutated(line, dice)
        told.append(line.replace(b"\n", b"") + b"\n")
    return told


def mutated(line: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(line) + 1)
    match dice.randrange(4):
        case 0:
            return line[:at]
        case 1:
            return line[:at] + dice.randbytes(1) + line[at:]
        case 2:
            return line[at:]
        case _:
            return line[:at].swapcase() + line[at:]


def stretches(log: Sequence[bytes], cuts: Sequence[int]) -> Iterator[bytes]:
    at = turn = 0
    while at < len(log):
        size = cuts[turn % len(cuts)]
        yield b"".join(log[at : at + size])
        at, turn = at + size, turn + 1


def crash(error: Exception) -> None:
    raise error


def told_by(sieve: Sieve, hits: Iterator[Hit]) -> Iterator[Sighting]:
    for hit in hits:
        sighting = sieve.tell(hit, NOW)
        assert sighting is not None
        yield sighting


def tail(known: SignatureSet, role: str | None, pieces: Sequence[bytes]) -> list[object]:
    """What a followed log tells: chunk by chunk, each in two slices, some with time between."""
    assembler = RecordAssembler()
    sieve = Sieve(known, role, assembler, crash)
    told: list[object] = []
    offset, now = 0, NOW
    for number, data in enumerate(pieces):
        now += timedelta(milliseconds=50)
        if number % 3 == 0:
            now += timedelta(seconds=1)
            told += told_by(sieve, sieve.judged(assembler.flush(now), NOW))
        half = data.find(b"\n", len(data) // 2) + 1
        for part in (data[:half], data[half:]):
            start = PLACE.at(offset)
            chunk = LogChunk(data=part, start=start, end=start, received_at=now)
            told += told_by(sieve, sieve.judged(assembler.enter(chunk), NOW))
            told += told_by(sieve, sieve.read(part, NOW))
            offset += len(part)
        told += told_by(sieve, sieve.judged(assembler.settle(), NOW))
        told.append((assembler.held_from, assembler.due_at))
    return [*told, *told_by(sieve, sieve.judged(assembler.close(), NOW))]


def counted(known: SignatureSet, pieces: Sequence[bytes]) -> Counter[EventClass]:
    """What a followed log counts when it is allowed to shed."""
    assembler = RecordAssembler()
    sieve = Sieve(known, None, assembler, crash)
    sieve.may_shed = True
    events: Counter[EventClass] = Counter()
    for data in pieces:
        assembler.enter(LogChunk(data=data, start=PLACE, end=PLACE, received_at=NOW))
        hits = list(sieve.read(data, NOW))
        events.update(hit.event for hit in hits)
        assert all(sieve.tell(hit, NOW) is not None for hit in hits)
        events.update(sieve.shed)
        sieve.shed.clear()
    events.update(hit.event for hit in sieve.judged(assembler.close(), NOW))
    return events


def read(
    known: SignatureSet,
    source: LogSource,
    role: str | None,
    pieces: Sequence[bytes],
    zone: tzinfo | None = None,
) -> list[object]:
    """What a file tells that was written in this zone."""
    assembler: Assembler = FileAssembler(source, read_at=NOW, zone=zone)
    sieve = Sieve(known, role, assembler, crash)
    told: list[object] = []
    for data in pieces:
        told += told_by(sieve, sieve.read(data.replace(b"\x00", b""), NOW))
    return [*told, *told_by(sieve, sieve.judged(assembler.close(), NOW))]


ROLES = st.sampled_from([None, LogRole.SSVM.value, LogRole.CPVM.value, LogRole.ROUTER.value])
ZONES = st.sampled_from([None, UTC, timezone(timedelta(hours=5, minutes=30))])
CUTS = st.lists(st.integers(1, 200), min_size=1, max_size=6)


@pytest.mark.timeout(240)
@PATIENT
@given(st.integers(0, 2**32), st.integers(1, 300), ROLES, CUTS)
def test_a_followed_log_tells_the_same_through_the_sieve(seed, count, role, cuts):
    known = signatures(LogSource.CLOUD)
    pieces = list(stretches(lines(seed, count), cuts))
    slowly = tail(replace(known, search=None), role, pieces)
    assert tail(known, role, pieces) == slowly


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "source", [LogSource.CLOUD, LogSource.MANAGEMENT, LogSource.HOST_AGENT, LogSource.SSVM_CHECK]
)
@PATIENT
@given(st.integers(0, 2**32), st.integers(1, 200), ROLES, CUTS, ZONES)
def test_a_file_tells_the_same_through_the_sieve(source, seed, count, role, cuts, zone):
    known = signatures(source)
    pieces = list(stretches(lines(seed, count), cuts))
    slowly = read(replace(known, search=None), source, role, pieces, zone)
    assert read(known, source, role, pieces, zone) == slowly


@pytest.mark.timeout(240)
def test_what_is_compared_is_worth_comparing():
    pieces = [b"".join(lines(7, 3000))]
    sightings = [
        each
        for each in tail(signatures(LogSource.CLOUD), None, pieces)
        if isinstance(each, Sighting)
    ]
    assert len({each.pattern for each in sightings}) > 60
    assert len({each.event for each in sightings}) > 30
    assert len(sightings) > 500


def storm(seed: int, count: int, calm: Sequence[bytes]) -> list[bytes]:
    """Nearly every line says something, and is alone; now and then something disturbs."""
    dice = random.Random(seed)
    told = []
    for number in range(count):
        message = dice.choice(calm)
        if dice.random() < 0.7:
            message = re.sub(rb"\d", lambda _: b"%d" % dice.randrange(10), message)
        line = dice.choice(HEADS[:3]) % (number % 60) + message + b"\n"
        told.append(b"Caused by: x\n" if dice.random() < 0.0005 else line.replace(b"\r", b""))
    return told


@pytest.mark.timeout(240)
@settings(PATIENT, max_examples=15)
@given(st.integers(0, 2**32), st.integers(200, 2000))
def test_a_storm_is_counted_exactly(seed, count):
    known = signatures(LogSource.CLOUD)
    calm = [line for line in messages() if line.isascii() and not line[:1].isspace()]
    pieces = list(stretches(storm(seed, count, calm), [150, 700]))
    assert counted(known, pieces) == counted(replace(known, search=None), pieces)


DIGITS_MATTER = r"""
patterns:
  - name: code
    event: disk_full
    severity: error
    message: '^code [1-3]\d or|took \d+ ms'
    samples: {match: [code 10 or], near_miss: [code 40 or]}
  - name: status
    event: oom
    severity: error
    message: 'status=(1|27)$|[^0-4]x{2}7'
    levels: [WARN, ERROR]
    samples: {match: [status=1], near_miss: [status=17]}
  - name: both
    event: mount_failure
    severity: error
    message: '^(1|two) of'
    cause: '\d{2} (x9|y)\b'
    samples: {match: [1 of 22 x9], near_miss: [1 of 22 x]}
"""
DIGITS_DIFFER = [
    b"code 12 or 7", b"code 41 or", b"it took 77 ms", b"took ms", b"status=1", b"a status=27",
    b"status=2", b"7xx7", b"1xx7 2", b"1 of 22 x9", b"two of 22 y", b"two of 2 y", b"3 of 22 y",
]  # fmt: skip


@pytest.mark.timeout(240)
@settings(PATIENT, max_examples=15)
@given(seed=st.integers(0, 2**32), count=st.integers(200, 2000))
def test_a_storm_is_counted_exactly_where_digits_matter(tmp_path_factory, seed, count):
    file = tmp_path_factory.mktemp("packs") / "digits.yaml"
    file.write_text(DIGITS_MATTER)
    known = load_patterns([file], with_builtin=False)
    pieces = list(stretches(storm(seed, count, DIGITS_DIFFER), [150, 700]))
    events = counted(known, pieces)
    assert events == counted(replace(known, search=None), pieces)
    assert len(events) == 3


@pytest.mark.timeout(240)
@pytest.mark.parametrize("marks", [0, 63, 64, 65, 66, 200])
def test_a_calm_stretch_tells_the_same_with_however_many_marks(marks):
    known = signatures(LogSource.CLOUD)
    dice = random.Random(marks)
    calm = [HEADS[0] % (number % 60) + b"all is well %d\n" % number for number in range(1400)]
    for number in dice.sample(range(1, 1399), marks):
        message = dice.choice([b"SSL Handshake failed while connecting", b"exit status 1", b"zk"])
        calm[number] = HEADS[number % 2] % 7 + message + b" %d\n" % number
    assert tail(known, None, [b"".join(calm)]) == tail(
        replace(known, search=None), None, [b"".join(calm)]
    )


class TellsEverything:
    """A search that marks every line, and says that digits never matter."""

    def find(self, lines, start=0, end=None, most=None):
        if most is not None:
            return None
        stop = len(lines) if end is None else end
        ends = [each.end() for each in re.finditer(b"\n", lines[:stop]) if each.start() >= start]
        return {each: {0} for each in ends}

    def varies(self, _shape):
        return False

    def make(self):
        pass


def test_of_a_record_that_crashed_nothing_is_kept_for_others_of_its_shape():
    asked = []

    def crash_twice(text):
        asked.append(text)
        if len(asked) <= 2:
            raise ZeroDivisionError("a bug in a pattern")
        return {}

    found = Signature(name="x", event=EventClass.OOM, severity=Severity.ERROR, match=crash_twice)
    crashes: list[Exception] = []
    known = SignatureSet((found,), scan=lambda _: (0,), search=TellsEverything())
    assembler = RecordAssembler()
    sieve = Sieve(known, None, assembler, crashes.append)
    data = b"".join(HEADS[0] % 7 + b"number %d\n" % number for number in range(8))
    assembler.enter(LogChunk(data=data, start=PLACE, end=PLACE, received_at=NOW))
    hits = [*sieve.read(data, NOW), *sieve.judged(assembler.close(), NOW)]
    assert (len(crashes), len(hits)) == (2, 6)


PARTICULAR = r"""
patterns:
  - name: level
    event: disk_full
    severity: error
    message: 'broke at \d+'
    levels: [ERROR]
    samples: {match: [broke at 1], near_miss: [broke]}
  - name: format
    event: oom
    severity: error
    message: 'went at \d+'
    formats: [log4j2]
    samples: {match: [went at 1], near_miss: [went]}
  - name: digits
    event: tls_failure
    severity: error
    message: 'sank at [01]$'
    samples: {match: [sank at 1], near_miss: [sank at 2]}
"""


@pytest.mark.parametrize(
    ("message", "hits"), [(b"broke at %d\n", 10), (b"went at %d\n", 10), (b"sank at %d\n", 12)]
)
def test_what_is_known_holds_for_one_level_and_format_and_digits_alike(tmp_path, message, hits):
    file = tmp_path / "pack.yaml"
    file.write_text(PARTICULAR)
    known = load_patterns([file], with_builtin=False)
    heads = [HEADS[0], HEADS[0].replace(b"WARN ", b"ERROR"), HEADS[2]]
    log = b"".join(head % 7 + message % number for head in (*heads, *heads) for number in range(5))
    told = tail(known, None, [log])
    assert told == tail(replace(known, search=None), None, [log])
    assert sum(isinstance(each, Sighting) for each in told) == hits


WITHOUT_WORDS = r"""
patterns:
  - name: no-word
    event: disk_full
    severity: error
    message: 'q.z'
    samples: {match: [q-z], near_miss: [qz]}
"""


def test_what_only_the_slow_way_finds_stands_in_its_place_among_the_others(tmp_path):
    file = tmp_path / "pack.yaml"
    file.write_text(WITHOUT_WORDS)
    known = load_patterns([file], with_builtin=False)
    calm = [HEADS[0] % (number % 60) + b"all is well %d\n" % number for number in range(900)]
    for number in (100, 400, 700):  # the first is not seen by a search of bytes
        calm[number] = HEADS[0] % 7 + "q\N{LATIN SMALL LETTER A WITH DIAERESIS}z\n".encode()
        calm[number + 100] = HEADS[0] % 8 + b"q-z\n"
    told = tail(known, None, [b"".join(calm)])
    assert told == tail(replace(known, search=None), None, [b"".join(calm)])
    assert sum(isinstance(each, Sighting) for each in told) == 6


WITH_A_SECRET = r"""
patterns:
  - name: secret
    event: disk_full
    severity: error
    message: 'it said (?P<what>.*)'
    samples: {match: [it said so], near_miss: [it says]}
"""


def test_a_line_that_is_told_without_a_record_holds_no_secret(tmp_path):
    file = tmp_path / "pack.yaml"
    file.write_text(WITH_A_SECRET)
    known = load_patterns([file], with_builtin=False)
    log = b"".join(HEADS[0] % 7 + b"it said password=hunter%d\n" % number for number in range(5))
    told = [each for each in tail(known, None, [log]) if isinstance(each, Sighting)]
    assert [each.fields for each in told] == [{"what": "password=[redacted]"}] * 5
    assert "hunter" not in str(told)
