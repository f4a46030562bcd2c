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
from stackward.core.state import PathMemory, ProbeMemory, TargetState
from stackward.errors import Leg
from stackward.model.diagnosis import Diagnosis, DiagnosisCode, Subject
from stackward.model.target import HypervisorHost, SshRoute
from stackward.model.verdict import Failed, ProbeName, Sign, Source, Unknown
from tests.builders import (
    DEAD_AGENT,
    HOST,
    INSIDE_PROBES,
    NOW,
    ZONE,
    a_broken_path,
    a_fleet,
    a_memory,
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
    assert _codes(state._replace(probes=probes)) == [C.AGENT_DOWN]
    probes[ProbeName.AGENT_UNIT] = stopped
    assert C.AGENT_DOWN not in _codes(state._replace(probes=probes))


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


def _lost(*signs: Sign, stood: float = 30) -> TargetState:
    """An agent that was lost some seconds ago; the inside answers ever since."""
    return a_state(probes=probes_with(*signs, stood=seconds(stood), age=seconds(1)))


def _but(state: TargetState, *memories: tuple[ProbeName, ProbeMemory]) -> TargetState:
    return state._replace(probes={**state.probes, **dict(memories)})


@pytest.mark.parametrize(
    ("probe", "signs"),
    [
        (ProbeName.AGENT_UNIT, (Sign.LINK_DOWN, Sign.AGENT_NOT_UP)),
        (ProbeName.AGENT_PROCESS, (Sign.LINK_DOWN,)),
        (ProbeName.MANAGEMENT, (Sign.LINK_DOWN, Sign.AGENT_NOT_UP)),
        (ProbeName.AGENT_UNIT, (Sign.AGENT_NOT_UP,)),
    ],
)
def test_an_agent_lives_only_by_words_newer_than_its_loss(
    probe: ProbeName, signs: tuple[Sign, ...]
):
    lost = _lost(*signs)
    if Sign.LINK_DOWN not in signs:
        lost = _but(lost, (ProbeName.AGENT_LINK, a_memory(ProbeName.AGENT_LINK, Unknown("?"))))
    assert _codes(lost) == [C.AGENT_DISCONNECTED]
    assert _codes(_but(lost, (probe, a_memory(probe, age=seconds(30))))) == []


def test_a_connect_that_was_taken_since_the_loss_tells_for_good():
    lost = _lost(Sign.LINK_DOWN, stood=600)
    taken = a_memory(ProbeName.MANAGEMENT, age=minutes(9))
    assert "lives and is" in _found(_but(lost, (ProbeName.MANAGEMENT, taken)))[0].sentence


@pytest.mark.parametrize(("stood", "expected"), [(300, []), (301, [C.AGENT_DISCONNECTED])])
def test_the_wait_for_newer_words_has_an_end(stood: int, expected: list[DiagnosisCode]):
    lost = _lost(Sign.LINK_DOWN, Sign.AGENT_NOT_UP, stood=stood)
    untried = a_memory(ProbeName.MANAGEMENT, Unknown("not tried"))
    found = _found(_but(lost, (ProbeName.MANAGEMENT, untried)))
    assert [one.code for one in found] == expected
    assert all("Nothing from inside the VM tells why." in one.sentence for one in found)


def test_an_agent_that_never_connected_is_not_called_disconnected_while_it_is_young():
    lost = _lost(Sign.LINK_DOWN, Sign.AGENT_ABSENT)
    young = lost._replace(target=replace(lost.target, created_at=NOW - minutes(8)), booted_at=None)
    assert _codes(young) == []
    assert _codes(lost) == [C.AGENT_NEVER_CONNECTED]


def test_one_vain_connect_is_enough_where_the_link_is_lost_beyond_doubt():
    vain = Failed(Sign.MANAGEMENT_UNREACHABLE, "10.0.0.1:8250 refused")
    once = (ProbeName.MANAGEMENT, a_memory(ProbeName.MANAGEMENT, vain, times=1))
    assert _codes(_but(_lost(Sign.LINK_DOWN), once)) == [C.MANAGEMENT_UNREACHABLE]
    unsure = a_memory(ProbeName.AGENT_LINK, Failed(Sign.LINK_DOWN, "no socket"), times=2)
    assert _codes(_but(_lost(), once, (ProbeName.AGENT_LINK, unsure))) == []


def test_sentences_are_free_of_codes():
    broken = a_broken_path(Leg.JUMP_TCP)._replace(detail="kvm1: [Errno 111] Connect call failed")
    state = a_state(path=broken)
    away = replace(an_api(is_up=False), detail="[Errno 111] refused", since=NOW - minutes(5))
    judged = judge(a_fleet(state, sources={Source.API: away}))
    causes = (*judged.fleet_diagnoses, *judged.diagnoses[state.target.id])
    assert len(causes) == 3
    for cause in causes:
        assert "Errno" not in cause.sentence
        assert "jump-tcp" not in cause.sentence


def test_a_changed_host_key_names_the_template_whose_key_to_forget():
    (call,) = judge(a_fleet(a_state(path=a_broken_path(Leg.INNER_HOST_KEY)))).plan.escalations
    assert "`stackward forget-host-keys template-1`" in call.advice


def test_since_is_when_the_last_needed_sign_came():
    state = _silent(*DEAD, stood=minutes(9))
    assert state.probes[ProbeName.CLOUD_AGENT].since == NOW - minutes(9)
    later = state.probes[ProbeName.CLOUD_AGENT]._replace(since=NOW - minutes(2))
    state = state._replace(probes={**state.probes, ProbeName.CLOUD_AGENT: later})
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


@pytest.mark.parametrize(
    "signs", [(Sign.DISK_FULL,), (Sign.MOUNT_HUNG,), (Sign.UNIT_STOPPED,), (Sign.VM_NOT_RUNNING,)]
)
def test_what_is_wrong_with_one_vm_alone_is_no_failure_of_the_zone(signs: tuple[Sign, ...]):
    local = _silent(*signs)._replace(target=a_target("s-1-VM"))
    other = a_state("v-2-VM", Sign.MANAGEMENT_UNREACHABLE, Sign.LINK_DOWN)
    judged = judge(a_fleet(local, other))
    assert judged.fleet_diagnoses == ()
    assert {one.subject_name for one in judged.plan.escalations} == {"s-1-VM", "v-2-VM"}


def test_a_storm_is_one_call_for_the_whole_cloud():
    sick = [a_state(f"v-{n}-VM", *DEAD_AGENT) for n in range(3)]
    well = [a_state(f"s-{n}-VM") for n in range(6)]
    judged = judge(a_fleet(*sick, *well))
    (cause,) = judged.fleet_diagnoses
    assert (cause.code, cause.subject) == (C.STORM, Subject())
    assert cause.sentence == "3 of 9 system VMs are sick at once: AgentDown on 3."
    assert [one.code for one in judge(a_fleet(*sick[:2], *well)).fleet_diagnoses] == []


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
    states[0] = states[0]._replace(probes=_silent(*DEAD).probes)
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
    assert diagnose_fleet(a_fleet(), {}, {}, a_policy(), NOW) == ()


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
