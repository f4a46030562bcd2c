"""Pattern packs: the built-in ones read whole logs rightly, and broken ones say what is wrong."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from stackward.catalog.log_files import LogSource
from stackward.catalog.records import RecordAssembler
from stackward.catalog.signatures import LogReading, SignatureSet
from stackward.config.packs import pack_files
from stackward.config.patterns import load_patterns
from stackward.errors import ConfigError, ConfigMistake
from stackward.model.guest import LogChunk, LogPosition
from stackward.model.identity import VmRole
from stackward.model.sighting import EventClass

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
LOGS = Path(__file__).parent.parent / "catalog" / "fixtures" / "logs"
STORIES = sorted(path.stem for path in LOGS.glob("*.log"))

GOOD = """\
patterns:
  - name: mine
    event: agent_exception
    severity: error
    message: '^Flux capacitor (?P<part>\\w+) failed'
    samples:
      match: [Flux capacitor coil failed]
      near_miss: [Flux capacitor coil works]
"""


@pytest.fixture(scope="module")
def builtin() -> SignatureSet:
    return load_patterns(())


def events_of(path: Path, signatures: SignatureSet, role: VmRole) -> dict[int, EventClass]:
    """The event of each line that has one, by its number."""
    data = path.read_bytes()
    place = LogPosition(
        device_inode="1:2", fingerprint="", fingerprint_bytes=0, generation=1, offset=0
    )
    numbers, offset = {}, 0
    for number, line in enumerate(data.splitlines(), 1):
        numbers[offset] = number
        offset += len(line) + 1
    assembler = RecordAssembler()
    chunk = LogChunk(data=data, start=place, end=place, received_at=NOW)
    reading = LogReading(signatures, role)
    told = [reading.read(record, NOW) for record in (*assembler.feed(chunk), *assembler.close())]
    return {
        numbers[sighting.line_start.offset]: sighting.event
        for sighting in told
        if sighting is not None and sighting.event is not EventClass.BENIGN
    }


@pytest.mark.parametrize("story", STORIES)
def test_a_whole_log_is_read_rightly(story, builtin):
    said = (LOGS / f"{story}.events").read_text().splitlines()
    role = VmRole(said[0].removeprefix("role "))
    expected = {
        int(number): EventClass(event) for number, event in (line.split() for line in said[1:])
    }
    assert events_of(LOGS / f"{story}.log", builtin, role) == expected


def test_the_built_in_packs_name_every_event_of_the_first_circle(builtin):
    events = {signature.event for signature in builtin.signatures}
    assert events >= {
        EventClass.AGENT_STARTED,
        EventClass.AGENT_READY,
        EventClass.AGENT_LOST_CONNECTION,
        EventClass.TLS_FAILURE,
        EventClass.MOUNT_FAILURE,
    }


def test_what_is_benign_is_tried_first(builtin):
    is_benign = [signature.event is EventClass.BENIGN for signature in builtin.signatures]
    assert is_benign == sorted(is_benign, reverse=True)


def load(tmp_path: Path, *texts: str, with_builtin: bool = False) -> SignatureSet:
    files = []
    for number, text in enumerate(texts):
        file = tmp_path / f"{number}.yaml"
        file.write_text(text)
        files.append(file)
    return load_patterns(files, with_builtin=with_builtin)


def mistakes(tmp_path: Path, *texts: str, with_builtin: bool = False) -> tuple[ConfigMistake, ...]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, *texts, with_builtin=with_builtin)
    return caught.value.mistakes


def test_an_operators_file_is_tried_before_the_built_in_packs(tmp_path):
    text = """\
patterns:
  - name: ready-here
    event: agent_connected
    severity: info
    message: '^Ready command is processed'
    samples:
      match: [Ready command is processed for agent id = 1]
      near_miss: [Ready]
