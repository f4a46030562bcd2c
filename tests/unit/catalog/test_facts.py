"""The reading of sections: what is odd costs its own section and no other."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackward.catalog.fact_sections import FactReader, read_facts
from stackward.catalog.facts import LinkFacts, TouchResult, Unreadable, marks, readings
from stackward.catalog.guest_reader import observe_block
from stackward.model.guest import GuestMarks
from stackward.model.identity import VmRole
from tests.builders import a_target, ages_of
from tests.unit.catalog.blocks import (
    BOOT_ID,
    INVOCATION,
    SECTIONS,
    STORE,
    THRESHOLDS,
    a_block,
    unit,
    with_connects,
)


def test_the_marks_of_a_life_are_boot_invocation_and_process():
    assert marks(read_facts(a_block())) == GuestMarks(
        boot_id=BOOT_ID, invocation_id=INVOCATION, agent_pid=734
    )


def test_marks_that_were_not_told_are_none():
    block = a_block(without=("unit", "boot"), jvm=("none",))
    assert marks(read_facts(block)) == GuestMarks()


def test_the_numbers_are_read():
    told = readings(read_facts(a_block()))
    assert told.release == "Cloudstack Release 4.20.1.0 Mon 23 Jun 2025 06:50:01 AM UTC"
    assert told.uptime_seconds == 86400.25
    assert told.load_1m == 0.12
    assert told.memory_total_bytes == 1014036 * 1024
    assert told.memory_available_bytes == 498120 * 1024
    assert told.disk_used_ratio == pytest.approx(262144 / (262144 + 360448))
    assert told.inodes_used_ratio == pytest.approx(0.2)
    assert told.clock_offset_seconds == pytest.approx(0, abs=0.001)
    assert told.agent_restarts == 0
    assert told.open_files_ratio == pytest.approx(210 / 4096)


def test_a_reader_that_remembers_reads_every_block_as_if_it_were_the_first():
    reader = FactReader()
    good, later = a_block(), a_block(uptime=("86410.25 1.0",), jvm=("none",), conf=("odd",))
    for block in (good, good._replace(ages=ages_of({"unit": timedelta(seconds=9)})), later, good):
        assert reader.read(block) == read_facts(block)
        odd = block._replace(sections=dict.fromkeys(SECTIONS, ("?",)))
        assert reader.read(odd) == read_facts(odd)
        assert reader.read(block._replace(sections={})) == read_facts(block._replace(sections={}))


def test_numbers_that_were_not_told_are_none():
    told = readings(read_facts(a_block()._replace(sections={})))
    assert told == type(told)()


def test_the_clock_is_compared_with_the_middle_of_the_round_trip():
    block = a_block()
    late = block._replace(received_at=block.received_at + timedelta(seconds=4))
    offset = read_facts(late).clock_offset
    assert isinstance(offset, timedelta)
    assert offset.total_seconds() == pytest.approx(-2, abs=0.001)


def test_a_section_still_being_asked_says_for_how_long():
    block = a_block(without=("unit",), pending={"unit": timedelta(seconds=7)})
    assert read_facts(block).unit == Unreadable("'unit' was asked 7 s ago and has not answered")


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("0C0200C0:203A 7", "192.0.2.12:8250"),
        ("0000000000000000FFFF00000C0200C0:203A 7", "192.0.2.12:8250"),
        ("B80D0120000000000000000001000000:203A 7", "[2001:db8::1]:8250"),
    ],
)
def test_the_peer_of_the_link_is_read_from_the_kernels_table(text, peer):
    assert read_facts(a_block(link=("established", text))).link == LinkFacts(peer)


def test_hosts_lose_the_algorithm_and_the_escapes_of_a_properties_file():
    block = a_block(conf=(r"properties host=ms1.example.org,2001\:db8\:\:1@roundrobin",))
    addresses = read_facts(block).addresses
    assert not isinstance(addresses, Unreadable)
    assert addresses.properties_hosts == ("ms1.example.org", "2001:db8::1")
    assert addresses.cmdline_hosts == ()
    assert addresses.port == 8250


def test_a_unit_that_has_been_active_says_for_how_long():
    block = a_block(unit=unit(ActiveEnterTimestampMonotonic="86380000000"))
    told = read_facts(block).unit
    assert not isinstance(told, Unreadable)
    assert told.active_for == timedelta(seconds=8.25)


@pytest.mark.parametrize(
    ("line", "result"),
    [
        (f"262144 131072 131072 1048576 0 0 {STORE}", TouchResult.ANSWERED),
        ("!killed 20", TouchResult.KILLED),
        (
            f"stat: cannot read file system information for '{STORE}': Stale file handle",
            TouchResult.REFUSED,
        ),
    ],
)
def test_a_toucher_answers_is_killed_or_is_refused(line, result):
    assert read_facts(a_block(mount=(line,))).touches[STORE].result is result


@pytest.mark.parametrize(
    ("line", "how"),
    [
        ("open", "open"),
        ("!killed 3", "timed out"),
        ("bash: connect: Connection refused", "refused"),
        ("bash: connect: No route to host", "no route"),
        ("main: ms1: Name or service not known", "name not known"),
        ("bash: connect: Permission denied", "Permission denied"),
    ],
)
def test_an_own_connect_says_how_it_went(line, how):
    (connect,) = read_facts(with_connects(a_block(), a=line)).connects
    assert (connect.address, connect.how) == ("192.0.2.12:8250", how)
    assert connect.is_open is (how == "open")


@pytest.mark.parametrize("name", sorted(SECTIONS))
@pytest.mark.parametrize(
    "odd", ["", "!cut", "???", "none x", "-1 -1 -1", "=", "nan", "9" * 5000, "established"]
)
def test_an_odd_section_costs_no_other_section(name, odd):
    good = read_facts(a_block())
    facts = read_facts(a_block()._replace(sections={**SECTIONS, name: (odd,)}))
    tied = {
        "boot": {"boot_id"},
        "uptime": {"uptime_seconds", "unit"},
        "load": {"load_1m"},
        "clock": {"clock_offset", "clock_uncertainty"},
        "conf": {"addresses", "release"},
        "disk": {"disks"},
        "files": {"open_files_ratio"},
    }.get(name, {"touches"} if name.startswith("mount:") else {name})
    for field in good.__slots__:
        if field not in tied:
            assert getattr(facts, field) == getattr(good, field), field


_LINES = st.lists(st.text(max_size=40) | st.sampled_from(["none", "established", "open"])).map(
    tuple
)


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.sampled_from([*SECTIONS, "connect:a:1", "connect:", "mount:"]), _LINES))
def test_no_section_crashes_the_reading(sections):
    block = a_block()._replace(sections={**SECTIONS, **sections})
    observe_block(block, a_target(role=VmRole.SECONDARY_STORAGE), THRESHOLDS)
