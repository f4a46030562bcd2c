"""The metrics page, held against Prometheus' own parsers."""

from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from tests.builders import NOW, a_fleet, a_policy, a_state, a_target, probes_with

from stackward.core.snapshot import Snapshot, Totals
from stackward.model.correlation import ManagementLog
from stackward.model.diagnosis import Diagnosis, DiagnosisCode, Subject
from stackward.model.health import Health, HealthState, Overall
from stackward.model.log_flow import DropReason, LogFlow, LogHabit
from stackward.model.plan import Plan
from stackward.model.sighting import EventClass
from stackward.model.verdict import ProbeName, Sign, Unknown
from stackward.telemetry.fleet_metrics import FLEET
from stackward.telemetry.metrics import MetricsPage
from stackward.telemetry.samples import Kind
from stackward.telemetry.vm_metrics import PER_VM


def a_snapshot(*states, **changes):
    healthy = Health(HealthState.HEALTHY, Overall.PASSED)
    snapshot = Snapshot(
        taken_at=NOW,
        started_at=NOW - timedelta(hours=1),
        round_number=7,
        fleet=a_fleet(*states),
        policy=a_policy(),
        health={state.target.id: healthy for state in states},
        diagnoses={},
        fleet_diagnoses=(),
        plan=Plan(made_at=NOW),
        totals=Totals(polls={"ssh": 3}, outcomes={("restart-agent", "succeeded"): 2}),
        is_ready=True,
    )
    return replace(snapshot, **changes)


def samples(page, name, **wanted):
    return [
        sample
        for family in parse_text(page.decode())
        for sample in family.samples
        if sample.name == name and wanted.items() <= sample.labels.items()
    ]


@pytest.fixture
def page():
    return MetricsPage(python="3.11")


def test_both_formats_are_read_by_prometheus_own_parsers(page):
    snapshot = a_snapshot(a_state("v-2-VM"), a_state("s-1-VM", Sign.DISK_FULL))
    text = page.render(snapshot, openmetrics=False).decode()
    openmetrics = page.render(snapshot, openmetrics=True).decode()
    assert "stackward_system_vm_verdict" in {family.name for family in parse_text(text)}
    assert openmetrics.endswith("# EOF\n")
    assert "stackward_polls" in {family.name for family in parse_openmetrics(openmetrics)}


def test_only_the_families_asked_for_are_told(page):
    snapshot = a_snapshot(a_state("v-2-VM"))
    names = frozenset({"stackward_log_lines_total", "stackward_rounds_total", "nothing"})
    text = page.render(snapshot, openmetrics=False, names=names).decode()
    assert {family.name for family in parse_text(text)} == {
        "stackward_log_lines",
        "stackward_rounds",
    }
    openmetrics = page.render(snapshot, openmetrics=True, names=names).decode()
    assert len(list(parse_openmetrics(openmetrics))) == 2
    assert page.render(None, openmetrics=True, names=names) == b"# EOF\n"


def test_a_page_before_the_first_round_is_a_page(page):
    assert b"stackward_build_info" in page.render(None, openmetrics=False)


def test_exactly_one_state_of_a_state_set_is_one(page):
    text = page.render(a_snapshot(a_state("v-2-VM")), openmetrics=False)
    values = [sample.value for sample in samples(text, "stackward_system_vm_verdict")]
    assert sorted(values) == [0, 0, 1]


def test_an_unknown_probe_has_no_success_series(page):
    state = a_state("v-2-VM")
    memory = state.probes[ProbeName.DISK]._replace(verdict=Unknown("not asked"))
    state = state._replace(probes={**state.probes, ProbeName.DISK: memory})
    text = page.render(a_snapshot(state), openmetrics=False)
    assert samples(text, "stackward_probe_success", probe="disk") == []
    assert samples(text, "stackward_probe_success", probe="memory")[0].value == 1


def test_a_failed_probe_is_zero(page):
    text = page.render(a_snapshot(a_state("s-1-VM", Sign.DISK_FULL)), openmetrics=False)
    assert samples(text, "stackward_probe_success", probe="disk")[0].value == 0


