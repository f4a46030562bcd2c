"""Lines become records: every format, traces joined and bounded, and no bytes that break it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackward.catalog.records import LogFormat, Record, RecordAssembler, RecordLimits, read_head
from stackward.model.guest import LogChunk, LogPosition

# A loaded machine is no reason to fail.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
PLACE = LogPosition(
    device_inode="1:2", fingerprint="ff", fingerprint_bytes=256, generation=1, offset=0
)
WARN = b"2024-05-07 08:00:00,000 WARN  [cloud.agent.Agent] (main:null) Caught: "
INFO = b"2024-05-07 08:00:01,000 INFO  [cloud.agent.Agent] (main:null) id is 12"


def at(offset: int, generation: int = 1) -> LogPosition:
    return LogPosition(
        device_inode="1:2",
        fingerprint="ff",
        fingerprint_bytes=256,
        generation=generation,
        offset=offset,
    )


def chunk(
    *lines: bytes,
    offset: int = 0,
    generation: int = 1,
    received_at: datetime = NOW,
    gap: int | None = 0,
) -> LogChunk:
    end = offset + sum(len(line) + 1 for line in lines)
    return LogChunk(
        data=b"".join(line + b"\n" for line in lines),
        start=at(offset, generation),
        end=at(end, generation),
        received_at=received_at,
        gap_bytes_min=gap,
    )


def head(line: str) -> Record:
    record = read_head(line, PLACE, NOW)
    assert record is not None
    return record


def test_a_line_of_log4j_1():
    record = head(
        "2024-03-01 10:15:47,007 WARN  [cloud.agent.Agent] (Agent-Handler-2:null) Unable to (x) y"
    )
    assert record.format is LogFormat.LOG4J1
    assert record.logged_at == datetime(2024, 3, 1, 10, 15, 47, 7000, tzinfo=UTC)
    assert (record.level, record.logger) == ("WARN", "cloud.agent.Agent")
    assert (record.thread, record.message) == ("Agent-Handler-2:null", "Unable to (x) y")


def test_a_line_of_log4j_2():
    record = head("2025-06-23T06:50:39,496 INFO  [utils.nio.NioClient] (main:[]) Connected")
    assert record.format is LogFormat.LOG4J2
    assert (record.thread, record.message) == ("main:[]", "Connected")


def test_a_log_id_is_no_part_of_the_message():
    assert head("2025-06-23T06:50:39,496 INFO  [a.B] (t:[]) (logid:0a1b) Hello").message == "Hello"


@pytest.mark.parametrize(
    ("line", "logged_at"),
    [
        (
            "Thu Apr 12 09:10:11 UTC 2018 Bootstrapping",
            datetime(2018, 4, 12, 9, 10, 11, tzinfo=UTC),
        ),
        (
            "Sun 23 May 2021 03:17:36 PM UTC Bootstrapping",
            datetime(2021, 5, 23, 15, 17, 36, tzinfo=UTC),
        ),
        (
            "Mon Jun 23 12:50:01 AM UTC 2025 Bootstrapping",
            datetime(2025, 6, 23, 0, 50, 1, tzinfo=UTC),
        ),
        (
            "Mon Mar  4 10:10:00 UTC 2024 Bootstrapping",
            datetime(2024, 3, 4, 10, 10, tzinfo=UTC),
        ),
        ("Mon Mar  4 10:10:00 CEST 2024 Bootstrapping", None),
        ("Mon Mar 44 10:10:00 UTC 2024 Bootstrapping", None),
    ],
)
def test_lines_of_the_boot_scripts(line, logged_at):
    record = head(line)
    assert record.format is LogFormat.SHELL
    assert record.message == "Bootstrapping"
    assert record.logged_at == logged_at


def test_a_journal_line_takes_its_year_from_when_it_was_read():
    record = head("May 07 08:00:00 s-12-VM systemd[1]: cloud.service: Succeeded.")
    assert record.logged_at == datetime(2025, 5, 7, 8, tzinfo=UTC)
    assert (record.logger, record.message) == ("systemd", "cloud.service: Succeeded.")
    assert head("Dec 31 23:59:59 v-1-VM kernel: x").logged_at == datetime(
        2024, 12, 31, 23, 59, 59, tzinfo=UTC
    )


def test_the_agents_console_lines_are_read_through_the_journal():
    record = head("May 07 08:00:00 v-8-VM _run.sh[7]: 08:00:00,300  WARN Agent:870 - Caught: x")
    assert (record.level, record.logger, record.message) == ("WARN", "Agent", "Caught: x")


def test_an_impossible_time_is_no_time():
    record = head("2024-13-01 10:15:47,007 INFO  [a.B] (t:null) x")
    assert record.logged_at is None


def test_a_trace_belongs_to_the_record_above_it():
    lines = (WARN, b"java.lang.X: y", b"\tat a.B.c(B.java:1)", b"Caused by: z", INFO)
    first, second = RecordAssembler().feed(chunk(*lines))
    assert first.trace == ("java.lang.X: y", "\tat a.B.c(B.java:1)", "Caused by: z")
    assert second.line_start.offset == sum(len(line) + 1 for line in lines[:-1])
    assert second.trace == ()


def test_what_may_have_a_trace_is_held_and_the_rest_is_not():
    assembler = RecordAssembler()
    assert [record.level for record in assembler.feed(chunk(INFO))] == ["INFO"]
    assert assembler.held_from is None
    assert assembler.feed(chunk(WARN, offset=100)) == ()
    assert assembler.held_from == at(100)


def test_a_held_record_goes_when_it_is_due_and_not_before():
    assembler = RecordAssembler()
    assembler.feed(chunk(WARN))
    due_at = assembler.due_at
    assert due_at is not None
    assert assembler.flush(due_at - timedelta(microseconds=1)) == ()
    assert len(assembler.flush(due_at)) == 1
    assert assembler.due_at is None


def test_a_trace_in_the_next_chunk_is_joined():
    assembler = RecordAssembler()
    assembler.feed(chunk(WARN))
    assembler.feed(chunk(b"java.lang.X", offset=len(WARN) + 1))
    (record,) = assembler.close()
    assert record.trace == ("java.lang.X",)


def test_an_empty_line_ends_a_trace_at_once():
    assembler = RecordAssembler()
    (record,) = assembler.feed(chunk(WARN, b"java.lang.X", b""))
    assert record.trace == ("java.lang.X",)


def test_a_trace_whose_record_is_gone_is_no_record():
    assembler = RecordAssembler()
    assembler.feed(chunk(WARN))
    assembler.close()
    assert assembler.feed(chunk(b"\tat a.B.c(B.java:1)", b"Caused by: z")) == ()
    assert assembler.orphans == 2


def test_a_record_does_not_go_on_in_another_file_or_behind_a_gap():
    for other in (chunk(b"java.lang.X", generation=2), chunk(b"java.lang.X", gap=None)):
        assembler = RecordAssembler()
        assembler.feed(chunk(WARN))
        (record,) = assembler.feed(other)
        assert record.trace == ()


def test_a_long_trace_keeps_its_causes():
    limits = RecordLimits(trace_lines_max=5)
    frames = [b"\tat a.B.c(B.java:1)"] * 50
    (record,) = RecordAssembler(limits).feed(chunk(WARN, *frames, b"Caused by: the disk", b""))
    assert record.trace[-1] == "Caused by: the disk"
    assert len(record.trace) == 6
    assert record.trace_lines_dropped == 45


LINES = st.one_of(
    st.binary(max_size=60).filter(lambda line: b"\n" not in line),
    st.sampled_from(
        [
            WARN,
            INFO,
            b"\tat a.B.c(B.java:1)",
            b"Caused by: x",
            b"",
            b"Thu Apr 12 09:10:11 UTC 2018 x",
            b"Mar 04 10:30:00 s-7-VM systemd[1]: x",
            b"Feb 30 10:30:00 s-7-VM systemd[1]: x",
            b"[   41.000000] x",
            "2024-05-07 08:00:00,000 INFO  [a] (\u0663) \u0663".encode(),
        ]
    ),
)


@PATIENT
@given(st.lists(LINES, max_size=40), st.lists(st.integers(1, 5), min_size=1))
def test_any_bytes_in_any_chunks_give_the_same_records(lines, sizes):
    whole = RecordAssembler()
    expected = [*whole.feed(chunk(*lines)), *whole.close()]
    assembler = RecordAssembler()
    found: list[Record] = []
    begin = turn = offset = 0
    while begin < len(lines):
        part = lines[begin : begin + sizes[turn % len(sizes)]]
        found += assembler.feed(chunk(*part, offset=offset))
        offset += sum(len(line) + 1 for line in part)
        begin, turn = begin + len(part), turn + 1
    found += assembler.close()
    assert [each.line_start for each in found] == [each.line_start for each in expected]
    assert [each for each in found if each.is_trouble] == [
        each for each in expected if each.is_trouble
    ]


@PATIENT
@given(st.lists(LINES, max_size=60))
def test_what_is_held_is_bounded(lines):
    limits = RecordLimits(trace_lines_max=4, trace_bytes_max=64)
    assembler = RecordAssembler(limits)
    for record in [*assembler.feed(chunk(*lines)), *assembler.close()]:
        assert len(record.trace) <= 8
        assert sum(map(len, record.trace)) <= 128


@pytest.mark.parametrize("day", ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"])
def test_a_line_begins_a_record_on_every_day_of_the_week(day):
    assembler = RecordAssembler()
    assembler.enter(chunk())
    assert assembler.begins(f"{day} Jun 23 06:50:01 AM UTC 2025 Started".encode())
    assert not assembler.begins(f"{day} is not a time".encode())
    assert not assembler.begins(b"\xff" + day.encode())
    assert not assembler.begins(b"")
