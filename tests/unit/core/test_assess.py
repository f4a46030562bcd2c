"""Health: rise and fall, staleness, and witnesses who differ."""

from typing import Any

import pytest

from stackward.core.assess import assess
from stackward.core.state import ProbeMemory, TargetState
from stackward.errors import Leg
from stackward.model.diagnosis import DiagnosisCode
from stackward.model.health import Health, HealthState, Overall
from stackward.model.target import CloudState
from stackward.model.verdict import Passed, ProbeName, Sign, Source
from tests.builders import (
    DEAD_AGENT,
    INSIDE_PROBES,
    NOW,
    a_broken_path,
    a_memory,
    a_policy,
    a_state,
    a_target,
    an_episode,
    minutes,
    probes_with,
    seconds,
)


def _health(state: TargetState) -> Health:
    return assess(state, a_policy(), NOW)


def _is(health: Health) -> tuple[HealthState, Overall]:
    return health.state, health.verdict


HEALTHY = (HealthState.HEALTHY, Overall.PASSED)
UNHEALTHY = (HealthState.UNHEALTHY, Overall.FAILED)
UNKNOWN = (HealthState.UNKNOWN, Overall.UNKNOWN)
RECOVERING = (HealthState.RECOVERING, Overall.UNKNOWN)
SUSPECT = (HealthState.SUSPECT, Overall.PASSED)


def test_a_machine_that_answers_well_is_healthy():
    assert _is(_health(a_state())) == HEALTHY


def test_a_machine_never_asked_is_unknown():
    assert _is(_health(a_state(probes={}))) == UNKNOWN


@pytest.mark.parametrize(("times", "expected"), [(1, SUSPECT), (2, SUSPECT), (3, UNHEALTHY)])
def test_a_bad_answer_counts_from_the_third_on(times: int, expected: tuple[HealthState, Overall]):
    state = a_state(probes=probes_with(Sign.LINK_DOWN, times=times))
    assert _is(_health(state)) == expected


@pytest.mark.parametrize(
    ("age", "expected"), [(60, UNHEALTHY), (61, UNKNOWN), (-5, UNHEALTHY), (-6, UNKNOWN)]
)
def test_old_answers_and_answers_from_the_future_say_nothing(
    age: int, expected: tuple[HealthState, Overall]
):
    state = a_state(probes=probes_with(*DEAD_AGENT, age=seconds(age)))
    assert _is(_health(state)) == expected


def test_slow_probes_stay_fresh_for_longer():
    slow = a_memory(ProbeName.DISK, age=minutes(5))
    state = a_state(probes={**probes_with(), ProbeName.DISK: slow})
    assert not any("stale" in reason for reason in _health(state).reasons)
    older = a_memory(ProbeName.DISK, age=minutes(5) + seconds(1))
    state = a_state(probes={**probes_with(), ProbeName.DISK: older})
    assert _health(state).reasons == ("stale: disk",)


def test_a_cut_way_leaves_the_word_of_cloudstack():
    probes = probes_with(unknown=INSIDE_PROBES)
    well = _health(a_state(probes=probes, path=a_broken_path()))
    assert _is(well) == HEALTHY
    assert any("no connection to the VM" in reason for reason in well.reasons)
    sick = probes_with(Sign.AGENT_NOT_UP, unknown=INSIDE_PROBES)
    assert _is(_health(a_state(probes=sick, path=a_broken_path()))) == UNHEALTHY


def test_the_inside_alone_can_say_that_all_is_well():
    inside = {p: memory for p, memory in probes_with().items() if memory.source is Source.SSH}
    assert _is(_health(a_state(probes=inside))) == HEALTHY


def test_witnesses_who_differ_are_named():
    health = _health(a_state("v-2-VM", Sign.UNIT_FAILED))
    assert _is(health) == UNHEALTHY
    assert health.reasons[0] == "ssh: seen unit-failed"
    assert "but api: fine" in health.reasons


@pytest.mark.parametrize("sign", [Sign.MEMORY_LOW, Sign.CLOCK_SKEWED])
def test_advice_is_shown_and_makes_nobody_sick(sign: Sign):
    health = _health(a_state("v-2-VM", sign))
    assert _is(health) == HEALTHY
    assert health.reasons == (f"ssh: seen {sign}",)


