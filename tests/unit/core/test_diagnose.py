"""Every row of the table: what fires it, and what nearly does."""

from dataclasses import replace

import pytest

from stackward.core.diagnose import diagnose_fleet, diagnose_target, suppress
from stackward.core.diagnoses import (
    ACTIONABLE,
    FLEET_ROWS,
    TARGET_ROWS,
    Response,
    row_of,
    rows_of,
)
from stackward.core.state import PathMemory, TargetState
from stackward.errors import Leg
from stackward.model.diagnosis import Diagnosis, DiagnosisCode
from stackward.model.target import HypervisorHost, SshRoute
from stackward.model.verdict import ProbeName, Sign, Source
from tests.builders import (
    DEAD_AGENT,
    HOST,
    INSIDE_PROBES,
    NOW,
    ZONE,
    a_broken_path,
    a_fleet,
    a_policy,
    a_state,
    a_target,
    an_api,
    minutes,
    probes_with,
    seconds,
)
from tests.judging import judge

C = DiagnosisCode
DEAD = (Sign.UNIT_FAILED, Sign.AGENT_NOT_UP)


def _found(state: TargetState) -> tuple[Diagnosis, ...]:
    return diagnose_target(state, a_policy(), NOW, a_fleet(state))


def _codes(state: TargetState) -> list[DiagnosisCode]:
    return [one.code for one in _found(state)]


def _silent(*signs: Sign, unknown: tuple[ProbeName, ...] = (), **times: object) -> TargetState:
    """A machine with these signs whose link probe has nothing to say: its JVM is dead."""
    asked = probes_with(*signs, unknown=(*unknown, ProbeName.AGENT_LINK), **times)  # type: ignore[arg-type]  # times, age, stood
    return a_state(probes=asked)


def _blind(*signs: Sign, stood: int = 10) -> TargetState:
    asked = probes_with(*signs, unknown=INSIDE_PROBES, stood=minutes(stood))
    return a_state(probes=asked)


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        # A dead agent needs a sign from inside and another one that says the same.
        ((Sign.UNIT_FAILED, Sign.AGENT_NOT_UP), [C.AGENT_DOWN]),
        ((Sign.UNIT_EXITED, Sign.AGENT_ABSENT), [C.AGENT_DOWN]),
        ((Sign.UNIT_RESTARTING, Sign.DATABASE_AGENT_NOT_UP), [C.AGENT_DOWN]),
        ((Sign.JVM_MISSING, Sign.AGENT_NOT_UP), [C.AGENT_DOWN]),
        ((Sign.UNIT_FAILED, Sign.JVM_MISSING), [C.AGENT_DOWN]),
        # One sign from inside, and CloudStack says Up: the two disagree, and have for long.
        ((Sign.UNIT_FAILED,), [C.WITNESSES_DISAGREE]),
        # Stopped by a person: never a dead agent.
        ((Sign.UNIT_STOPPED,), [C.AGENT_STOPPED]),
        ((Sign.UNIT_STOPPED, Sign.AGENT_NOT_UP), [C.AGENT_STOPPED]),
        ((Sign.UNIT_STOPPED, Sign.JVM_MISSING, Sign.AGENT_NOT_UP), [C.AGENT_STOPPED]),
        ((Sign.AGENT_ABSENT,), [C.AGENT_NEVER_CONNECTED]),
        ((Sign.AGENT_NOT_UP,), [C.AGENT_DISCONNECTED]),
        ((Sign.DATABASE_AGENT_NOT_UP,), [C.AGENT_DISCONNECTED]),
        # Causes that a restart would not mend explain the dead agent away.
        ((*DEAD, Sign.DISK_FULL), [C.DISK_FULL]),
        ((*DEAD, Sign.INODES_FULL), [C.DISK_FULL]),
        ((*DEAD, Sign.READ_ONLY), [C.DISK_FULL]),
        ((*DEAD, Sign.MOUNT_HUNG), [C.SECONDARY_STORAGE_HUNG]),
        ((*DEAD, Sign.MANAGEMENT_UNREACHABLE), [C.MANAGEMENT_UNREACHABLE]),
        ((*DEAD, Sign.VM_NOT_RUNNING), [C.VM_NOT_RUNNING]),
        ((Sign.MOUNT_HUNG, Sign.DISK_FULL), [C.DISK_FULL, C.SECONDARY_STORAGE_HUNG]),
        ((Sign.MEMORY_LOW, Sign.CLOCK_SKEWED), []),
        ((), []),
    ],
)
def test_signs_lead_to_causes(signs: tuple[Sign, ...], expected: list[DiagnosisCode]):
    assert _codes(_silent(*signs)) == expected