def test_an_answer_that_has_grown_stale_has_no_success_series_although_nothing_was_told(page):
    state = a_state("v-2-VM", probes=probes_with())
    fresh = page.render(a_snapshot(state), openmetrics=False)
    assert samples(fresh, "stackward_probe_success", probe="cloud-agent")
    minute, hour = timedelta(minutes=2), timedelta(hours=1)
    later = page.render(a_snapshot(state, taken_at=NOW + minute), openmetrics=False)
    assert samples(later, "stackward_probe_success", probe="cloud-agent") == []
    assert samples(later, "stackward_probe_success", probe="disk")  # on the slow clock
    late = page.render(a_snapshot(state, taken_at=NOW + hour), openmetrics=False)
    assert samples(late, "stackward_probe_success") == []
    name = "stackward_probe_last_observation_timestamp_seconds"
    assert samples(late, name, probe="cloud-agent")
    again = page.render(a_snapshot(state), openmetrics=False)  # a clock that went back
    assert samples(again, "stackward_probe_success", probe="cloud-agent")


def test_the_series_of_a_destroyed_vm_vanish_at_once(page):
    both = a_snapshot(a_state("v-2-VM"), a_state("s-1-VM"))
    assert samples(page.render(both, openmetrics=False), "stackward_log_followed", vm="s-1-VM")
    one = a_snapshot(a_state("v-2-VM"))
    assert not samples(page.render(one, openmetrics=False), "stackward_log_followed", vm="s-1-VM")


def test_lines_kept_from_an_older_snapshot_follow_a_change(page):
    state = a_state("v-2-VM")
    page.render(a_snapshot(state), openmetrics=False)
    log = replace(state.log, counts={EventClass.TLS_FAILURE: 5})
    text = page.render(a_snapshot(state._replace(log=log)), openmetrics=False)
    assert samples(text, "stackward_log_events_total", event="tls_failure")[0].value == 5


def test_every_reason_for_a_drop_is_there_from_the_beginning(page):
    state = a_state("v-2-VM")
    flow = LogFlow(lines=7, bytes=900, unparsed=2, dropped={DropReason.LINE_CUT: 3})
    state = state._replace(log=replace(state.log, flow=flow))
    text = page.render(a_snapshot(state), openmetrics=False)
    dropped = samples(text, "stackward_log_dropped_total")
    assert {one.labels["reason"]: one.value for one in dropped} == {
        "told-as-count": 0,
        "line-cut": 3,
        "unreadable": 0,
    }
    values = {
        name: samples(text, f"stackward_log_{name}_total")[0].value
        for name in ("lines", "read_bytes", "unparsed_lines")
    }
    assert values == {"lines": 7, "read_bytes": 900, "unparsed_lines": 2}


def test_a_log_read_to_its_end_has_no_lag_and_one_that_is_behind_has_a_growing_one(page):
    state = a_state("v-2-VM")
    text = page.render(a_snapshot(state), openmetrics=False)
    assert samples(text, "stackward_log_lag_bytes")[0].value == 0
    assert samples(text, "stackward_log_lag_seconds")[0].value == 0
    flow = LogFlow(behind_bytes=5000, newest_logged_at=NOW - timedelta(seconds=40))
    behind = state._replace(log=replace(state.log, flow=flow))
    for later in (0, 3):
        at = NOW + timedelta(seconds=later)
        text = page.render(a_snapshot(behind, taken_at=at), openmetrics=False)
        assert samples(text, "stackward_log_lag_bytes")[0].value == 5000
        assert samples(text, "stackward_log_lag_seconds")[0].value == 40 + later
    lost = behind._replace(log=replace(behind.log, position=None))
    text = page.render(a_snapshot(lost), openmetrics=False)
    assert samples(text, "stackward_log_lag_bytes") == []
    assert samples(text, "stackward_log_lag_seconds") == []


