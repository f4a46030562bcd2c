"""The framing of the fact loop's blocks: any cut of the bytes, any garbage."""

import re
from collections.abc import Mapping
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackward.catalog.fact_loop import (
    VOLATILE_SECTIONS,
    BlockLimits,
    BlockReader,
    FactLoopSettings,
    LoopGarbled,
    RawBlock,
    block_line,
    fact_loop_command,
    fact_loop_script,
    tick_line,
)

SECOND = timedelta(seconds=1)
FIRST = block_line(
    1, 100 * SECOND, {"boot": ["b"], "load": ["0.1 0.2", "x"]}, {}, {"unit": 100 * SECOND}
)
SECOND_BLOCK = block_line(
    2, 110 * SECOND, {"boot": ["b"]}, {"unit": (100 * SECOND, ["ActiveState=active"])}, {}
)
THIRD = block_line(3, 120 * SECOND, {"boot": ["b"]}, {"unit": (115 * SECOND, [])}, {})


def test_a_block_carries_what_was_read_what_was_heard_and_what_still_runs():
    (block,) = BlockReader().feed(FIRST)
    assert (block.tick, block.loop_version, block.size_bytes) == (1, 1, len(FIRST))
    assert block.sections == {"boot": ("b",), "load": ("0.1 0.2", "x")}
    assert block.pending == {"unit": timedelta(0)}


def test_a_slow_section_stays_with_its_growing_age():
    reader = BlockReader()
    blocks = reader.feed(FIRST + SECOND_BLOCK + block_line(3, 130 * SECOND, {}, {}, {}))
    assert "unit" not in blocks[0].sections
    assert blocks[1].sections["unit"] == blocks[2].sections["unit"] == ("ActiveState=active",)
    assert (blocks[1].ages["unit"], blocks[2].ages["unit"]) == (10 * SECOND, 30 * SECOND)


def test_a_slow_section_without_lines_takes_the_earlier_one_back():
    blocks = BlockReader().feed(FIRST + SECOND_BLOCK + THIRD)
    assert "unit" not in blocks[2].sections
    assert "unit" not in blocks[2].ages


def test_slow_sections_are_kept_up_to_a_number_and_the_oldest_goes():
    reader = BlockReader(BlockLimits(slow_sections_max=2))
    slow = {f"mount:/{number}": (SECOND, ["x"]) for number in range(4)}
    (block,) = reader.feed(block_line(1, SECOND, {}, slow, {}))
    assert list(block.sections) == ["mount:/2", "mount:/3"]


def test_lasting_sections_are_one_object_for_as_long_as_they_stay():
    reader = BlockReader()
    blocks: list[RawBlock] = []
    for tick in range(6):
        sections = {"clock": [str(tick)], "boot": ["b"], "jvm": ["2" if tick == 4 else "1"]}
        slow = {"unit": (tick * SECOND, ["ActiveState=active"])} if tick != 1 else {}
        blocks += reader.feed(block_line(tick, tick * SECOND, sections, slow, {}))
    lasting = [block.lasting or {} for block in blocks]
    assert all(one is lasting[0] for one in lasting[:4])
    assert lasting[0] == {"boot": ("b",), "jvm": ("1",), "unit": ("ActiveState=active",)}
    assert lasting[4] == {**lasting[0], "jvm": ("2",)}
    assert lasting[5] == lasting[0]


def test_a_section_that_is_gone_lasts_no_longer_even_where_another_comes_twice():
    reader = BlockReader()
    whole, twice = (
        b"\x1e".join((b"##stackward 1 1 100", *sections, b"##end 1\n"))
        for sections in ((b"=boot\x1fb", b"=jvm\x1f1"), (b"=boot\x1fb", b"=boot\x1fb"))
    )
    told = [block.lasting for block in reader.feed(whole + twice + whole)]
    assert told == [{"boot": ("b",), "jvm": ("1",)}, {"boot": ("b",)}, told[0]]