@pytest.mark.parametrize(("age", "is_sick"), [(9, False), (10, True)])
def test_an_absent_agent_is_no_fault_in_a_young_vm(age: int, is_sick: bool):
    young = a_target(created_at=NOW - minutes(age))
    state = a_state("v-2-VM", Sign.AGENT_ABSENT, target=young)
    assert (_health(state).state is HealthState.UNHEALTHY) is is_sick


@pytest.mark.parametrize(("up", "is_sick"), [(4, False), (5, True)])
def test_a_vm_that_has_just_booted_is_given_time(up: int, is_sick: bool):
    state = a_state("v-2-VM", *DEAD_AGENT, booted_at=NOW - minutes(up))
    assert (_health(state).state is HealthState.UNHEALTHY) is is_sick
    # In an episode nothing is excused: it stays in the plan, and the guards wait.
    in_episode = state._replace(episode=an_episode())
    assert _health(in_episode).state is HealthState.UNHEALTHY


@pytest.mark.parametrize(("since", "is_sick"), [(299, False), (300, True)])
def test_a_vm_that_does_not_run_is_cloudstacks_work_at_first(since: int, is_sick: bool):
    state = a_state(
        "v-2-VM",
        Sign.VM_NOT_RUNNING,
        target=a_target(cloud_state=CloudState.STARTING),
        state_since=NOW - seconds(since),
    )
    assert (_health(state).state is HealthState.UNHEALTHY) is is_sick


def _after_episode(code: DiagnosisCode = DiagnosisCode.AGENT_DOWN, **changes: Any) -> Health:
    return _health(a_state(episode=an_episode(code), **changes))


def test_one_good_answer_after_an_episode_is_only_recovering():
    once = {p: memory._replace(passed_in_a_row=1) for p, memory in probes_with().items()}
    assert _is(_after_episode(probes=once)) == RECOVERING
    twice = {p: memory._replace(passed_in_a_row=2) for p, memory in probes_with().items()}
    assert _is(_after_episode(probes=twice)) == HEALTHY


def test_an_episode_found_inside_is_not_over_while_the_inside_is_silent():
    silent = probes_with(unknown=INSIDE_PROBES)
    cut: dict[str, Any] = {"probes": silent, "path": a_broken_path(Leg.CHANNEL)}
    assert _is(_after_episode(**cut)) == RECOVERING
    assert _is(_after_episode(DiagnosisCode.DISK_FULL, **cut)) == RECOVERING
    # What only CloudStack had said, CloudStack may take back.
    assert _is(_after_episode(DiagnosisCode.AGENT_NEVER_CONNECTED, **cut)) == HEALTHY
    assert _is(_after_episode(DiagnosisCode.VM_NOT_RUNNING, **cut)) == HEALTHY


def test_a_probe_silent_since_it_failed_keeps_an_episode_open():
    state = a_state("v-2-VM", Sign.MOUNT_HUNG, episode=an_episode())
    hung = state.probes[ProbeName.STORAGE]
    silent = state.probes[ProbeName.STORAGE]._replace(observed_at=NOW - minutes(20))
    assert hung.last_known is not None
    probes = {**state.probes, ProbeName.STORAGE: silent}
    assert _is(_health(state._replace(probes=probes))) == RECOVERING


def test_a_probe_that_is_switched_off_says_nothing():
    policy = a_policy(disabled_probes=frozenset({ProbeName.STORAGE}))
    health = assess(a_state("s-1-VM", Sign.MOUNT_HUNG), policy, NOW)
    assert _is(health) == HEALTHY


def test_a_suspect_in_an_episode_is_not_called_well():
    state = a_state(
        probes={**probes_with(), **_once_bad()},
        episode=an_episode(),
    )
    assert _is(_health(state)) == (HealthState.SUSPECT, Overall.UNKNOWN)


def _once_bad() -> dict[ProbeName, ProbeMemory]:
    return {ProbeName.AGENT_UNIT: probes_with(Sign.UNIT_FAILED, times=1)[ProbeName.AGENT_UNIT]}


def test_a_good_word_is_quoted_with_its_evidence():
    probes = {
        **probes_with(Sign.UNIT_FAILED),
        ProbeName.CLOUD_AGENT: a_memory(ProbeName.CLOUD_AGENT, Passed("")),
    }
    assert "but api: well" in _health(a_state(probes=probes)).reasons
