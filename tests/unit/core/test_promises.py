"""Each promise on a plan made by hand: kept, and broken by one thing."""

from dataclasses import replace
from typing import Any

import pytest

from stackward.core.policy import Limits, Policy, Rung
from stackward.core.promises import PROMISES, broken_promises
from stackward.core.state import Attempt, FleetView, LogMemory, TargetState
from stackward.errors import Leg
from stackward.model.health import Health, HealthState, Overall
from stackward.model.identity import IntentId, JobId, TargetId
from stackward.model.outcome import OutcomeKind
from stackward.model.plan import ActionName, Plan, PromiseName, Step
from stackward.model.target import CloudState
from stackward.model.verdict import ProbeName, Sign, Source
from tests.builders import (
    DEAD_AGENT,
    HOST,
    NOW,
    ZONE,
    a_broken_path,
    a_fleet,
    a_policy,
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

P = PromiseName
RESTART, REBOOT = ActionName.RESTART_AGENT, ActionName.REBOOT_SYSTEM_VM
SICK = Health(HealthState.UNHEALTHY, Overall.FAILED)
WELL = a_state("s-1-VM")
(STEP,) = judge(a_fleet(a_sick_state(), WELL)).plan.steps
PLAN = Plan(made_at=NOW, steps=(STEP,))


def _broken(
    plan: Plan = PLAN,
    fleet: FleetView | None = None,
    policy: Policy | None = None,
    sick: tuple[TargetId, ...] = (STEP.target_id,),
    again: Plan | None = None,
) -> set[PromiseName]:
    fleet = fleet or a_fleet(a_sick_state(), WELL)
    health = dict.fromkeys(sick, SICK)
    broken = broken_promises(plan, fleet, policy or a_policy(), NOW, health, again=again)
    assert all(one.detail for one in broken)
    return {one.promise for one in broken}


def _fleet(**changes: Any) -> FleetView:
    return a_fleet(a_sick_state(**changes), WELL)


def test_a_good_plan_breaks_nothing():
    assert _broken(again=PLAN) == set()
    assert list(PROMISES) == list(PromiseName)


SILENT_INSIDE = {
    probe: memory._replace(observed_at=NOW - seconds(4))
    for probe, memory in probes_with(unknown=(ProbeName.DISK, ProbeName.CLOCK)).items()
    if probe in (ProbeName.DISK, ProbeName.CLOCK)
}


@pytest.mark.parametrize(
    "changes",
    [
        {"probes": probes_with(*DEAD_AGENT, age=seconds(61))},
        {"probes": probes_with(*DEAD_AGENT, age=seconds(-6))},
        {"probes": probes_with(*DEAD_AGENT, times=2)},
        {"probes": probes_with(*DEAD_AGENT, unknown=(ProbeName.CLOUD_STATE,))},
        {"probes": probes_with(Sign.UNIT_FAILED, Sign.AGENT_NOT_UP)},  # the link is there
        {"probes": probes_with(Sign.UNIT_STOPPED, Sign.LINK_DOWN)},
        {"probes": probes_with(*DEAD_AGENT) | SILENT_INSIDE},
        {"probes": {}},
        {"path": a_broken_path()},
        {"path": a_broken_path(Leg.INNER_HOST_KEY, times=1)},
        {"target": a_target(cloud_state=CloudState.STOPPING)},
        {"target": a_target(job_id=JobId("job"))},
        {"target": a_target(host_id=None)},
        {"log": LogMemory()},
    ],
)
def test_1_evidence_is_fresh_and_speaks_for_it(changes: dict[str, Any]):
    assert P.FRESH_EVIDENCE in _broken(fleet=_fleet(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"inventory_at": None},
        {"inventory_at": NOW - seconds(121)},
        {"unreadable": ("row",)},
        {"zones": {}},
        {"zones": {ZONE.id: replace(ZONE, is_enabled=None)}},
        {"hosts": {HOST.id: replace(HOST, is_up=None)}},
    ],
)
def test_1_the_cloud_is_known(changes: dict[str, Any]):
    assert P.FRESH_EVIDENCE in _broken(fleet=replace(_fleet(), **changes))