def test_a_block_that_was_given_out_is_not_changed_by_those_after_it():
    dice, reader = Random(7), BlockReader(BlockLimits(slow_sections_max=3))
    given = []
    for tick in range(1, 300):
        fresh = {name: [dice.choice("ab")] for name in ("clock", "boot") if dice.random() < 0.9}
        slow = {
            name: (dice.randint(0, tick) * SECOND, ["x"] * dice.choice([0, 1, 1, 1, 2]))
            for name in ("unit", "files", "disk", "mounts")
            if dice.random() < 0.15
        }
        (block,) = reader.feed(block_line(tick, tick * SECOND, fresh, slow, {}))
        lasting = {name: block.sections[name] for name in block.sections.keys() - VOLATILE_SECTIONS}
        given.append((block, dict(block.sections), dict(block.ages), lasting))
    for block, sections, ages, lasting in given:
        assert (block.sections, block.lasting) == (sections, lasting)
        assert block.ages == ages
        assert block.ages.oldest == max(ages.values(), default=0 * SECOND)


_LINES = st.sampled_from([(), ("a",), ("b", "c"), ("",)])
_NAMES = st.sampled_from(["clock", "boot", "jvm", "files", "disk"])
_BLOCKS = st.lists(
    st.tuples(
        st.lists(st.tuples(_NAMES, _LINES), max_size=5),
        st.dictionaries(_NAMES, st.tuples(st.integers(0, 9), _LINES), max_size=3),
        st.dictionaries(_NAMES, st.integers(0, 9), max_size=2),
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=300)
@given(_BLOCKS)
def test_what_the_reader_remembers_changes_no_block(told):
    """Beside a reader that takes every block apart, also where a section stands in it twice."""
    reader = BlockReader()
    slow: dict[str, tuple[timedelta, tuple[str, ...]]] = {}
    asked: Mapping[str, timedelta] = {}
    for tick, (sections, heard, pending) in enumerate(told):
        now = (tick + 5) * SECOND
        line = block_line(
            tick,
            now,
            {},
            {name: (at * SECOND, lines) for name, (at, lines) in heard.items()},
            {name: at * SECOND for name, at in pending.items()},
        )
        fresh = b"".join(
            b"\x1e" + "\x1f".join((f"={name}", *lines)).encode() for name, lines in sections
        )
        begin, end = line.rsplit(b"\x1e", 1)
        (block,) = reader.feed(begin + fresh + b"\x1e" + end)
        for name, (at, lines) in heard.items():
            slow.pop(name, None)
            if lines:
                slow[name] = (at * SECOND, lines)
        whole = dict(sections) | {name: lines for name, (_, lines) in slow.items()}
        assert block.sections == whole
        assert block.ages == {name: max(now - at, 0 * SECOND) for name, (at, _) in slow.items()}
        assert block.ages.oldest == max(block.ages.values(), default=0 * SECOND)
        assert tick == 0 or (block.ages.asked is asked) == (not heard)
        asked = block.ages.asked
        assert block.pending == {
            name: max(now - at * SECOND, 0 * SECOND) for name, at in pending.items()
        }
        assert block.lasting == {
            name: lines for name, lines in whole.items() if name not in VOLATILE_SECTIONS
        }


def test_what_a_login_prints_before_the_first_block_is_skipped():
    (block,) = BlockReader().feed(b"Welcome to s-1-VM\r\n\nno end of line here" + FIRST)
    assert block.tick == 1


def test_a_login_that_never_stops_printing_is_garbled():
    reader = BlockReader(BlockLimits(banner_bytes_max=1000))
    assert reader.feed(b"y\n" * 500) == ()
    with pytest.raises(LoopGarbled):
        reader.feed(b"y")


@pytest.mark.parametrize(
    "line",
    [
        b"Killed\n",
        b"\n",
        b"##stackward one 2 3\n",
        b"##stackward 1 2 3\n",
        b"##stackward 1 2 3\x1e=boot\x1fb\n",
        b"##stackward 1 2 3\x1e=boot\x1fb\x1e##end 4\n",
        b"##stackward 1 2 3\x1eboot\x1fb\x1e##end 2\n",
        b"##stackward 1 2 3\x1e~unit\x1fb\x1e##end 2\n",
        b"##stackward 1 2 3\x1e=" + b"n" * 400 + b"\x1e##end 2\n",
        b"##stackward 1 2 3\x1e=b" + b"\x1fx" * 600 + b"\x1e##end 2\n",
    ],
)
def test_after_the_first_block_anything_else_is_garbled(line):
    reader = BlockReader()
    reader.feed(FIRST)
    with pytest.raises(LoopGarbled):
        reader.feed(line)


def test_a_block_that_never_ends_is_garbled_before_it_is_large():
    reader = BlockReader(BlockLimits(block_bytes_max=10_000))
    reader.feed(FIRST + b"##stackward 1 2 3")
    reader.feed(b"x" * 9_000)
    with pytest.raises(LoopGarbled):
        reader.feed(b"x" * 1_000)


def test_a_loop_whose_time_runs_backwards_gives_no_negative_age():
    reader = BlockReader()
    (block,) = reader.feed(
        block_line(1, SECOND, {}, {"unit": (9 * SECOND, ["x"])}, {"disk": 9 * SECOND})
    )
    assert block.ages == {"unit": timedelta(0)}
    assert block.pending == {"disk": timedelta(0)}


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, len(FIRST + SECOND_BLOCK + THIRD))))
def test_any_cut_of_the_bytes_gives_the_same_blocks(cuts):
    data = b"motd\n" + FIRST + SECOND_BLOCK + THIRD
    reader = BlockReader()
    blocks: list[RawBlock] = []
    last = 0
    for cut in [*sorted(cuts), len(data)]:
        blocks += reader.feed(data[last:cut])
        last = cut
    assert tuple(blocks) == BlockReader().feed(data)
    assert [block.tick for block in blocks] == [1, 2, 3]


