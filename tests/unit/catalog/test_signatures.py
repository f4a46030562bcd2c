"""How a hit becomes an event: order, roles, levels, echoes, and no secret in it."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from stackward.catalog.records import LogFormat, Record
from stackward.catalog.signatures import LogReading, Matcher, Signature, SignatureSet
from stackward.model.guest import LogPosition
from stackward.model.identity import VmRole
from stackward.model.sighting import EventClass, Severity

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
PLACE = LogPosition(
    device_inode="1:2", fingerprint="ff", fingerprint_bytes=256, generation=1, offset=7
)
SSVM, CPVM = VmRole.SECONDARY_STORAGE, VmRole.CONSOLE_PROXY


def has(word: str, **captured: str) -> Matcher:
    return lambda text: captured if word in text else None


def signature(
    name: str,
    event: EventClass = EventClass.AGENT_READY,
    *,
    match: Matcher | None = None,
    cause: Matcher | None = None,
    levels: Iterable[str] = (),
    formats: Iterable[LogFormat] = (),
    roles: Iterable[VmRole] = (),
    echoes: Iterable[EventClass] = (),
) -> Signature:
    return Signature(
        name=name,
        event=event,
        severity=Severity.INFO,
        match=match,
        cause=cause,
        levels=frozenset(levels),
        formats=frozenset(formats),
        roles=frozenset(roles),
        echoes=frozenset(echoes),
    )


def set_of(*signatures: Signature) -> SignatureSet:
    return SignatureSet(signatures, lambda _text: range(len(signatures)))


def record(message: str, *trace: str, level: str | None = None) -> Record:
    return Record(
        line_start=PLACE,
        format=LogFormat.LOG4J1,
        message=message,
        trace=trace,
        level=level,
        logged_at=NOW - timedelta(seconds=1),
    )


def test_the_first_that_matches_wins_whatever_order_the_scan_has():
    signatures = (signature("first", match=has("x")), signature("second", match=has("x")))
    sighting = SignatureSet(signatures, lambda _text: [1, 0]).classify(record("x"), SSVM, NOW)
    assert sighting is not None
    assert sighting.pattern == "first"


def test_what_the_scan_does_not_name_is_not_tried():
    signatures = SignatureSet((signature("any", match=has("x")),), lambda _text: ())
    assert signatures.classify(record("x"), SSVM, NOW) is None


def test_an_empty_set_knows_nothing():
    assert SignatureSet().classify(record("x"), SSVM, NOW) is None


def test_what_is_benign_is_recognised_and_is_no_event():
    signatures = set_of(
        signature("calm", EventClass.BENIGN, match=has("x")), signature("loud", match=has("x"))
    )
    recognised = signatures.recognise(record("x"), SSVM, NOW)
    assert recognised is not None
    assert recognised.pattern == "calm"
    assert signatures.classify(record("x"), SSVM, NOW) is None


def test_role_and_level_must_fit():
    signatures = set_of(signature("narrow", match=has("x"), roles=[CPVM], levels=["ERROR"]))
    assert signatures.classify(record("x", level="ERROR"), CPVM, NOW) is not None
    assert signatures.classify(record("x", level="ERROR"), None, NOW) is not None
    assert signatures.classify(record("x", level="ERROR"), SSVM, NOW) is None
    assert signatures.classify(record("x", level="INFO"), CPVM, NOW) is None


def test_a_cause_is_looked_for_in_message_and_trace():
    signatures = set_of(signature("why", match=has("x", a="1"), cause=has("disk", b="2")))
    below = signatures.classify(record("x", "the disk"), SSVM, NOW)
    assert below is not None
    assert below.fields == {"a": "1", "b": "2"}
    assert signatures.classify(record("x disk"), SSVM, NOW) is not None
    assert signatures.classify(record("x"), SSVM, NOW) is None


def test_a_sighting_says_where_and_when():
    sighting = set_of(signature("any", match=has("x"))).classify(record("x"), SSVM, NOW)
    assert sighting is not None
    assert (sighting.line_start, sighting.seen_at) == (PLACE, NOW)
    assert sighting.logged_at == NOW - timedelta(seconds=1)


def test_a_sighting_is_short_and_holds_no_secret():
    signatures = set_of(signature("any", match=has("x", why="password=Hunter2 " + "y" * 900)))
    sighting = signatures.classify(record("x with sid Hunter2 " + "z" * 900, "a b"), SSVM, NOW)
    assert sighting is not None
    assert "Hunter2" not in sighting.text + str(sighting.fields)
    assert len(sighting.text) == 500
    assert all(len(value) <= 200 for value in sighting.fields.values())


def test_an_echo_takes_the_class_of_what_was_told_before():
    signatures = set_of(
        signature("status", EventClass.EXIT_127, match=has("127")),
        signature(
            "failed",
            EventClass.EXIT_OTHER,
            match=has("failed"),
            echoes=[EventClass.EXIT_1, EventClass.EXIT_127],
        ),
    )
    reading = LogReading(signatures, SSVM)
    told = [
        sighting.event
        for text in ("failed", "status 127", "failed", "failed")
        if (sighting := reading.read(record(text), NOW)) is not None
    ]
    assert told == [
        EventClass.EXIT_OTHER,
        EventClass.EXIT_127,
        EventClass.EXIT_127,
        EventClass.EXIT_127,
    ]


def test_an_echo_fades():
    signatures = set_of(
        signature("status", EventClass.EXIT_127, match=has("127")),
        signature(
            "failed", EventClass.EXIT_OTHER, match=has("failed"), echoes=[EventClass.EXIT_127]
        ),
    )
    reading = LogReading(signatures, SSVM)
    reading.read(record("127"), NOW)
    late = Record(
        line_start=PLACE,
        format=LogFormat.JOURNAL,
        message="failed",
        logged_at=NOW + timedelta(hours=1),
    )
    sighting = reading.read(late, NOW)
    assert sighting is not None
    assert sighting.event is EventClass.EXIT_OTHER
