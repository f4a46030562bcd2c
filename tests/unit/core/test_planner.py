"""What the plan says about each sick target."""

from dataclasses import replace
from typing import Any

import pytest

from stackward.core.planner import effective_mode, make_plan, rule_for
from stackward.core.state import Attempt, TargetState
from stackward.model.diagnosis import DiagnosisCode
from stackward.model.identity import IntentId, VmRole, ZoneId
from stackward.model.outcome import OutcomeKind
from stackward.model.plan import ActionName, Guard, Mode
from stackward.model.verdict import Sign, Source
from tests.builders import (
    DEAD_AGENT,
    NOW,
    ZONE,
    a_fleet,
    a_policy,
    a_position,
    a_rule,
    a_sick_state,
    a_state,
    a_target,
    an_api,
    an_episode,
    minutes,
    probes_with,
    seconds,
)
from tests.judging import judge

WELL = a_state("s-1-VM")
RESTART, REBOOT = ActionName.RESTART_AGENT, ActionName.REBOOT_SYSTEM_VM


def test_a_quiet_cloud_has_an_empty_plan():
    plan = judge(a_fleet(WELL, a_state())).plan
    assert (plan.steps, plan.holds, plan.escalations, plan.next_check_at) == ((), (), (), None)


def test_a_step_carries_all_that_the_executor_needs():
    (step,) = judge(a_fleet(WELL, a_sick_state())).plan.steps
    assert (step.action, step.rung, step.attempt, step.mode) == (RESTART, 0, 1, Mode.ACT)
    assert (step.marks.boot_id, step.marks.invocation_id) == ("boot-1", "invocation-1")
    assert step.log_position == a_position()
    assert (step.verify_within, step.rule) == (minutes(3), "revive-agent")
    assert (step.episode_id, step.is_disruptive) == ("episode-1", True)
    assert "is dead" in step.explanation


def test_the_next_rung_follows_a_failed_one():
    failed = Attempt(
        action=RESTART,
        intent_id=IntentId("i"),
        at=NOW - minutes(30),
        outcome=OutcomeKind.FAILED,
    )
    state = a_sick_state(episode=an_episode(attempts=(failed,)))
    (step,) = judge(a_fleet(WELL, state)).plan.steps
    assert (step.action, step.rung) == (REBOOT, 1)
    rebooted = replace(failed, action=REBOOT, intent_id=IntentId("j"))
    state = a_sick_state(episode=an_episode(attempts=(failed, rebooted)))
    plan = judge(a_fleet(WELL, state)).plan
    assert plan.steps == ()
    assert "was tried: restart-agent, reboot-system-vm" in plan.escalations[0].sentence


def test_a_sick_vm_without_a_cause_is_held():
    (hold,) = judge(a_fleet(WELL, _sick_for_a_moment())).plan.holds
    assert (hold.diagnosis, hold.action, hold.reason.guard) == (None, None, Guard.NOT_CONFIRMED)


def _sick_for_a_moment() -> TargetState:
    state = a_state("v-2-VM", Sign.AGENT_NOT_UP)
    return state._replace(
        probes={
            probe: memory._replace(since=NOW - minutes(1)) for probe, memory in state.probes.items()
        },
    )


def test_only_people_can_help_with_most_causes():
    (call,) = judge(a_fleet(WELL, a_state("v-2-VM", Sign.MOUNT_HUNG))).plan.escalations
    assert call.diagnosis is DiagnosisCode.SECONDARY_STORAGE_HUNG
    assert (call.subject_name, call.subject.target_id) == ("v-2-VM", "id-v-2-VM")
    assert "Do not" in call.advice


def test_a_dead_agent_without_an_open_episode_waits_for_it():
    (hold,) = judge(a_fleet(WELL, a_sick_state(episode=None))).plan.holds
    assert hold.reason.guard is Guard.NOT_CONFIRMED