def test_a_link_down_is_a_disconnected_agent_and_no_dead_one():
    assert _codes(a_state("v-2-VM", Sign.LINK_DOWN)) == [C.AGENT_DISCONNECTED]
    assert _codes(a_state("v-2-VM", Sign.LINK_DOWN, Sign.AGENT_NOT_UP)) == [C.AGENT_DISCONNECTED]


def test_an_agent_with_a_connection_is_never_dead():
    assert _codes(a_state("v-2-VM", *DEAD)) == []


def test_a_dead_agent_needs_the_word_that_the_vm_runs():
    assert _codes(_silent(*DEAD, unknown=(ProbeName.CLOUD_STATE,))) == []


def test_a_sign_not_confirmed_yet_is_no_cause():
    assert _codes(_silent(*DEAD, times=2)) == []


def test_a_contradiction_needs_no_confirmation():
    state = _silent(*DEAD)
    stopped = probes_with(Sign.UNIT_STOPPED, times=1)[ProbeName.AGENT_UNIT]
    missing = probes_with(Sign.JVM_MISSING)[ProbeName.AGENT_PROCESS]
    probes = {**state.probes, ProbeName.AGENT_PROCESS: missing}
    assert _codes(replace(state, probes=probes)) == [C.AGENT_DOWN]
    probes[ProbeName.AGENT_UNIT] = stopped
    assert C.AGENT_DOWN not in _codes(replace(state, probes=probes))


def test_no_connection_to_management_is_only_so_without_a_connection():
    assert _codes(a_state("v-2-VM", Sign.MANAGEMENT_UNREACHABLE)) == []
    down = a_state("v-2-VM", Sign.MANAGEMENT_UNREACHABLE, Sign.LINK_DOWN, Sign.AGENT_NOT_UP)
    assert _codes(down) == [C.MANAGEMENT_UNREACHABLE]


@pytest.mark.parametrize(("stood", "expected"), [(4, []), (5, [C.AGENT_DISCONNECTED])])
def test_a_lost_agent_unseen_from_inside_is_told_after_a_while(
    stood: int, expected: list[DiagnosisCode]
):
    assert _codes(_blind(Sign.AGENT_NOT_UP, stood=stood)) == expected


@pytest.mark.parametrize(("stood", "expected"), [(4, []), (5, [C.WITNESSES_DISAGREE])])
def test_witnesses_may_differ_for_a_while(stood: int, expected: list[DiagnosisCode]):
    for signs in ((Sign.AGENT_NOT_UP,), (Sign.DATABASE_AGENT_NOT_UP,)):
        state = a_state(probes=probes_with(*signs, stood=minutes(stood)))
        assert _codes(state) == expected
    assert _codes(_silent(Sign.UNIT_FAILED, stood=minutes(stood))) == expected


@pytest.mark.parametrize(
    ("leg", "times", "expected"),
    [
        (Leg.INNER_TCP, 2, []),
        (Leg.INNER_TCP, 3, [C.VM_UNREACHABLE]),
        (Leg.JUMP_AUTH, 3, [C.VM_UNREACHABLE]),
        (Leg.CHANNEL, 3, [C.VM_UNREACHABLE]),
        (Leg.INNER_HOST_KEY, 1, [C.HOST_KEY_CHANGED]),
        (Leg.JUMP_HOST_KEY, 1, [C.HOST_KEY_CHANGED]),
        (None, 0, []),
    ],
)
def test_a_broken_way_is_a_cause_of_its_own(
    leg: Leg | None, times: int, expected: list[DiagnosisCode]
):
    path = PathMemory(
        leg=leg, detail="x", since=NOW - minutes(1), told_at=NOW, failed_in_a_row=times
    )
    assert _codes(a_state(path=path)) == expected