def test_1_a_step_needs_a_target():
    stray = replace(STEP, target_id=TargetId("nobody"))
    assert P.FRESH_EVIDENCE in _broken(replace(PLAN, steps=(stray,)))


def _second(name: str = "s-1-VM") -> tuple[Step, TargetState]:
    state = a_sick_state(name)
    return replace(STEP, target_id=state.target.id, target_name=name), state


def test_2_one_step_at_a_time_in_a_zone():
    other, state = _second()
    plan = replace(PLAN, steps=(other, STEP))
    assert P.ZONE_BUDGET in _broken(plan, a_fleet(a_sick_state(), state))
    flying = WELL._replace(in_flight=IntentId("i"))
    assert P.ZONE_BUDGET in _broken(fleet=a_fleet(a_sick_state(), flying))


def test_2_the_budget_of_the_window():
    spent = {ZONE.id: (NOW - minutes(50), NOW - minutes(40), NOW + minutes(5))}
    assert P.ZONE_BUDGET in _broken(fleet=replace(_fleet(), zone_actions=spent))
    less = {ZONE.id: (NOW - minutes(60), NOW - minutes(40), NOW - minutes(5))}
    assert P.ZONE_BUDGET not in _broken(fleet=replace(_fleet(), zone_actions=less))


def test_2_the_whole_cloud():
    none_at_all = a_policy(limits=Limits(fleet_in_flight_max=0))
    assert P.ZONE_BUDGET in _broken(policy=none_at_all)


def test_3_never_two_of_a_service():
    roomy = a_policy(limits=Limits(zone_in_flight_max=9))
    twin, state = _second("v-3-VM")
    plan = replace(PLAN, steps=(STEP, twin))
    assert _broken(plan, a_fleet(a_sick_state(), state, WELL), roomy) == {P.REDUNDANCY}
    other, state = _second("s-1-VM")
    both = a_fleet(a_sick_state(), state, a_state("v-5-VM"))
    assert _broken(replace(PLAN, steps=(other, STEP)), both, roomy) == set()
    flying = a_state("v-3-VM", in_flight=IntentId("i"))
    assert _broken(fleet=a_fleet(a_sick_state(), flying, WELL), policy=roomy) == {P.REDUNDANCY}


@pytest.mark.parametrize("ago", [599, 0, -60])
def test_4_no_step_within_the_cooldown(ago: int):
    acted = NOW - seconds(ago)
    for action in (None, RESTART):
        fleet = _fleet(last_action=action, last_action_at=acted)
        assert P.COOLDOWN in _broken(fleet=fleet)
    unruled = a_policy(a_rule(ladder=(Rung(action=RESTART),)))
    assert P.COOLDOWN in _broken(
        fleet=_fleet(last_action=REBOOT, last_action_at=acted), policy=unruled
    )


def test_4_a_cooldown_ends():
    assert _broken(fleet=_fleet(last_action=RESTART, last_action_at=NOW - minutes(10))) == set()


def test_4_no_step_while_an_earlier_one_is_open():
    assert P.COOLDOWN in _broken(fleet=_fleet(in_flight=IntentId("i")))
    attempt = Attempt(action=RESTART, intent_id=IntentId("i"), at=NOW - minutes(30))
    assert P.COOLDOWN in _broken(fleet=_fleet(episode=an_episode(attempts=(attempt,))))


def test_5_no_step_in_a_storm():
    others = [a_sick_state(f"v-{n}-VM") for n in (3, 4)]
    fleet = a_fleet(a_sick_state(), *others, WELL)
    sick = tuple(one for one in fleet.targets if one != WELL.target.id)
    assert P.STORM in _broken(fleet=fleet, sick=sick)
    assert P.STORM not in _broken(fleet=fleet, sick=sick[:1])


def test_5_no_step_in_a_zone_that_is_sick_as_a_whole():
    fleet = a_fleet(a_sick_state(), a_sick_state("s-1-VM"))
    assert P.STORM in _broken(fleet=fleet, sick=tuple(fleet.targets))