def test_a_log_falls_silent_although_nothing_was_told(page):
    spoke_at = NOW - timedelta(minutes=10, seconds=-3)
    habit = LogHabit(pauses=(20, *([0] * 13)), spoke_at=spoke_at)
    state = a_state("v-2-VM")
    state = state._replace(log=replace(state.log, habit=habit))
    for seconds, told in ((0, 0), (6, 1)):
        at = NOW + timedelta(seconds=seconds)
        text = page.render(a_snapshot(state, taken_at=at), openmetrics=False)
        assert samples(text, "stackward_log_silent")[0].value == told
    assert (
        samples(
            page.render(a_snapshot(state), openmetrics=False), "stackward_log_usual_pause_seconds"
        )[0].value
        == 16
    )
    without_habit = page.render(a_snapshot(a_state("v-2-VM")), openmetrics=False)
    assert samples(without_habit, "stackward_log_silent") == []


def test_a_management_servers_log_is_told_by_its_name(page):
    followed = ManagementLog(name="ms1", is_followed=True, clock_offset=timedelta(0))
    lost = ManagementLog(name="ms2", is_followed=False)
    flow = LogFlow(
        lines=12,
        bytes=3400,
        dropped={DropReason.TOLD_AS_COUNT: 4},
        behind_bytes=77,
        newest_logged_at=NOW - timedelta(seconds=9),
        last_line_at=NOW,
    )
    snapshot = a_snapshot(
        fleet=replace(a_fleet(), management_logs={"ms1": followed, "ms2": lost}),
        totals=Totals(
            management_flows={"ms1": flow}, management_events={("ms1", "mgmt_timeout"): 5}
        ),
    )
    text = page.render(snapshot, openmetrics=False)
    told = {
        name: [
            (one.labels["log"], one.value)
            for one in samples(text, f"stackward_management_log_{name}")
        ]
        for name in (
            "followed",
            "clock_offset_seconds",
            "lines_total",
            "read_bytes_total",
            "unparsed_lines_total",
            "lag_bytes",
            "lag_seconds",
            "events_total",
            "last_line_timestamp_seconds",
        )
    }
    assert told == {
        "followed": [("ms1", 1), ("ms2", 0)],
        "clock_offset_seconds": [("ms1", 0)],
        "lines_total": [("ms1", 12)],
        "read_bytes_total": [("ms1", 3400)],
        "unparsed_lines_total": [("ms1", 0)],
        "lag_bytes": [("ms1", 77)],
        "lag_seconds": [("ms1", 9)],
        "events_total": [("ms1", 5)],
        "last_line_timestamp_seconds": [("ms1", NOW.timestamp())],
    }
    dropped = samples(text, "stackward_management_log_dropped_total", reason="told-as-count")
    assert [one.value for one in dropped] == [4]


def test_hostile_names_are_escaped(page):
    target = a_target("v-2-VM", zone_name='a"b\\c\nd', host_name="h{}")
    text = page.render(a_snapshot(a_state("v-2-VM", target=target)), openmetrics=False)
    found = samples(text, "stackward_system_vm_info")[0].labels
    assert (found["zone"], found["host"]) == ('a"b\\c\nd', "h{}")


def test_a_diagnosis_names_the_wider_cause_that_explains_it(page):
    state = a_state("v-2-VM")
    diagnosis = Diagnosis(
        code=DiagnosisCode.VM_UNREACHABLE,
        subject=Subject(target_id=state.target.id),
        since=NOW,
        sentence="x",
        suppressed_by=DiagnosisCode.JUMP_UNREACHABLE,
    )
    text = page.render(
        a_snapshot(state, diagnoses={state.target.id: (diagnosis,)}), openmetrics=False
    )
    found = samples(text, "stackward_system_vm_diagnosis")[0].labels
    assert found["suppressed_by"] == "JumpUnreachable"


@pytest.mark.parametrize("family", [*PER_VM, *FLEET], ids=lambda family: family.name)
def test_names_keep_the_conventions(family):
    assert family.name.startswith("stackward_")
    assert family.name.endswith("_total") == (family.kind is Kind.COUNTER)
    assert family.help.endswith(".")


def test_most_families_stay_below_ten_series_per_vm(page):
    text = page.render(a_snapshot(a_state("v-2-VM")), openmetrics=False)
    own = [line for line in text.decode().splitlines() if 'vm="v-2-VM"' in line]
    assert len(own) < 120
