"""Whole log files of every kind come out as the events that they tell, and nothing breaks it."""

import gzip
import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackward.app.classify import LINE_BYTES_MAX, Classifier, UnreadableError
from stackward.catalog.log_files import LogSource
from stackward.catalog.signatures import LogRole

# A loaded machine is no reason to fail.
PATIENT = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
LOGS = Path(__file__).parent / "fixtures" / "logs"
STORIES = sorted(path.stem for path in LOGS.glob("*.log"))
READY = (
    "2024-05-07 08:00:00,000 INFO  [cloud.agent.Agent] (main:null) "
    "Ready command is processed for agent id = 12"
)
SID = (
    "2024-05-07 08:00:00,000 WARN  [cloud.consoleproxy.ConsoleProxy] (qtp1-61:null) "
    "External authenticator failed authentication request for vm 6f0c with sid Hunter2"
)
KEYSTORE = (
    "2024-05-07 08:00:00,000 INFO  [cloud.agent.Agent] (main:null) "
    "Attempted to connect to the server, but received an unexpected exception, trying again..."
)


# One for all: its patterns are loaded once.
CLASSIFIER = Classifier()


def read(text: str | bytes, source: LogSource | None = LogSource.CLOUD) -> dict[int, str]:
    """The event of each line that has one."""
    content = text.encode() if isinstance(text, str) else text
    told = CLASSIFIER.events_in(io.BytesIO(content), "x.log", NOW, source)
    return {each.line: each.sighting.event.value for each in told}


@pytest.mark.parametrize("is_said", [True, False], ids=["said", "guessed"])
@pytest.mark.parametrize("story", STORIES)
def test_a_whole_log_is_read_rightly_whether_its_source_is_said_or_not(story, is_said):
    head, *lines = (LOGS / f"{story}.events").read_text().splitlines()
    source, *role = head.split()
    told = CLASSIFIER.events(
        str(LOGS / f"{story}.log"),
        LogSource(source) if is_said else None,
        LogRole(role[0]) if is_said and role else None,
    )
    found = {each.line: each.sighting.event.value for each in told}
    assert found == {int(number): event for number, event in (line.split() for line in lines)}


def test_every_source_has_a_story():
    heads = {(LOGS / f"{story}.events").read_text().split()[0] for story in STORIES}
    assert heads == {source.value for source in LogSource}


def test_a_packed_log_is_read_like_a_plain_one(tmp_path):
    packed = tmp_path / "management.log.gz"
    packed.write_bytes(gzip.compress((LOGS / "management-4.19-loop.log").read_bytes()))
    plain = [each.line for each in CLASSIFIER.events(str(LOGS / "management-4.19-loop.log"))]
    assert [each.line for each in CLASSIFIER.events(str(packed))] == plain


def test_a_journal_is_that_of_the_machine_that_speaks_in_it():
    hosts = (
        "Feb 19 12:01:08 kvm2 java[9465]: WARN  [kvm.resource.KVMHAMonitor] (Thread-1:) (logid:) "
        "Write heartbeat for pool [6f0c] failed: timeout; try: 4 of 5."
    )
    for source in (None, LogSource.JOURNAL):
        assert read(hosts, source) == {1: "storage_failure"}


def test_what_is_benign_is_told_only_when_asked_for():
    assert read(KEYSTORE) == {}
    every = Classifier(with_benign=True).events_in(io.BytesIO(KEYSTORE.encode()), "x", NOW)
    assert [each.sighting.event.value for each in every] == ["benign"]


def test_no_secret_comes_out_of_a_log():
    (told,) = CLASSIFIER.events_in(io.BytesIO(SID.encode()), "x.log", NOW)
    assert "Hunter2" not in told.sighting.text + str(told.sighting.fields)


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_the_last_line_counts_however_it_ends(end):
    assert read(f"{READY}{end}") == {1: "agent_ready"}


def test_a_huge_line_is_one_line_and_the_next_is_read():
    huge = "x" * (5 * LINE_BYTES_MAX)
    assert read(f"{READY}\n{huge}\n{READY}") == {1: "agent_ready", 3: "agent_ready"}


def test_zeros_before_a_line_do_not_hide_it():
    assert read(b"\x00" * 100_000 + READY.encode()) == {1: "agent_ready"}


def test_an_empty_log_tells_nothing():
    assert read("", None) == {}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone", None, "No such file"),
        ("noise", bytes(range(256)) * 300, "neither text nor gzip"),
        ("cut.gz", gzip.compress(READY.encode() * 50)[:-12], "ended before"),
        ("broken.gz", b"\x1f\x8b\x08" + bytes(6) + b"\x03" + b"\xff" * 50, "Error -3"),
    ],
    ids=["gone", "noise", "cut", "broken"],
)
def test_a_file_that_cannot_be_read_is_said_by_name(tmp_path, name, content, words):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UnreadableError, match=words) as caught:
        list(CLASSIFIER.events(str(file)))
    assert name in str(caught.value)


def test_a_directory_is_no_log(tmp_path):
    with pytest.raises(UnreadableError, match="directory"):
        list(CLASSIFIER.events(str(tmp_path)))


PIECES = st.one_of(
    st.binary(max_size=80),
    st.sampled_from(
        [
            line
            for story in STORIES
            for line in (LOGS / f"{story}.log").read_bytes().splitlines(keepends=True)
        ][::3]
    ),
    st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\tat a.B.c(B.java:1)\n", b"Caused by: x\n"]),
)


@PATIENT
@given(st.lists(PIECES, max_size=30), st.sampled_from([None, *LogSource]))
def test_any_bytes_are_read_to_their_end_or_refused(pieces, source):
    content = b"".join(pieces)
    try:
        found = list(CLASSIFIER.events_in(io.BytesIO(content), "x", NOW, source))
    except UnreadableError:
        return
    lines = [each.line for each in found]
    assert lines == sorted(set(lines))
    assert all(1 <= line <= content.count(b"\n") + 1 for line in lines)
    assert all(len(each.sighting.text) <= 500 for each in found)
