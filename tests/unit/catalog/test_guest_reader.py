"""A reader that remembers the blocks before gives the answers of one that does not."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from random import Random

from stackward.catalog.fact_sections import FactReader
from stackward.catalog.guest_reader import GuestReader, observe_block
from stackward.model.guest import FactBlock
from stackward.model.identity import VmRole
from stackward.model.verdict import Passed
from tests.builders import a_target
from tests.unit.catalog.blocks import (
    AGES,
    MOUNT,
    SECTIONS,
    STALE,
    THRESHOLDS,
    a_block,
    unit,
    with_connects,
)

STRICTER = replace(THRESHOLDS, disk_used_ratio_max=0.1)

# Each section as it mostly is, and in a few other ways; () leaves it out.
FORMS = {name: (lines, lines, lines, lines, (), ("?",)) for name, lines in SECTIONS.items()} | {
    "uptime": (("86400.25",), ("86415.5",), ("45.0",), ("?",), ()),
    "load": (("0.12 0.08 0.01 1/120 4321",), ("9.0 0 0 1/1 1",), ("nan",)),
    "memory": (SECTIONS["memory"], ("MemTotal: 1000 kB", "MemAvailable: 9 kB"), ("odd",)),
    "clock": (SECTIONS["clock"], ("1772366400",), ("1e400",)),
    "unit": (unit(), unit(), unit(NRestarts="1"), unit(NRestarts="4"), unit(ActiveState="failed")),
    "jvm": (("734",), ("734",), ("none",), ("unknown",)),
    "link": (SECTIONS["link"], SECTIONS["link"], ("none",), ("unsure",)),
}
# One life of a VM repeats one block again and again, or nothing would ever be steady.
BASES = (SECTIONS, {**SECTIONS, "unit": unit(NRestarts="4")}, {**SECTIONS, "link": ("none",)})


def a_life(dice: Random) -> Iterator[FactBlock]:
    base, has_connects = dice.choice(BASES), dice.random() < 0.5
    for _ in range(8):
        told = {name: dice.choice(forms) for name, forms in FORMS.items()}
        if dice.random() < 0.85:
            told = {**base, "uptime": told["uptime"]}
        ages = {
            name: dice.choice([timedelta(0), age, 2 * age, STALE]) for name, age in AGES.items()
        }
        pending = {MOUNT: timedelta(seconds=30)} if dice.random() < 0.1 else {}
        block = a_block(ages=ages if dice.random() < 0.2 else AGES, pending=pending)._replace(
            sections={name: lines for name, lines in told.items() if lines},
        )
        for name in ("a", "b") if has_connects else ():
            block = with_connects(block, timedelta(seconds=dice.randint(1, 9)), **{name: "open"})
        yield block


def test_every_block_is_read_as_if_it_were_the_first():
    for seed in range(600):
        dice = Random(seed)
        role = dice.choice([VmRole.SECONDARY_STORAGE, VmRole.CONSOLE_PROXY])
        reader, target = GuestReader(), a_target(role=role)
        for block in a_life(dice):
            limits = STRICTER if dice.random() < 0.1 else THRESHOLDS
            told, anew = (one(block, target, limits) for one in (reader.observe, observe_block))
            assert told == anew, f"seed {seed}"


def test_what_repeats_is_not_read_again_and_what_does_not_is(monkeypatch):
    read_in_full = []
    read = FactReader.read

    def watched(self, block):
        read_in_full.append(block.tick)
        return read(self, block)

    monkeypatch.setattr(FactReader, "read", watched)
    reader, target = GuestReader(), a_target(role=VmRole.SECONDARY_STORAGE)
    later = {"uptime": ("86411.0",), "load": ("3.0 2 1 1/1 9",)}
    for tick, block in enumerate(
        (a_block(), a_block(**later), a_block(jvm=("735",)), a_block(jvm=("735",)), a_block()), 1
    ):
        observations, _, _ = reader.observe(block._replace(tick=tick), target, THRESHOLDS)
        assert {type(one.verdict) for one in observations} == {Passed}
    assert read_in_full == [1, 3, 5]


def test_an_answer_given_again_bears_its_own_date():
    reader, target = GuestReader(), a_target(role=VmRole.SECONDARY_STORAGE)
    reader.observe(a_block(), target, THRESHOLDS)
    older = a_block(ages={"unit": timedelta(seconds=27), "disk": timedelta(seconds=3)})
    observations, _, _ = reader.observe(older, target, THRESHOLDS)
    age = {one.probe.value: older.received_at - one.observed_at for one in observations}
    assert (age["agent-unit"], age["disk"]) == (timedelta(seconds=27), timedelta(seconds=3))
    assert (age["agent-process"], age["memory"]) == (timedelta(0), timedelta(0))
