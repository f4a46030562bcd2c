"""YAML to nodes: values, places, and limits on what a file may cost."""

from pathlib import Path

import pytest

from stackward.config.document import (
    BYTES_MAX,
    Node,
    Place,
    merge,
    parse_document,
    read_document,
    spoken,
)


def parse(text: str) -> Node:
    document = parse_document(text.encode(), "f.yaml")
    assert document.mistakes == ()
    assert document.root is not None
    return document.root


def complaint(content: bytes) -> str:
    document = parse_document(content, "f.yaml")
    assert document.root is None
    return "; ".join(str(mistake) for mistake in document.mistakes)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-15", -15),
        ("0123", 123),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("yes", "yes"),
        ("on", "on"),
        ("0x1F", "0x1F"),
        ("1e999", "1e999"),
        (".inf", ".inf"),
        ("2025-11-28", "2025-11-28"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("9" * 100, "9" * 100),
    ],
)
def test_a_scalar_means_what_yaml_1_2_says_and_nothing_more(text, value):
    found = parse(f"key: {text}").plain()
    assert found == {"key": value}
    assert isinstance(found, dict)
    assert type(found["key"]) is type(value)


def test_each_value_knows_its_line_and_an_entry_that_of_its_key():
    root = parse("a: 1\nb:\n  - x\n  - c:\n      d: 2\n")
    assert root.at(("a",)).place == Place("f.yaml", 1)
    assert root.at(("b",)).place.line == 2
    assert root.at(("b", 0)).place.line == 3
    assert root.at(("b", 1, "c")).place.line == 4
    assert root.at(("b", 1, "c", "d")).place.line == 5
    assert root.at(("b", 1, "gone", "d")).place.line == 4


def test_an_alias_stands_where_it_is_used():
    root = parse("a: &x [1, 2]\nb: *x\n")
    assert root.plain() == {"a": [1, 2], "b": [1, 2]}
    assert root.at(("b",)).place.line == 2


def test_all_duplicate_keys_are_told_and_the_document_is_read_on():
    document = parse_document(b"a: 1\na: 2\nb: {c: 1, c: 2}\n", "f.yaml")
    assert [(m.path, m.line) for m in document.mistakes] == [("a", 2), ("b.c", 3)]


@pytest.mark.parametrize(
    ("content", "piece"),
    [
        (b"a: \xff", "not UTF-8"),
        (b"a: \x00", "a character that YAML does not allow"),
        (b'a: "\\ud800"', "half a character"),
        (b'"\\ud800": 1', "half a character"),
        (b'a: "\\UFFFFFFFF"', "not YAML that can be read"),
        (b"%YAML 1.99999999999999999999\n---\na: 1", "not YAML that can be read"),
        (b"a: *hunter2", "names no anchor"),
        (b"*hunter2 : 1", "a key must be a word"),
        (b"a: &x 1\n*x : 1", "a key must be a word"),
        (b"? [hunter2]\n: 1", "a key must be a word"),
        (b"a: !hunter2 1", "tags (!) are not used"),
        (b"a: !hunter2 {}", "tags (!) are not used"),
        (b"a: @hunter2", "cannot start any token"),
        (b"a: hunter2: b", "a ':' where none may stand"),
        (b"a: 1\nhunter2\nb: 2", "is not YAML"),
        (b"a: 1\n---\nhunter2: 2", "a second document"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_without_repeating_it(content, piece):
    told = complaint(content)
    assert piece in told
    assert "hunter2" not in told


def test_merge_keys_are_refused_by_name():
    document = parse_document(b"a: &x {b: 1}\nc:\n  <<: *x\n", "f.yaml")
    assert ["merge keys" in mistake.message for mistake in document.mistakes] == [True]


@pytest.mark.parametrize("opening", ["[", "{", "- ", "? ", "{a: ", "a:\n ", "{a, a, "])
def test_nesting_is_cut_off_before_it_costs_anything(opening):
    content = (opening * (BYTES_MAX // 8 // len(opening))).encode()
    document = parse_document(content, "f.yaml")
    assert document.mistakes


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "content",
    [
        b"a: " + b"x" * (BYTES_MAX - 3),
        b"a: '" + b"x " * (BYTES_MAX // 10) + b"'",
        b"a: |\n" + b" x\n" * (BYTES_MAX // 15),
    ],
)
def test_a_scalar_of_a_megabyte_is_read(content):
    document = parse_document(content, "f.yaml")
    assert document.mistakes == ()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("line", [b"a%d: 1\n", b"- [%d]\n"])
def test_a_file_of_small_values_is_stopped_at_the_limit(line):
    assert "more than 20000 values" in complaint(b"".join(line % n for n in range(30_000)))


def test_aliases_of_aliases_are_counted_as_often_as_they_are_used():
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "more than 20000 values" in complaint("\n".join(lines).encode())


def test_mappings_merge_and_everything_else_is_replaced():
    lower = parse("a: {b: 1, c: {d: 2}}\ne: [1, 2]\nf: 1\n")
    upper = parse("a: {c: {g: 3}}\ne: [3]\nf: {h: 1}\n")
    assert merge(lower, upper).plain() == {
        "a": {"b": 1, "c": {"d": 2, "g": 3}},
        "e": [3],
        "f": {"h": 1},
    }


def test_a_path_is_spoken_so_that_people_find_it():
    assert spoken(("cloudstack", "endpoints", 0)) == "cloudstack.endpoints[0]"
    assert spoken(("zones", "zone 1", "mode")) == 'zones["zone 1"].mode'
    assert spoken(("zones", "\x1b[2J")) == 'zones["\\u001b[2J"]'
    assert spoken(()) == ""


def test_a_file_over_the_limit_is_refused(tmp_path: Path):
    file = tmp_path / "large.yaml"
    file.write_bytes(b"#" * (BYTES_MAX + 1))
    (mistake,) = read_document(file).mistakes
    assert "larger than" in mistake.message