def test_a_step_under_way_is_a_hold():
    state = a_sick_state(in_flight=IntentId("i"), in_flight_action=REBOOT)
    (hold,) = judge(a_fleet(WELL, state)).plan.holds
    assert (hold.action, hold.reason.guard) == (REBOOT, Guard.OUTCOME_OPEN)


def test_symptoms_are_held_and_the_cause_is_called_once():
    plan = judge(a_fleet(a_sick_state("s-1-VM"), a_sick_state("v-2-VM"))).plan
    assert [hold.reason.guard for hold in plan.holds] == [Guard.SUPPRESSED] * 2
    (call,) = plan.escalations
    assert (call.diagnosis, call.subject_name) == (DiagnosisCode.ZONE_WIDE_FAILURE, "north")


def test_two_steps_in_one_plan_do_not_share_a_zone():
    others = [a_state(f"v-{n}-VM") for n in range(30, 36)]
    plan = judge(a_fleet(a_sick_state("s-1-VM"), a_sick_state("v-2-VM"), *others)).plan
    assert [step.target_name for step in plan.steps] == ["s-1-VM"]
    assert [hold.reason.guard for hold in plan.holds] == [Guard.ZONE_BUSY]


def _stood(minutes_: float, **changes: Any) -> TargetState:
    """A dead agent that has been so for a while."""
    signs = probes_with(*DEAD_AGENT, stood=minutes(minutes_))
    return a_sick_state()._replace(probes=signs, **changes)


def test_who_is_held_for_too_long_is_a_persons():
    spent = {ZONE.id: (NOW - minutes(20),) * 3}
    (hold,) = judge(a_fleet(WELL, _stood(15), zone_actions=spent)).plan.holds
    assert hold.reason.text == "3 of 3 steps spent within 1 h"
    plan = judge(a_fleet(WELL, _stood(16), zone_actions=spent)).plan
    assert plan.holds == ()
    assert plan.next_check_at == NOW + minutes(40)
    (call,) = plan.escalations
    why = "Held for more than 15 min: 3 of 3 steps spent within 1 h."
    assert call.sentence.endswith(why)


def test_without_a_rule_a_person_is_called_in_the_end():
    policy = a_policy(a_rule(zones=frozenset(), every_zone=False))
    (hold,) = judge(a_fleet(WELL, _stood(15)), policy).plan.holds
    assert hold.reason.guard is Guard.NO_RULE
    (call,) = judge(a_fleet(WELL, _stood(16)), policy).plan.escalations
    assert "no rule for AgentDown" in call.sentence


@pytest.mark.parametrize(
    ("around", "changes", "guard"),
    [
        ({"pause_reason": "maintenance"}, {}, Guard.PAUSED),
        ({}, {"in_flight": IntentId("i"), "in_flight_action": RESTART}, Guard.OUTCOME_OPEN),
        (
            {"zone_actions": {ZONE.id: (NOW - minutes(20),) * 3}},
            {"last_action": RESTART, "last_action_at": NOW - minutes(14)},
            Guard.ZONE_BUDGET_SPENT,
        ),
    ],
)
def test_patience_does_not_end_where_a_person_or_a_step_is_at_work(
    around: dict[str, Any], changes: dict[str, Any], guard: Guard
):
    plan = judge(a_fleet(WELL, _stood(60, **changes), **around)).plan
    assert [hold.reason.guard for hold in plan.holds] == [guard]
    assert plan.escalations == ()


def test_in_a_storm_the_call_for_all_is_enough():
    sick = [
        _stood(60)._replace(target=a_target(f"v-{n}-VM", zone_id=ZoneId(f"z{n}"))) for n in range(3)
    ]
    well = [a_state(f"s-{n}-VM") for n in range(3)]
    plan = judge(a_fleet(*sick, *well)).plan
    assert [hold.reason.guard for hold in plan.holds] == [Guard.STORM] * 3
    assert [call.diagnosis for call in plan.escalations] == [DiagnosisCode.STORM]


def test_the_next_check_is_the_earliest_moment_that_a_hold_names():
    acted = a_sick_state("v-2-VM", last_action=RESTART, last_action_at=NOW - minutes(8))
    plan = judge(a_fleet(WELL, acted)).plan
    assert plan.next_check_at == NOW + minutes(2)