def test_no_way_into_a_vm_that_boots_or_does_not_run_is_no_surprise():
    booting = a_state(path=a_broken_path(), booted_at=NOW - minutes(4))
    assert _codes(booting) == []
    stopped = a_state("v-2-VM", Sign.VM_NOT_RUNNING, path=a_broken_path(), state_since=NOW)
    assert _codes(stopped) == []


def test_since_is_when_the_last_needed_sign_came():
    state = _silent(*DEAD, stood=minutes(9))
    assert state.probes[ProbeName.CLOUD_AGENT].since == NOW - minutes(9)
    later = replace(state.probes[ProbeName.CLOUD_AGENT], since=NOW - minutes(2))
    state = replace(state, probes={**state.probes, ProbeName.CLOUD_AGENT: later})
    (found,) = _found(state)
    assert found.since == NOW - minutes(2)


def test_a_sentence_names_the_machine_and_what_was_seen():
    (found,) = _found(_silent(*DEAD))
    assert found.sentence.startswith("The agent of CPVM v-2-VM in zone north is dead: ")
    assert found.evidence == ("api: seen agent-not-up", "ssh: seen unit-failed")
    assert found.subject.target_id == "id-v-2-VM"


def test_a_hypervisor_that_is_not_up_is_part_of_the_evidence():
    state = a_state(path=a_broken_path())
    down = replace(HOST, is_up=False, detail="Disconnected, Enabled")
    around = a_fleet(state, hosts={HOST.id: down})
    (found,) = diagnose_target(state, a_policy(), NOW, around)
    assert "hypervisor kvm1 is Disconnected, Enabled" in found.evidence


# --- the fleet ----------------------------------------------------------------------------------


def _fleet_codes(*states: TargetState, **changes: object) -> list[DiagnosisCode]:
    return [one.code for one in judge(a_fleet(*states, **changes)).fleet_diagnoses]


def test_a_zone_fails_as_a_whole_when_all_its_vms_are_sick_at_once():
    both = [a_state(name, *DEAD_AGENT) for name in ("s-1-VM", "v-2-VM")]
    judged = judge(a_fleet(*both))
    (cause,) = judged.fleet_diagnoses
    assert cause.code is C.ZONE_WIDE_FAILURE
    assert cause.subject.zone_id == ZONE.id
    assert cause.suppresses == set(judged.fleet.targets)
    assert {one.suppressed_by for found in judged.diagnoses.values() for one in found} == {
        C.ZONE_WIDE_FAILURE
    }


def test_a_zone_with_a_vm_that_is_well_does_not_fail_as_a_whole():
    sick = [a_state(name, *DEAD_AGENT) for name in ("s-1-VM", "v-2-VM")]
    assert _fleet_codes(*sick, a_state("v-3-VM")) == []


def test_a_lone_vm_is_not_a_zone():
    assert _fleet_codes(a_state("s-1-VM", *DEAD_AGENT)) == []


def test_agents_stopped_by_people_are_no_failure_of_the_zone():
    stopped = [a_state(n, Sign.UNIT_STOPPED, Sign.LINK_DOWN) for n in ("s-1-VM", "v-2-VM")]
    assert _fleet_codes(*stopped) == []


def _cut(name: str, leg: Leg | None, times: int = 3, **changes: object) -> TargetState:
    path = PathMemory(
        leg=leg,
        detail="no answer",
        since=NOW - minutes(2),
        told_at=NOW,
        failed_in_a_row=times if leg is not None else 0,
    )
    return a_state(name, path=path, target=a_target(name, **changes))