@pytest.mark.parametrize(
    "changes",
    [
        {"pause_reason": ""},
        {"journal_trouble": "disk full"},
        {"sources": {}},
        {"sources": {Source.API: an_api(is_up=False)}},
    ],
)
def test_6_no_step_while_something_says_stop(changes: dict[str, Any]):
    assert P.PAUSE in _broken(fleet=replace(_fleet(), **changes))
    assert P.PAUSE not in _broken(Plan(made_at=NOW), replace(_fleet(), **changes))


def test_7_nothing_is_ignored_and_nothing_said_twice():
    assert _broken(Plan(made_at=NOW)) == {P.NOTHING_IGNORED}
    held = judge(replace(_fleet(), pause_reason="x")).plan
    assert _broken(held, replace(_fleet(), pause_reason="x")) == set()
    assert P.NOTHING_IGNORED in _broken(replace(PLAN, holds=held.holds))
    assert _broken(PLAN, sick=(STEP.target_id, TargetId("gone"))) == set()


def test_8_the_plan_is_of_this_moment_in_a_fixed_order_and_the_same_again():
    assert P.DETERMINISM in _broken(replace(PLAN, made_at=NOW - seconds(1)))
    assert P.DETERMINISM in _broken(replace(PLAN, next_check_at=NOW))
    assert P.DETERMINISM in _broken(again=replace(PLAN, steps=()))
    other, state = _second()
    plan = replace(PLAN, steps=(STEP, other))
    assert P.DETERMINISM in _broken(plan, a_fleet(a_sick_state(), state))


def _tried(*actions: ActionName) -> FleetView:
    attempts = tuple(
        Attempt(
            action=action,
            intent_id=IntentId(str(n)),
            at=NOW - minutes(30),
            outcome=OutcomeKind.FAILED,
        )
        for n, action in enumerate(actions)
    )
    return _fleet(episode=an_episode(attempts=attempts))


def test_9_a_ladder_only_goes_up():
    rebooting = replace(PLAN, steps=(replace(STEP, action=REBOOT, rung=1),))
    assert _broken(rebooting, _tried(RESTART)) == set()
    assert P.LADDER in _broken(PLAN, _tried(REBOOT))
    assert P.LADDER in _broken(PLAN, _tried(RESTART))
    assert P.LADDER in _broken(rebooting, _tried(RESTART, REBOOT))


@pytest.mark.parametrize(
    "changes",
    [
        {"attempt": 2},
        {"rung": 2},
        {"rung": 1},
        {"rule": "no such rule"},
        {"episode_id": "another"},
    ],
)
def test_9_a_step_stands_on_its_rung_in_its_episode(changes: dict[str, Any]):
    assert P.LADDER in _broken(replace(PLAN, steps=(replace(STEP, **changes),)))


def test_9_a_step_needs_an_episode():
    assert P.LADDER in _broken(fleet=_fleet(episode=None))


def test_10_a_reboot_needs_two_witnesses_who_differ_in_kind():
    plan = replace(PLAN, steps=(replace(STEP, action=REBOOT, rung=1),))
    dead = (Sign.UNIT_FAILED, Sign.JVM_MISSING, Sign.LINK_DOWN)
    inside = _tried(RESTART).targets[STEP.target_id]
    alone = a_fleet(inside._replace(probes=probes_with(*dead)), WELL)
    assert _broken(plan, alone) == {P.TWO_KINDS_OF_EVIDENCE}
    assert _broken(plan, _tried(RESTART)) == set()
    old = {
        probe: memory._replace(observed_at=NOW - minutes(6))
        for probe, memory in probes_with(Sign.AGENT_NOT_UP, Sign.DATABASE_AGENT_NOT_UP).items()
        if memory.source is not Source.SSH and probe is not ProbeName.CLOUD_STATE
    }
    stale = inside._replace(probes=probes_with(*dead) | old)
    assert P.TWO_KINDS_OF_EVIDENCE in _broken(plan, a_fleet(stale, WELL))


def test_a_fleet_without_anybody_keeps_every_promise():
    assert _broken(Plan(made_at=NOW), a_fleet(), sick=()) == set()