"""
    signatures = load(tmp_path, text, with_builtin=True)
    names = [signature.name for signature in signatures.signatures]
    assert names.index("ready-here") < names.index("agent-ready")


def test_captures_become_fields(tmp_path):
    (signature,) = load(tmp_path, GOOD).signatures
    assert signature.match is not None
    assert signature.match("Flux capacitor coil failed") == {"part": "coil"}


def test_an_empty_file_and_no_file_give_no_signatures(tmp_path):
    assert load(tmp_path, "").signatures == ()
    assert load_patterns((), with_builtin=False).signatures == ()


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("failed'", "(?=x)'", 5, "is not an RE2 expression: invalid perl operator"),
        ("failed'", "('", 5, "is not an RE2 expression: missing )"),
        ("'^Flux capacitor (?P<part>\\w+) failed'", "'.*'", 5, "matches the empty text"),
        ("failed'", "failed\\z'", 5, "uses \\A or \\z"),
        ("[Flux capacitor coil failed]", "[Flux]", 7, "is not hit"),
        ("[Flux capacitor coil works]", "[Flux capacitor x failed]", 8, "is hit"),
        ("agent_exception", "agent_exploded", 3, "is not one of the allowed words"),
        ("name: mine", "name: Mine", 2, "holds characters that are not allowed"),
        ("severity: error", "severity: error\n    colour: red", 5, "is not a known key"),
        ("severity: error", "severity: error\n    severity: info", 5, "is given twice"),
        ("      match:", "      matches:", 7, "is not a known key"),
    ],
)
def test_a_broken_pattern_says_where_and_what(tmp_path, old, new, line, words):
    found = mistakes(tmp_path, GOOD.replace(old, new))
    assert [(each.line, words in each.message) for each in found if words in each.message] == [
        (line, True)
    ]
    assert all(each.file.endswith("0.yaml") for each in found)


def test_a_pattern_that_looks_nowhere_is_refused(tmp_path):
    text = "\n".join(line for line in GOOD.splitlines() if "message" not in line)
    assert any("needs message or cause" in each.message for each in mistakes(tmp_path, text))


def test_two_patterns_of_one_name_are_refused(tmp_path):
    found = mistakes(tmp_path, GOOD, GOOD)
    assert [Path(each.file).name for each in found] == ["1.yaml"]
    taken = GOOD.replace("name: mine", "name: agent-ready")
    assert [each.line for each in mistakes(tmp_path, taken, with_builtin=True)] == [2]


def test_a_pattern_that_another_one_shadows_is_refused(tmp_path):
    second = GOOD.removeprefix("patterns:\n").replace("name: mine", "name: never-reached")
    found = mistakes(tmp_path, GOOD + second)
    assert [each.message for each in found] == ["is taken by another pattern first"]


def test_every_mistake_of_every_file_is_told(tmp_path):
    broken = GOOD.replace("failed'", "('")
    found = mistakes(tmp_path, broken, broken.replace("mine", "yours"), "patterns: 3\n")
    assert [Path(each.file).name for each in found] == ["2.yaml", "0.yaml", "1.yaml"]


def test_a_missing_file_is_a_mistake(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_patterns([tmp_path / "gone.yaml"], with_builtin=False)


def test_the_built_in_packs_are_found():
    assert len(pack_files("patterns")) >= 5


def test_a_hard_expression_takes_linear_time(tmp_path):
    text = GOOD.replace("'^Flux capacitor (?P<part>\\w+) failed'", "'^(Fa*a*)*a*a*a*b$'").replace(
        "[Flux capacitor coil failed]", "[Faab]"
    )
    (signature,) = load(tmp_path, text).signatures
    assert signature.match is not None
    assert signature.match("Fa" + "a" * 20_000) is None


def test_a_counted_gap_is_free_in_the_scan_and_counted_in_the_pattern(tmp_path):
    text = GOOD.replace("'^Flux capacitor (?P<part>\\w+) failed'", "'^Flux.{0,16} failed'")
    signatures = load(tmp_path, text)
    (signature,) = signatures.signatures
    far = "Flux" + " capacitor" * 9 + " failed"
    assert list(signatures.scan(far)) == [0]
    assert signature.match is not None
    assert signature.match(far) is None


def test_patterns_for_another_log_are_tried_and_left_out(tmp_path):
    elsewhere = "sources: [management]\n" + GOOD
    assert load(tmp_path, elsewhere).signatures == ()
    file = tmp_path / "0.yaml"
    (signature,) = load_patterns([file], with_builtin=False, source=LogSource.MANAGEMENT).signatures
    assert signature.name == "mine"
    broken = elsewhere.replace("[Flux capacitor coil failed]", "[Flux]")
    assert any("is not hit" in each.message for each in mistakes(tmp_path, broken))


def test_a_text_that_fits_nothing_names_nothing(tmp_path):
    assert list(load(tmp_path, GOOD).scan("nothing of the kind")) == []
