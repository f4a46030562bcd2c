"""A VM can say what it likes: no number of its own may be too large for what is made of it."""

from datetime import timedelta

import pytest

from stackward.catalog.fact_sections import read_facts
from stackward.catalog.facts import Unreadable, readings
from stackward.catalog.guest_reader import observe_block
from stackward.core.reduce import reduce
from stackward.model.event import Observed
from stackward.model.verdict import Source
from stackward.telemetry.metrics import MetricsPage
from tests.builders import NOW, a_state
from tests.unit.catalog.blocks import THRESHOLDS, a_block
from tests.unit.telemetry.test_metrics import a_snapshot

HUGE = "9" * 400


@pytest.mark.parametrize("told", ["1e300", "99999999999", "1e12", "-1", "nan", "inf", HUGE, "-"])
def test_an_impossible_uptime_is_not_told(told: str):
    facts = read_facts(a_block(uptime=(f"{told} 1.0",)))
    assert facts.uptime_seconds is None


@pytest.mark.parametrize(
    ("section", "lines"),
    [
        ("memory", (f"MemTotal: {HUGE} kB", f"MemAvailable: {HUGE} kB")),
        ("memory", ("MemTotal: 1000 kB", f"MemAvailable: {HUGE} kB")),
        ("memory", ("MemTotal: 1000 kB", "MemAvailable: -5 kB")),
        ("jvm", (HUGE,)),
        ("jvm", ("-7",)),
        ("files", (f"{HUGE} 1",)),
        ("files", ("1 0",)),
        ("uptime", (f"{HUGE} 1",)),
        ("clock", (HUGE,)),
    ],
)
def test_no_answer_of_a_vm_breaks_the_memory_or_the_metrics_page(section, lines):
    state = a_state()
    block = a_block(**{section: lines})
    observations, marks, numbers = observe_block(block, state.target, THRESHOLDS)
    told = Observed(
        target_id=state.target.id,
        source=Source.SSH,
        observations=observations,
        observed_at=NOW,
        marks=marks,
        readings=numbers,
        round_trip=timedelta(seconds=1),
    )
    page = MetricsPage(python="3.11").render(a_snapshot(reduce(state, told)), openmetrics=True)
    assert HUGE.encode() not in page


def test_a_process_number_that_is_none_is_unreadable():
    assert isinstance(read_facts(a_block(jvm=(HUGE,))).jvm, Unreadable)
    assert readings(read_facts(a_block(files=("5 unlimited",)))).open_files_ratio is None