def test_the_cloud_itself_can_be_the_subject():
    away = {Source.API: replace(an_api(is_up=False), since=NOW - minutes(5))}
    (call,) = judge(a_fleet(WELL, sources=away)).plan.escalations
    assert (call.subject_name, call.diagnosis) == (
        "the cloud",
        DiagnosisCode.CLOUD_API_UNREACHABLE,
    )


def test_what_is_not_in_the_fleet_is_left_aside():
    judged = judge(a_fleet(WELL, a_sick_state()))
    fleet = a_fleet(WELL)
    plan = make_plan(fleet, judged.health, judged.diagnoses, (), judged.policy, NOW)
    assert plan.steps == ()
    assert plan.holds == ()


ACT, ADVISE, OBSERVE = Mode.ACT, Mode.ADVISE, Mode.OBSERVE


@pytest.mark.parametrize(
    ("everywhere", "zone", "rule", "demotion", "expected", "because"),
    [
        (ACT, ACT, ACT, None, ACT, "the global mode"),
        (OBSERVE, ACT, ACT, None, OBSERVE, "the global mode"),
        (ACT, ADVISE, ACT, None, ADVISE, "the mode of zone north"),
        (ACT, None, ACT, None, ACT, "the global mode"),
        (ACT, ACT, OBSERVE, None, OBSERVE, "the mode of rule revive-agent"),
        (ACT, ACT, ACT, "promise 4", ADVISE, "a broken promise: promise 4"),
        (ACT, ACT, OBSERVE, "promise 4", OBSERVE, "the mode of rule revive-agent"),
    ],
)
def test_the_most_careful_mode_counts(
    everywhere: Mode,
    zone: Mode | None,
    rule: Mode,
    demotion: str | None,
    expected: Mode,
    because: str,
):
    policy = a_policy(mode=everywhere, zone_modes={"north": zone} if zone else {})
    mode = effective_mode(a_rule(mode=rule), "north", a_fleet(demotion=demotion), policy)
    assert (mode.mode, mode.because) == (expected, because)


def test_a_rule_speaks_of_its_roles_and_zones_alone():
    cpvm = a_state("v-2-VM")
    down = DiagnosisCode.AGENT_DOWN
    nowhere = a_rule(every_zone=False)
    no_role = a_rule(roles=frozenset())
    elsewhere = a_rule(every_zone=False, zones=frozenset({"south"}))
    ssvms = a_rule(roles=frozenset({VmRole.SECONDARY_STORAGE}))
    here = a_rule(every_zone=False, zones=frozenset({"north"}), name="here")
    for rule in (nowhere, no_role, elsewhere, ssvms):
        assert rule_for(down, cpvm, a_policy(rule)) is None
        assert rule_for(down, cpvm, a_policy(rule, here, a_rule())) is here
    assert rule_for(DiagnosisCode.DISK_FULL, cpvm, a_policy(here)) is None


def test_the_plan_does_not_depend_on_the_order_of_anything():
    states = [a_sick_state(f"v-{n}-VM") for n in range(3)]
    zones = ("east", "west", "south")
    states = [
        s._replace(target=replace(s.target, zone_id=ZoneId(z), zone_name=z))
        for s, z in zip(states, zones, strict=True)
    ]
    well = [a_state(f"s-{n}-VM", target=a_target(f"s-{n}-VM")) for n in range(20, 29)]
    one = judge(a_fleet(*states, *well)).plan
    other = judge(a_fleet(*reversed(well), *reversed(states))).plan
    assert one == other
    assert [hold.target_name for hold in one.holds] == ["v-0-VM", "v-2-VM", "v-1-VM"]


def test_stale_sickness_is_no_sickness():
    state = a_sick_state()
    old = {p: m._replace(observed_at=NOW - seconds(61)) for p, m in state.probes.items()}
    plan = judge(a_fleet(WELL, state._replace(probes=old))).plan
    assert plan.steps == ()
