"""Lines of every log around a system VM become records, joined, bounded, and without a crash."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackward.catalog.log_files import (
    FileAssembler,
    LogSource,
    guess_role,
    guess_source,
    read_line,
)
from stackward.catalog.records import LogFormat, Record, RecordLimits
from stackward.catalog.signatures import LogRole

# A loaded machine is no reason to fail.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
OLD = "2024-05-04 10:00:00,100 WARN  [c.c.c.X] (Work-1:ctx-0a job-402/job-625 ctx-1) (logid:0a1b) m"
NEW = "2025-05-04 10:00:00,100 WARN  [c.c.c.X] (Work-1:[ctx-0a, job-402]) (logid:0a1b) m"
HOST = "2024-05-04 10:00:00,100 INFO  [cloud.agent.Agent] (main:null) (logid:) m"
OF_SSVM = HOST.replace("cloud.agent.Agent", "storage.resource.NfsSecondaryStorageResource")
OF_CPVM = HOST.replace("cloud.agent.Agent", "cloud.consoleproxy.ConsoleProxy")
OF_HOST = HOST.replace("cloud.agent.Agent", "kvm.resource.LibvirtConnection")
VM = "2024-05-04 10:00:00,100 ERROR [cloud.agent.Agent] (main:null) m"
CHECK = "Good: Can ping DNS server"
SHELL = "Tue May  7 08:00:01 UTC 2024 Executing cloud-early-config"
UNIT = "May 07 08:00:01 s-12-VM systemd[1]: cloud.service: Succeeded."
UNDATED = "May 07 08:00:01 kvm1 java[7]: INFO  [cloud.agent.Agent] (main:) (logid:) m"
OF_SERVER = "May 07 08:00:01 ms1 java[7]: INFO  [c.c.a.m.X] (main:) (logid:) m"
RUN = "May 07 08:00:01 s-12-VM _run.sh[7]: "


def head(line: str, source: LogSource = LogSource.CLOUD) -> Record:
    record = read_line(line, 1, source, read_at=NOW)
    assert record is not None
    return record


def records(
    lines: Iterable[str | bytes],
    source: LogSource = LogSource.CLOUD,
    limits: RecordLimits | None = None,
) -> list[Record]:
    assembler = FileAssembler(source, read_at=NOW, limits=limits)
    raw = [line.encode() if isinstance(line, str) else line for line in lines]
    taken = [*map(assembler.take, raw), assembler.end()]
    return [record for record in taken if record is not None]


@pytest.mark.parametrize("line", [OLD, NEW])
def test_request_and_job_are_fields_of_a_management_servers_record(line):
    record = head(line, LogSource.MANAGEMENT)
    assert (record.log_id, record.job, record.message) == ("0a1b", "402", "m")


def test_no_request_and_no_job_are_none():
    record = head(HOST, LogSource.HOST_AGENT)
    assert (record.log_id, record.job, record.message) == (None, None, "m")


def test_a_system_vm_writes_utc_and_a_management_server_its_own_time():
    assert head(VM).logged_at == datetime(2024, 5, 4, 10, 0, 0, 100000, tzinfo=UTC)
    assert head(OLD, LogSource.MANAGEMENT).logged_at is None
    east = timezone(timedelta(hours=2))
    record = read_line(OLD, 1, LogSource.MANAGEMENT, read_at=NOW, zone=east)
    assert record is not None
    assert record.logged_at == datetime(2024, 5, 4, 8, 0, 0, 100000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "form", "level", "logger", "message"),
    [
        ("2024-05-07 08:00:01,000 WARNING  m", LogFormat.PYTHON, "WARN", None, "m"),
        ("2024-05-07 08:00:01,000  a.py main:12 m", LogFormat.PYTHON, None, "a.py", "m"),
        ("2024-05-07T08:00:01+0200 s-1-VM cron[7]: m", LogFormat.JOURNAL, None, "cron", "m"),
        ("May 07 08:00:01.123456 s-1-VM cron[7]: m", LogFormat.JOURNAL, None, "cron", "m"),
        ("May 07 08:00:01 s-1-VM kernel: [ 41.000001] m", LogFormat.JOURNAL, None, "kernel", "m"),
        ("May 07 08:00:01 ms1 java[7]: WARN  [a.B] (t:) m", LogFormat.JOURNAL, "WARN", "a.B", "m"),
        ("[   41.000001] systemd[1]: m", LogFormat.KERNEL, None, "systemd", "m"),
        ("[Tue May  7 08:00:01 2024] m", LogFormat.KERNEL, None, None, "m"),
        ("[FAILED] m", LogFormat.KERNEL, None, None, "m"),
        ("[\x1b[0;1;31mFAILED\x1b[0m] m", LogFormat.KERNEL, None, None, "m"),
    ],
)
def test_other_formats(line, form, level, logger, message):
    record = head(line, LogSource.JOURNAL)
    assert (record.format, record.level, record.logger) == (form, level, logger)
    assert record.message == message


def test_a_journals_iso_time_is_its_own():
    record = head("2024-05-07T08:00:01+02:00 s-1-VM cron[7]: m", LogSource.JOURNAL)
    assert record.logged_at == datetime(2024, 5, 7, 6, 0, 1, tzinfo=UTC)


def test_a_record_stands_on_its_first_line_and_has_its_trace_at_any_level():
    first, second = records([HOST, "java.lang.X: y", "\tat a.B(B.java:1)", OLD])
    assert (first.line_start.offset, second.line_start.offset) == (1, 4)
    assert first.trace == ("java.lang.X: y", "\tat a.B(B.java:1)")


def test_an_empty_line_ends_a_trace():
    first, orphan = records([VM, "", "systemd says so"])
    assert first.trace == ()
    assert orphan.format is LogFormat.PLAIN


def test_a_trace_without_its_beginning_is_no_record():
    assembler = FileAssembler(LogSource.CLOUD, read_at=NOW)
    for line in (b"\tat a.B(B.java:1)", b"Caused by: java.lang.X", b"java.lang.X: y"):
        assert assembler.take(line) is None
    assert assembler.end() is None
    assert assembler.orphans == 3


def test_a_trace_is_joined_in_the_journal_too_where_each_line_has_a_head():
    (record,) = records(
        [
            f'{RUN}Exception in thread "main" java.lang.X',
            f"{RUN}\tat a.B(B.java:1)",
            f"{RUN}Caused by: java.lang.Y",
        ]
    )
    assert record.trace == ("\tat a.B(B.java:1)", "Caused by: java.lang.Y")


def test_an_exception_goes_with_what_log4j_told_the_journal_before_it():
    for told in ("08:00:01,123 ERROR Agent:1 - m", "ERROR [cloud.agent.Agent] (main:) m"):
        (record,) = records([f"{RUN}{told}", f"{RUN}java.lang.X: y", f"{RUN}\tat a.B(B.java:1)"])
        assert record.message == "m"
        assert record.trace == ("java.lang.X: y", "\tat a.B(B.java:1)")
        other = RUN.replace("[7]", "[8]")
        assert len(records([f"{RUN}{told}", f"{other}java.lang.X: y"])) == 2


def test_what_log4j_says_of_itself_has_a_level():
    lost, cause = "log4j:ERROR Failed to flush writer,", "java.io.IOException: x"
    (record,) = records([f"{RUN}{lost}", f"{RUN}{cause}"])
    assert (record.level, record.message) == ("ERROR", "Failed to flush writer,")
    assert record.trace == (cause,)


@pytest.mark.parametrize(
    "said", ['Exception in thread "a" java.lang.X: y', "Unable to start agent: z"]
)
def test_what_java_says_itself_is_no_trace_of_a_record_before(said):
    first, second = records([VM, said, "its second line", "\tat a.B(B.java:1)"])
    assert first.trace == ()
    assert (second.format, second.message) == (LogFormat.PLAIN, said)
    assert second.trace == ("its second line", "\tat a.B(B.java:1)")


def test_the_console_appender_alone_is_read():
    first, second = records(
        ["08:00:01,123  INFO Agent:1 - a", "08:00:01,124 ERROR Agent:? - b", "java.lang.X: y"]
    )
    assert (first.level, first.logger, first.message) == ("INFO", "Agent", "a")
    assert (second.level, second.trace) == ("ERROR", ("java.lang.X: y",))


def test_what_another_program_says_is_not_joined():
    assert len(records([f"{RUN}Exception in thread", UNIT, f"{RUN}java.lang.X: y"])) == 3


def test_each_line_of_the_check_script_is_a_record():
    found = records([CHECK, "=====", "  Try this"], LogSource.SSVM_CHECK)
    assert [record.line_start.offset for record in found] == [1, 2, 3]


@pytest.mark.parametrize(
    ("lines", "source"),
    [
        ([OLD], LogSource.MANAGEMENT),
        ([NEW], LogSource.MANAGEMENT),
        ([HOST], LogSource.HOST_AGENT),
        ([VM, VM, HOST], LogSource.HOST_AGENT),
        ([HOST, OF_SSVM], LogSource.CLOUD),
        ([HOST, OF_CPVM], LogSource.CLOUD),
        ([VM, OF_HOST], LogSource.HOST_AGENT),
        ([SHELL, VM, VM], LogSource.CLOUD),
        ([SHELL], LogSource.BOOT),
        ([UNIT], LogSource.JOURNAL),
        (["[   41.000000] Kernel panic"], LogSource.JOURNAL),
        ([UNIT.replace("s-12-VM", "ms1")] * 2 + [OF_SERVER], LogSource.MANAGEMENT),
        ([UNIT.replace("s-12-VM", "kvm1"), UNDATED], LogSource.HOST_AGENT),
        ([UNIT, UNDATED.replace("kvm1", "s-12-VM")], LogSource.JOURNAL),
        (
            [OF_SERVER.replace("May 07 08:00:01", "2024-05-07T08:00:01.123456+00:00")],
            LogSource.MANAGEMENT,
        ),
        ([UNDATED.replace("08:00:01", "08:00:01.123456")], LogSource.HOST_AGENT),
        (["=====", CHECK], LogSource.SSVM_CHECK),
        (["2024/03/04 10:00:00 socat[7] E x", CHECK], LogSource.SSVM_CHECK),
        (["08:00:01,123  INFO Agent:1 - a"], LogSource.CLOUD),
        (["May 07 08:00:01 ms1 java[7]: WARN  [c.c.x.Y] (t:) m"], LogSource.MANAGEMENT),
        (["nothing known"], LogSource.CLOUD),
        ([], LogSource.CLOUD),
    ],
)
def test_a_source_is_guessed_by_what_it_says(lines, source):
    assert guess_source(lines) is source


def test_a_role_is_guessed_by_what_the_log_says():
    assert guess_role([UNIT]) is LogRole.SSVM
    assert guess_role([UNIT.replace("s-12", "v-13")]) is LogRole.CPVM
    assert guess_role([UNIT.replace("s-12", "r-14")]) is LogRole.ROUTER
    assert guess_role([VM]) is None


LINES = st.one_of(
    st.binary(max_size=60).filter(lambda line: b"\n" not in line),
    st.sampled_from([OLD, NEW, HOST, VM, CHECK, SHELL, UNIT, f"{RUN}\tat x", "\tat y", ""]).map(
        str.encode
    ),
)


@PATIENT
@given(st.lists(LINES, max_size=60), st.sampled_from(LogSource))
def test_any_lines_give_records_in_order_and_bounded(lines, source):
    limits = RecordLimits(trace_lines_max=4, trace_bytes_max=64)
    found = records(lines, source, limits)
    places = [record.line_start.offset for record in found]
    assert places == sorted(set(places))
    assert all(1 <= place <= len(lines) for place in places)
    for record in found:
        assert len(record.trace) <= 8
        assert sum(map(len, record.trace)) <= 128


@PATIENT
@given(st.text(max_size=200), st.sampled_from(LogSource))
def test_any_text_is_a_head_or_none(text, source):
    read_line(text, 1, source, read_at=NOW)
    guess_source([text])
