"""The reader of the tail's stream, against a model of the stream."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackward.catalog.log_tail import (
    LogTailSettings,
    RawChunk,
    TailGarbled,
    TailReader,
    log_tail_script,
)
from stackward.model.guest import LogPosition

# A loaded machine is no reason to fail.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

NONCE = "0123456789abcdef"
MARK = f"\n\x1e{NONCE} ".encode()
SMALL = LogTailSettings(line_bytes_max=8, chunk_bytes_max=32)


def place(offset: int = 0, *, generation: int = 1, name: str = "1:2") -> LogPosition:
    return LogPosition(
        device_inode=name,
        fingerprint="ff",
        fingerprint_bytes=256,
        generation=generation,
        offset=offset,
    )


def header(kind: str = "start", offset: int = 0, *, name: str = "1:2", gap: str = "0") -> bytes:
    return MARK + f"H {kind} {name} ff 256 {offset} {gap}\n".encode()


def confirmed(data: bytes, end: int) -> bytes:
    return data + MARK + f"K {end}\n".encode()


def read(
    *pieces: bytes, resume: LogPosition | None = None, settings: LogTailSettings = SMALL
) -> tuple[TailReader, list[RawChunk]]:
    reader = TailReader(resume, settings, nonce=NONCE)
    return reader, [chunk for piece in pieces for chunk in reader.feed(piece)]


def lines_of(chunks: Iterable[RawChunk]) -> list[bytes]:
    return [line for chunk in chunks for line in chunk.lines]


def test_a_place_is_told_by_an_empty_chunk():
    _, chunks = read(header(offset=7))
    assert chunks == [RawChunk(b"", place(7), place(7))]


def test_bytes_are_no_lines_before_they_are_confirmed():
    reader, chunks = read(header(), b"a\nb\n")
    assert lines_of(chunks) == []
    assert lines_of(reader.feed(MARK + b"K 4\n")) == [b"a", b"b"]


def test_unconfirmed_bytes_are_forgotten_when_a_new_file_begins():
    _, chunks = read(header(), b"a\n", header("anew", gap="?"), confirmed(b"b\n", 2))
    assert lines_of(chunks) == [b"b"]
    assert chunks[1].gap_bytes_min is None
    assert chunks[-1].end == place(2, generation=2)


@pytest.mark.parametrize(("kind", "gap"), [("anew", 5000), ("next", None), ("lost", None)])
def test_what_was_seen_behind_a_place_is_known_to_be_destroyed_when_its_file_is_cut(kind, gap):
    begun = (header(), b"a\n" + MARK + b"K 2 5000\n", b"half a line")
    _, chunks = read(*begun, header(kind, gap="?"), header("anew", gap="?"))
    assert [chunk.gap_bytes_min for chunk in chunks] == [0, 0, gap, None]


def test_what_was_read_since_is_not_destroyed():
    _, chunks = read(
        header(), b"a\n" + MARK + b"K 2 2\n", confirmed(b"b\n", 4), header("anew", gap="?")
    )
    assert chunks[-1].gap_bytes_min is None


def test_a_count_that_differs_is_garbled():
    with pytest.raises(TailGarbled):
        read(header(), confirmed(b"a\n", 3))


@pytest.mark.parametrize(
    "record",
    [
        b"K 1\n",
        b"H start 1:2 ff 256 -1 0\n",
        b"H sideways 1:2 ff 256 0 0\n",
        b"H start 1:2 ff 256 99999999999999999999999 0\n",
        b"X the disk is gone\n",
        b"\n",
        b"\xff\xfe\n",
        b"x" * 2000,
    ],
)
def test_what_cannot_be_is_garbled(record):
    with pytest.raises(TailGarbled):
        read(MARK + record)


def test_a_stream_that_never_says_its_file_is_garbled():
    with pytest.raises(TailGarbled):
        read(b"welcome\n" * 20_000)


def test_bytes_without_end_and_confirmation_are_garbled():
    with pytest.raises(TailGarbled):
        read(header(), *[b"x" * 65536] * 40)


def test_a_banner_before_the_first_record_is_no_line():
    _, chunks = read(b"Welcome!\nto this machine", header(), confirmed(b"a\n", 2))
    assert lines_of(chunks) == [b"a"]


def test_a_log_that_is_not_there_yet_is_waited_for():
    reader, chunks = read(b"Welcome!", MARK + b"W\n")
    assert (reader.is_waiting, chunks) == (True, [])
    assert lines_of(reader.feed(header() + confirmed(b"a\n", 2))) == [b"a"]
    assert not reader.is_waiting


def test_a_record_without_the_nonce_is_content():
    forged = b"\nH anew 9:9 ff 256 0 0\nK 7\n"
    settings = LogTailSettings()
    _, chunks = read(header(), confirmed(forged, len(forged)), settings=settings)
    assert lines_of(chunks) == [b"", b"H anew 9:9 ff 256 0 0", b"K 7"]


def test_resuming_elsewhere_than_we_stopped_is_garbled():
    with pytest.raises(TailGarbled):
        read(header("same", 8), resume=place(9))


def test_a_file_found_again_keeps_its_generation_and_the_next_one_counts_on():
    resume = place(9, generation=4)
    _, chunks = read(header("same", 9), header("next", name="1:3"), resume=resume)
    assert [chunk.start.generation for chunk in chunks] == [4, 5]


def test_a_lost_file_tells_a_gap_of_unknown_size():
    _, chunks = read(header("lost", gap="?"), resume=place(9, generation=4))
    assert chunks[0].gap_bytes_min is None
    assert chunks[0].start == place(0, generation=5)


def test_a_line_goes_on_in_the_copy_of_its_file():
    _, chunks = read(
        header(), confirmed(b"a\nbe", 4), header("same", 4, name="1:9"), confirmed(b"gun\n", 8)
    )
    assert lines_of(chunks) == [b"a", b"begun"]
    assert chunks[-1].start == place(2, name="1:9")


def test_the_last_line_of_an_ended_file_gets_a_newline_that_does_not_count():
    reader, chunks = read(header(), confirmed(b"a\nb", 3), header("next", name="1:3"))
    assert [chunk.data for chunk in chunks] == [b"", b"a\n", b"b\n", b""]
    assert chunks[-2].end == place(3)
    assert reader.position == place(0, generation=2, name="1:3")


def test_a_line_that_is_too_long_is_cut_counted_and_last_in_its_chunk():
    data = b"ok\n" + b"x" * 20 + b"\nlater\n"
    reader, chunks = read(header(), confirmed(data, len(data)))
    assert lines_of(chunks) == [b"ok", b"x" * 8, b"later"]
    assert (reader.lines_cut, reader.bytes_cut) == (1, 12)
    assert chunks[1].end.offset == chunks[2].start.offset == 24
    assert chunks[2].end.offset == len(data)


def test_a_grown_fingerprint_is_carried_on():
    _, chunks = read(header(), MARK + b"F ee 2\n", confirmed(b"a\n", 2))
    assert chunks[-1].end == place(2)._replace(fingerprint="ee", fingerprint_bytes=2)


def test_a_nonce_that_could_be_guessed_or_quoted_is_refused():
    for nonce in ("short", "with a space and more"):
        with pytest.raises(ValueError):
            log_tail_script(SMALL, None, nonce=nonce)


def test_everything_that_varies_is_quoted():
    settings = LogTailSettings(path="/x'; touch /tmp/y; '")
    last = log_tail_script(settings, None, nonce=NONCE).decode().splitlines()[-1]
    assert last.startswith("follow '/x'\"'\"'; touch")


LOG_BYTES = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.sampled_from([b"\n", b"\n\n", MARK[:9], MARK[:-1], b"x" * 30, b"\0", b"\xff\r\n"]),
    ),
    max_size=12,
).map(b"".join)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream as the script may send it, and the lines that must come of it."""
    stream, line = bytearray(header()), b""
    lines: list[bytes] = []
    for number in range(draw(st.integers(1, 4))):
        if number:
            stream += header("next", name=f"1:{number + 2}")
            lines += [line] if line else []
            line = b""
        at = 0
        for data in draw(st.lists(LOG_BYTES, max_size=4)):
            if MARK in line + data:
                continue
            at += len(data)
            stream += confirmed(data, at)
            *whole, line = (line + data).split(b"\n")
            lines += whole
    return bytes(stream), [each[:8] for each in lines]


@PATIENT
@given(streams(), st.lists(st.integers(1, 40), min_size=1))
def test_the_pieces_in_which_bytes_come_change_nothing(stream_and_lines, sizes):
    stream, lines = stream_and_lines
    reader = TailReader(None, SMALL, nonce=NONCE)
    chunks: list[RawChunk] = []
    at = turn = 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        chunks += reader.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert lines_of(chunks) == lines
    assert lines_of(read(stream)[1]) == lines


@PATIENT
@given(streams())
def test_chunks_follow_one_another_without_holes(stream_and_lines):
    _, chunks = read(stream_and_lines[0])
    for before, after in itertools.pairwise(chunks):
        if before.end.generation == after.start.generation:
            assert before.end.offset == after.start.offset
        else:
            assert after.start.offset == 0
        assert len(after.data) <= SMALL.chunk_bytes_max + 8 + 1


@PATIENT
@given(st.lists(st.binary(max_size=200) | st.sampled_from([MARK, b"K 1\n", header()])))
def test_the_reader_is_total(pieces):
    reader = TailReader(None, SMALL, nonce=NONCE)
    try:
        for piece in pieces:
            reader.feed(piece)
    except TailGarbled:
        pass
