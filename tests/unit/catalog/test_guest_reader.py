"""A reader that remembers the blocks before gives the answers of one that does not."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from random import Random

from stackward.catalog.fact_loop import BlockReader, block_line
from stackward.catalog.fact_sections import FactReader
from stackward.catalog.guest_reader import GuestReader, Told, observe_block
from stackward.core.reduce import reduce
from stackward.model.event import Observed
from stackward.model.guest import Ages, FactBlock
from stackward.model.identity import VmRole
from stackward.model.verdict import Observation, Passed, ProbeName, Source
from tests.builders import NOW, a_state, a_target, ages_of
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
        last: Answers = {}
        for block in a_life(dice):
            limits = STRICTER if dice.random() < 0.1 else THRESHOLDS
            told, anew = (one(block, target, limits) for one in (reader.observe, observe_block))
            assert told[1:] == anew[1:], f"seed {seed}"
            last |= by_probe(told)
            assert last == by_probe(anew), f"seed {seed}"


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


def test_slow_answers_are_told_when_they_were_heard_and_now_and_then():
    reader, target = GuestReader(), a_target(role=VmRole.SECONDARY_STORAGE)
    told, fives = [], timedelta(seconds=5)
    asked = dict.fromkeys(AGES, timedelta(0))
    for number in range(8):
        seconds = number * fives
        first = a_block()
        block = first._replace(
            received_at=first.received_at + seconds,
            asked_at=first.asked_at + seconds,
            ages=Ages({**asked, "disk": 3 * fives} if number >= 3 else asked, seconds),
        )
        observations, _, _ = reader.observe(block, target, THRESHOLDS)
        told.append({one.probe.value for one in observations})
    slow = {"agent-unit", "disk", "storage"}
    assert [names & slow for names in told] == [
        *(slow, set(), set(), {"disk"}, set(), set()),
        *(slow, set()),  # half a minute after the first
    ]
    assert all({"agent-process", "agent-link", "memory", "clock"} <= names for names in told)


def test_leaving_out_slow_answers_leaves_the_memory_as_it_would_be():
    target = a_target(role=VmRole.SECONDARY_STORAGE)
    for seed in range(100):
        dice, reader = Random(seed), GuestReader()
        thrifty = plain = a_state(target=target, probes={})
        asked = dict.fromkeys(AGES, 0)
        base = a_block()
        for second in range(10, 200, 10):
            heard = tuple(name for name in asked if dice.random() < 0.3)
            asked |= dict.fromkeys(heard, second)
            disk = SECTIONS["disk"] if dice.random() < 0.9 else ("odd",)
            block = base._replace(
                sections={**base.sections, "disk": disk},
                received_at=base.received_at + timedelta(seconds=second),
                asked_at=base.asked_at + timedelta(seconds=second),
                ages=Ages(
                    {name: timedelta(seconds=at) for name, at in asked.items()},
                    timedelta(seconds=second),
                ),
            )
            thrifty = reduce(thrifty, as_event(block, reader.observe(block, target, THRESHOLDS)))
            plain = reduce(plain, as_event(block, observe_block(block, target, THRESHOLDS)))
            assert thrifty == plain, f"seed {seed}"


def a_life_on_the_wire(dice: Random) -> Iterator[FactBlock]:
    """Of the blocks that a loop sends some never get here, and now and then a new loop begins."""
    reader, told = BlockReader(), dict(SECTIONS)
    churn, lost = dice.choice([0.02, 0.1]), dice.choice([0.0, 0.4])
    for tick in range(1, 25):
        up = timedelta(seconds=9000 + 15 * tick)
        is_first = tick == 1 or dice.random() < 0.03
        reader = BlockReader() if is_first else reader
        told |= {"uptime": (f"{up.total_seconds():.2f}",)}
        for name in FORMS.keys() - {"uptime"}:
            if dice.random() < churn:
                told[name] = dice.choice(FORMS[name])
            elif dice.random() < 0.3:
                told[name] = SECTIONS[name]
        slow = {
            name: (up - timedelta(seconds=dice.choice([1, 15, 30])), told[name])
            for name in AGES
            if is_first or dice.random() < 0.5
        }
        fresh = {name: lines for name, lines in told.items() if lines and name not in AGES}
        pending = {MOUNT: up - timedelta(seconds=20)} if dice.random() < 0.03 else {}
        (raw,) = reader.feed(block_line(tick, up, fresh, slow, pending))
        if dice.random() >= lost:
            at = NOW + timedelta(seconds=15 * tick)
            version, sections, ages, running, size, lasting = raw[1:]
            asked_at = at - timedelta(milliseconds=200)
            yield FactBlock(*(tick, version, sections, asked_at, at, ages, running, size, lasting))


def test_blocks_that_never_come_change_no_answer():
    left_out = 0
    for seed in range(150):
        dice = Random(seed)
        role = dice.choice([VmRole.SECONDARY_STORAGE, VmRole.CONSOLE_PROXY])
        reader, target = GuestReader(), a_target(role=role)
        last: Answers = {}
        for block in a_life_on_the_wire(dice):
            told = reader.observe(block, target, THRESHOLDS)
            alone = block._replace(lasting=None, ages=ages_of(dict(block.ages)))
            anew = observe_block(alone, target, THRESHOLDS)
            assert told[1:] == anew[1:], f"seed {seed}"
            last |= by_probe(told)
            assert last == by_probe(anew), f"seed {seed}"
            left_out += len(anew[0]) - len(told[0])
    assert left_out > 100


Answers = dict[ProbeName, Observation]


def by_probe(told: Told) -> Answers:
    """What is left out is as it was told last, date and all."""
    return {one.probe: one for one in told[0]}


def as_event(block: FactBlock, told: Told) -> Observed:
    observations, marks, readings = told
    return Observed(
        target_id=a_target().id,
        source=Source.SSH,
        observations=observations,
        observed_at=block.received_at,
        marks=marks,
        readings=readings,
        round_trip=block.round_trip,
    )