_PIECES = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [
            FIRST,
            SECOND_BLOCK,
            THIRD,
            b"\n",
            b"\x1e",
            b"\x1f",
            b"##stackward ",
            b"##end 1\n",
            b"~u 1",
        ]
    ),
)


@settings(deadline=None, max_examples=100)
@given(st.lists(_PIECES, max_size=30))
def test_no_bytes_crash_the_reader_or_make_it_grow(pieces):
    limits = BlockLimits(banner_bytes_max=500, block_bytes_max=500)
    reader = BlockReader(limits)
    for piece in pieces:
        try:
            blocks = reader.feed(piece)
        except LoopGarbled:
            break
        assert all(block.size_bytes <= limits.block_bytes_max + 1 for block in blocks)
        assert len(reader._buffer) <= limits.block_bytes_max


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(
        st.text("abc:/-.", min_size=1, max_size=20),
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\x1e\x1f"))),
        max_size=5,
    )
)
def test_what_is_written_is_read_back(sections):
    (block,) = BlockReader().feed(block_line(9, SECOND, sections, {}, {}))
    assert block.sections == {name: tuple(lines) for name, lines in sections.items()}


def test_every_setting_gets_into_the_script_and_nothing_is_left_open():
    script = fact_loop_script(FactLoopSettings(dead_man=timedelta(seconds=77.5))).decode("ascii")
    assert "read -r -t 77.5 tick" in script
    assert "slow_every=3000" in script
    assert not re.search(r"@[a-z_]+@", script)
    assert script.splitlines()[-1] == "stackward_facts"


def test_the_loop_reads_no_startup_file_and_a_tick_is_a_line():
    assert fact_loop_command() == "exec bash --norc --noprofile"
    assert tick_line(42) == b"42\n"
