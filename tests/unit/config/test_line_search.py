"""The search of all patterns over raw lines: it may find too much, and never too little."""

import re

import re2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackward.catalog.records import LogFormat
from stackward.config.line_search import LineSearch, Wanted

HEAD = b"2025-06-01T11:59:00,500 INFO  [a.B] (main:[]) "
PATIENT = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def found(expression: str, line: bytes, *formats: LogFormat) -> bool:
    search = LineSearch([Wanted(expression, None, frozenset(formats))])
    lines = b"x\n" * 40 + line + b"\n" + b"y\n"
    ends = {*(search.find(lines) or ())}
    assert ends <= {80 + len(line) + 1} | set(range(2, 81, 2)) | {len(lines)}
    return 80 + len(line) + 1 in ends


def test_the_beginning_of_a_message_is_looked_for_behind_its_head():
    assert found("^Agent started$", HEAD + b"Agent started")
    assert found("^Agent started$", b"Agent started\r")
    assert not found(r"^\d[ab]", HEAD + b"The x1a")


def test_a_pattern_for_lines_of_the_shell_looks_at_no_others():
    shell = b"Sun Jun  1 11:59:00 AM UTC 2025 "
    assert found(r"^\S", shell + b"x", LogFormat.SHELL)
    assert not found(r"^\S", HEAD + b"x", LogFormat.SHELL)


def test_what_hyperscan_does_not_take_is_looked_for_all_the_same():
    assert found(r"\pN\pN oranges", HEAD + b"12 oranges")
    assert found(r"(?:ab{1,900}c{1,900}d{1,900}){1,2}", HEAD + b"xabbcd")


def test_no_hit_reaches_into_another_line():
    search = LineSearch([Wanted(r"one\s+two", None), Wanted("a[^x]*b", None)])
    assert search.find(b"one\ntwo\na\nb\n") == {}


def test_a_word_that_every_hit_holds_is_looked_for_wherever_it_stands():
    assert found("^(Un|Dis)able (it|them)", HEAD + b"Disable them")
    assert found("(?i)unable|cannot mount", HEAD + b"CANNOT MOUNT")
    assert not found("^Unable|cannot mount", HEAD + b"cannot moun")


def test_of_message_and_cause_that_is_looked_for_which_fewer_lines_hold():
    search = LineSearch([Wanted("^(Failed|Unable) to", "No space left on device")])
    assert search.find(b"Unable to\n\tat x: No space left on device\n") == {41: {0}}
    search = LineSearch([Wanted("^Unable to create a volume", "Error|Exception")])
    assert search.find(b"Unable to create a volume\nError\n") == {26: {0}}


def test_long_words_that_begin_alike_are_looked_for_as_one():
    search = LineSearch(
        [Wanted("Unable to create pool", None), Wanted("Unable to create vif", None)]
    )
    assert search.find(b"x Unable to create pool\n") == {24: {0, 1}}


def test_groups_in_groups_without_end_are_read_as_they_are():
    assert found("(" * 900 + "abcd" + ")" * 900, HEAD + b"abcd")


def test_only_the_lines_between_two_places_are_looked_at():
    search = LineSearch([Wanted("^one|[0-9]x", None)])
    assert search.find(b"one\nthe one\n1x\n1x\n", 4, 15) == {12: {0}, 15: {0}}


def test_what_misses_a_sample_is_looked_for_the_slow_way():
    search = LineSearch(
        [Wanted("^one two", None, samples=("six seven\neight",)), Wanted("six", None)]
    )
    marks = search.find(b"one two three\nsix\n")
    assert marks is not None
    assert 0 in marks[14]
    assert search.find(b"nine\n") == {}


def test_a_part_with_too_many_hits_is_to_be_looked_at_in_smaller_ones():
    search = LineSearch([Wanted("one", None), Wanted("o[a-z]{2}", None)])
    lines = b"x one\n" * 3
    assert search.find(lines, 0, 12, 4) == {6: {0, 1}, 12: {0, 1}}
    assert search.find(lines, 0, None, 4) is None
    assert search.find(lines) == {6: {0, 1}, 12: {0, 1}, 18: {0, 1}}


def test_the_slow_way_never_looks_at_a_long_part():
    search = LineSearch([Wanted("^one two", None, samples=("six seven\neight",))])
    assert search.find(b"one two\n", most=64) is None
    assert search.find(b"one two\n") == {8: {0}}


def test_digits_matter_only_to_what_looks_at_them():
    search = LineSearch(
        [Wanted(r"^Took \d+ ms", None), Wanted("status=(1|27)|in ip6?tables", "[2-4] x")]
    )
    assert not search.varies("Took 000 ms")
    assert search.varies("status=0")
    assert search.varies("status=00")
    assert search.varies("in ip0tables")
    assert search.varies("a 0 x")
    assert LineSearch([Wanted(r"\x31", None)]).varies("Took 000 ms")
    assert not LineSearch([Wanted("port 1|in .{1,9}tables", None)]).varies("in 00 tables")


def test_a_search_for_nothing_finds_nothing():
    assert LineSearch([]).find(b"x\n") == {}
    assert not LineSearch([]).varies("x")


PIECES = st.sampled_from(
    ["a", "b", "ab", "abab", ".", r"\.", r"\s", r"\S", r"\d", r"\w", r"\b", " ", "1",
     "[ab]", "[^a]", "[^]a]", "[]a]", r"[^\s,]", "[1-3a]", "[^12]", "^", "$", "(a|b)",
     "(abba|(?i:BaBa))", "(?i)", "(?i:B)", "a*", "b+", "a?", "a{1,2}",
     ".*", ".{1,3}", r"\s*", "(ab )?", "|"]
)  # fmt: skip
TEXTS = st.text(alphabet="aAbB .,123\t\r\x0b\x00", max_size=12)


@PATIENT
@given(
    st.lists(PIECES, min_size=1, max_size=6).map("".join), st.lists(TEXTS, min_size=1, max_size=60)
)
def test_the_search_finds_what_re2_finds(expression, texts):
    options = re2.Options()
    options.never_nl, options.log_errors = True, False
    try:
        compiled = re2.compile(expression, options)
    except re2.error:
        return
    if compiled.search("") is not None:  # no pack may hold such a thing
        return
    search = LineSearch([Wanted(expression, None)])
    messages = [text.rstrip("\r") for text in texts]
    hits = [compiled.search(message) is not None for message in messages]
    lines, at = b"", []
    for text in texts:
        lines += HEAD + text.encode() + b"\n"
        at.append(len(lines))
    ends = {*(search.find(lines) or ())}
    assert {end for end, is_hit in zip(at, hits, strict=True) if is_hit} <= ends
    for message, is_hit in zip(messages, hits, strict=True):
        if not search.varies(re.sub("[0-9]", "0", message)):
            other = re.sub("[0-9]", "7", message)
            assert is_hit == (compiled.search(other) is not None)