@pytest.mark.parametrize(
    ("legs", "is_jump"),
    [
        ((Leg.JUMP_TCP, Leg.JUMP_TCP), True),
        ((Leg.JUMP_TCP, Leg.CHANNEL), True),
        ((Leg.INNER_TCP, Leg.INNER_TCP), True),
        ((Leg.JUMP_TCP,), True),
        ((Leg.INNER_TCP,), False),
        ((Leg.JUMP_TCP, None), False),
        ((Leg.INNER_AUTH, Leg.INNER_AUTH), False),
    ],
)
def test_a_broken_jump_takes_all_its_vms(legs: tuple[Leg | None, ...], is_jump: bool):
    states = [_cut(f"v-{number}-VM", leg) for number, leg in enumerate(legs)]
    assert _fleet_codes(*states) == ([C.JUMP_UNREACHABLE] if is_jump else [])


def test_a_broken_jump_explains_ways_and_no_dead_agents():
    states = [_cut("s-1-VM", Leg.JUMP_TCP), _cut("v-2-VM", Leg.JUMP_TCP)]
    states[0] = replace(states[0], probes=_silent(*DEAD).probes)
    judged = judge(a_fleet(*states))
    marks = {one.code: one.suppressed_by for found in judged.diagnoses.values() for one in found}
    assert marks == {C.VM_UNREACHABLE: C.JUMP_UNREACHABLE, C.AGENT_DOWN: None}


def test_a_jump_not_confirmed_broken_is_none():
    states = [_cut(name, Leg.JUMP_TCP, times=2) for name in ("s-1-VM", "v-2-VM")]
    assert _fleet_codes(*states) == []


def test_vms_reached_directly_have_no_jump():
    states = [_cut(f"v-{n}-VM", Leg.INNER_TCP, route=SshRoute.DIRECT) for n in (1, 2)]
    assert _fleet_codes(*states) == []


def test_a_hypervisor_that_nobody_listed_is_named_by_its_vms():
    judged = judge(a_fleet(_cut("v-2-VM", Leg.JUMP_TCP), hosts=dict[object, HypervisorHost]()))
    assert "hypervisor kvm1" in judged.fleet_diagnoses[0].sentence


@pytest.mark.parametrize(("down_for", "expected"), [(59, []), (60, [C.CLOUD_API_UNREACHABLE])])
def test_an_api_away_for_a_while_is_told(down_for: int, expected: list[DiagnosisCode]):
    api = replace(an_api(is_up=False), since=NOW - seconds(down_for))
    assert _fleet_codes(a_state(), sources={Source.API: api}) == expected


def test_a_cause_marked_once_stays_marked_by_the_first():
    both = [a_state(name, *DEAD_AGENT) for name in ("s-1-VM", "v-2-VM")]
    judged = judge(a_fleet(*both))
    again = suppress(judged.diagnoses, judged.fleet_diagnoses)
    assert again == judged.diagnoses


def test_nothing_found_in_nothing():
    assert diagnose_fleet(a_fleet(), {}, a_policy(), NOW) == ()


# --- the table itself ---------------------------------------------------------------------------


def test_every_code_has_a_row_and_only_a_dead_agent_is_cured_by_machine():
    assert {row.code for row in (*TARGET_ROWS, *FLEET_ROWS)} == set(DiagnosisCode)
    assert {C.AGENT_DOWN} == ACTIONABLE


def test_every_row_says_what_to_do_and_what_not():
    for row in (*TARGET_ROWS, *FLEET_ROWS):
        assert row.sentence.endswith(".")
        assert row.follows
        assert row.advice
        assert row.never
        assert row.response in Response


def test_a_row_explains_only_what_stands_below_it():
    order = list(dict.fromkeys(row.code for row in TARGET_ROWS))
    for row in TARGET_ROWS:
        below = order[order.index(row.code) :]
        explained = row.suppresses & set(order)
        assert explained <= set(below), row.code


def test_a_diagnosis_knows_its_row():
    for row in (*TARGET_ROWS, *FLEET_ROWS):
        variant = rows_of(row.code).index(row)
        subject = judge(a_fleet(*[a_state("v-2-VM", *DEAD_AGENT)])).diagnoses
        some = next(iter(subject.values()))[0]
        assert row_of(replace(some, code=row.code, variant=variant)) is row
