"""Every reason to wait, at its edge; and that a guard which cannot tell waits."""

from dataclasses import replace
from typing import Any

import pytest

from stackward.core.guards import GUARDS, set_scene
from stackward.core.policy import Limits, Policy, Rung
from stackward.core.state import Attempt, FleetView, LogMemory, TargetState
from stackward.errors import Leg
from stackward.model.diagnosis import DiagnosisCode
from stackward.model.guest import GuestMarks
from stackward.model.health import Health, HealthState, Overall
from stackward.model.identity import HostId, IntentId, JobId, ServiceId, VmRole, ZoneId
from stackward.model.outcome import OutcomeKind
from stackward.model.plan import ActionName, Guard, HoldReason, Mode, Step
from stackward.model.target import CloudState, Zone
from stackward.model.verdict import ProbeName, Source
from tests.builders import (
    API_COMMANDS,
    DEAD_AGENT,
    HOST,
    LONG_AGO,
    NOW,
    ZONE,
    a_broken_path,
    a_fleet,
    a_memory,
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

SICK = Health(HealthState.UNHEALTHY, Overall.FAILED)
RESTART, REBOOT = ActionName.RESTART_AGENT, ActionName.REBOOT_SYSTEM_VM


def _step(action: ActionName = RESTART, **changes: Any) -> Step:
    """The step that the planner would take on a sick VM, nothing in its way."""
    rule = a_rule(ladder=(Rung(action=action),))
    (step,) = judge(a_fleet(a_sick_state(), a_state("s-1-VM")), a_policy(rule)).plan.steps
    return replace(step, **changes)


def _fleet(state: TargetState | None = None, **changes: Any) -> FleetView:
    return a_fleet(state or a_sick_state(), a_state("s-1-VM"), **changes)


def _ask(
    guard: Guard,
    fleet: FleetView | None = None,
    step: Step | None = None,
    policy: Policy | None = None,
    chosen: tuple[Step, ...] = (),
    sick: tuple[str, ...] = ("id-v-2-VM",),
) -> HoldReason | None:
    fleet = fleet or _fleet()
    policy = policy or a_policy()
    health = {one: SICK for one in fleet.targets if one in sick}
    scene = set_scene(fleet, health, judge(fleet, policy).fleet_diagnoses)
    return GUARDS[guard](step or _step(), scene, chosen, policy, NOW)


def _holds(guard: Guard, *args: Any, **kwargs: Any) -> bool:
    reason = _ask(guard, *args, **kwargs)
    assert reason is None or (reason.guard is guard and reason.text)
    return reason is not None


@pytest.mark.parametrize("guard", list(Guard))
def test_nothing_holds_a_sick_vm_in_a_quiet_cloud(guard: Guard):
    assert not _holds(guard)


def test_the_guards_are_reported_in_the_order_of_their_names():
    assert list(GUARDS) == list(Guard)


def test_paused():
    assert _holds(Guard.PAUSED, _fleet(pause_reason="upgrade"))
    assert _holds(Guard.PAUSED, _fleet(pause_reason=""))


def test_journal_down():
    assert _holds(Guard.JOURNAL_DOWN, _fleet(journal_trouble="disk full"))


@pytest.mark.parametrize(("age", "holds"), [(120, False), (121, True), (-5, False), (-6, True)])
def test_inventory_stale(age: int, holds: bool):
    state = a_sick_state(listed_at=NOW - seconds(age))
    fleet = _fleet(state, inventory_at=NOW - seconds(age))
    assert _holds(Guard.INVENTORY_STALE, fleet) is holds


def test_a_cloud_never_listed_or_a_vm_not_in_the_last_listing_holds():
    assert _holds(Guard.INVENTORY_STALE, _fleet(inventory_at=None))
    assert _holds(Guard.INVENTORY_STALE, _fleet(a_sick_state(listed_at=NOW - seconds(6))))


def test_inventory_incomplete():
    assert _holds(Guard.INVENTORY_INCOMPLETE, _fleet(unreadable=("row 3",)))


@pytest.mark.parametrize(
    ("sick", "total", "holds"),
    [(3, 10, True), (3, 11, False), (2, 4, False), (4, 8, True), (2, 2, False), (30, 100, True)],
)
def test_a_storm_needs_a_share_and_a_number(sick: int, total: int, holds: bool):
    states = [a_sick_state(), *(a_state(f"v-{n}1-VM") for n in range(1, total))]
    ids = tuple(state.target.id for state in states[:sick])
    assert _holds(Guard.STORM, a_fleet(*states), sick=ids) is holds


def test_a_wider_cause_holds_all_that_it_covers():
    away = {Source.API: replace(an_api(is_up=False), since=NOW - minutes(5))}
    assert _holds(Guard.FLEET_CAUSE, _fleet(sources=away))
    both = a_fleet(a_sick_state("v-2-VM"), a_sick_state("s-1-VM"))
    assert _holds(Guard.FLEET_CAUSE, both)
    cut = a_sick_state(path=a_broken_path(Leg.JUMP_TCP))
    elsewhere = a_state("s-1-VM", target=a_target("s-1-VM", host_id=HostId("host-2")))
    assert _holds(Guard.FLEET_CAUSE, a_fleet(cut, elsewhere))


def test_an_api_that_does_not_answer_or_was_never_asked_holds_at_once():
    gone = {Source.API: replace(an_api(is_up=False), since=NOW)}
    assert _holds(Guard.FLEET_CAUSE, _fleet(sources=gone))
    assert _holds(Guard.FLEET_CAUSE, _fleet(sources={}))


def test_a_zone_whose_vms_are_all_sick_holds_even_without_a_common_cause():
    assert _holds(Guard.FLEET_CAUSE, sick=("id-v-2-VM", "id-s-1-VM"))
    alone = a_fleet(a_sick_state())
    assert not _holds(Guard.FLEET_CAUSE, alone)


def _other(name: str = "s-9-VM", zone: str = "zone-9", **changes: Any) -> TargetState:
    return a_state(name, target=a_target(name, zone_id=ZoneId(zone)), **changes)


def test_as_many_steps_run_in_the_cloud_as_may():
    flying = [_other(f"s-{n}-VM", f"zone-{n}", in_flight=IntentId("i")) for n in range(10, 14)]
    assert not _holds(Guard.FLEET_BUSY, a_fleet(a_sick_state(), *flying[:3]))
    assert _holds(Guard.FLEET_BUSY, a_fleet(a_sick_state(), *flying))
    assert _holds(Guard.FLEET_BUSY, chosen=(_step(),) * 4)


@pytest.mark.parametrize("is_enabled", [False, None])
def test_zone_disabled(is_enabled: bool | None):
    zones = {ZONE.id: Zone(ZONE.id, "north", is_enabled=is_enabled)}
    assert _holds(Guard.ZONE_DISABLED, _fleet(zones=zones))
    assert _holds(Guard.ZONE_DISABLED, _fleet(zones={}))


@pytest.mark.parametrize("is_up", [False, None])
def test_hypervisor_down(is_up: bool | None):
    assert _holds(Guard.HYPERVISOR_DOWN, _fleet(hosts={HOST.id: replace(HOST, is_up=is_up)}))
    assert _holds(Guard.HYPERVISOR_DOWN, _fleet(hosts={}))
    nowhere = a_sick_state(target=a_target(host_id=None))
    assert _holds(Guard.HYPERVISOR_DOWN, _fleet(nowhere))


def test_one_step_at_a_time_in_a_zone():
    flying = a_state("s-1-VM", in_flight=IntentId("i"))
    assert _holds(Guard.ZONE_BUSY, a_fleet(a_sick_state(), flying))
    neighbour = replace(_step(), target_id=a_state("s-1-VM").target.id)
    assert _holds(Guard.ZONE_BUSY, chosen=(neighbour,))
    assert not _holds(Guard.ZONE_BUSY, a_fleet(a_sick_state(), _other(in_flight=IntentId("i"))))


def test_never_two_of_a_service_at_once_however_many_steps_a_zone_may_have():
    policy = a_policy(limits=Limits(zone_in_flight_max=5))
    twin = a_state("v-3-VM", in_flight=IntentId("i"))
    assert twin.target.service == ServiceId(ZONE.id, VmRole.CONSOLE_PROXY)
    assert _holds(Guard.ZONE_BUSY, a_fleet(a_sick_state(), twin), policy=policy)
    other_role = a_state("s-1-VM", in_flight=IntentId("i"))
    assert not _holds(Guard.ZONE_BUSY, a_fleet(a_sick_state(), other_role), policy=policy)


def test_the_budget_of_a_zone():
    def begun(*ago: float) -> FleetView:
        return _fleet(zone_actions={ZONE.id: tuple(NOW - minutes(one) for one in ago)})

    assert not _holds(Guard.ZONE_BUDGET_SPENT, begun(60, 59, 1))
    reason = _ask(Guard.ZONE_BUDGET_SPENT, begun(59, 30, 1))
    assert reason is not None
    assert reason.until == NOW + minutes(1)
    # A row from the future counts as just now: a clock went back.
    ahead = _ask(Guard.ZONE_BUDGET_SPENT, begun(-90, -90, -90))
    assert ahead is not None
    assert ahead.until == NOW + minutes(60)


def test_the_budget_counts_what_flies_and_what_this_plan_holds():
    two = {ZONE.id: (NOW - minutes(9), NOW - minutes(5))}
    flying = a_state("s-1-VM", in_flight=IntentId("i"))
    assert _holds(Guard.ZONE_BUDGET_SPENT, a_fleet(a_sick_state(), flying, zone_actions=two))
    began = flying._replace(
        episode=an_episode(
            attempts=(Attempt(action=RESTART, intent_id=IntentId("i"), at=NOW - minutes(5)),)
        ),
    )
    assert not _holds(Guard.ZONE_BUDGET_SPENT, a_fleet(a_sick_state(), began, zone_actions=two))
    assert _holds(Guard.ZONE_BUDGET_SPENT, _fleet(zone_actions=two), chosen=(_step(),))
    gentle = replace(_step(), is_disruptive=False)
    assert not _holds(
        Guard.ZONE_BUDGET_SPENT, _fleet(zone_actions=two), step=gentle, chosen=(gentle,) * 5
    )


def test_a_vm_that_does_not_run_or_of_which_nobody_has_just_said_so():
    moving = a_sick_state(target=a_target(cloud_state=CloudState.MIGRATING))
    assert _holds(Guard.VM_NOT_RUNNING, _fleet(moving))
    for probes in (
        {**probes_with(*DEAD_AGENT), **_cloud_state(age=61)},
        probes_with(*DEAD_AGENT, unknown=(ProbeName.CLOUD_STATE,)),
        {},
    ):
        assert _holds(Guard.VM_NOT_RUNNING, _fleet(a_sick_state(probes=probes)))


def _cloud_state(age: int) -> dict[ProbeName, Any]:
    return {ProbeName.CLOUD_STATE: a_memory(ProbeName.CLOUD_STATE, age=seconds(age))}


def test_cloud_busy():
    assert _holds(Guard.CLOUD_BUSY, _fleet(a_sick_state(target=a_target(job_id=JobId("j")))))


def _after(kind: OutcomeKind | None, action: ActionName = RESTART) -> TargetState:
    attempt = Attempt(action=action, intent_id=IntentId("i"), at=NOW - minutes(30), outcome=kind)
    return a_sick_state(episode=an_episode(attempts=(attempt,)))


def test_an_earlier_step_without_an_outcome():
    assert _holds(Guard.OUTCOME_OPEN, _fleet(a_sick_state(in_flight=IntentId("i"))))
    assert _holds(Guard.OUTCOME_OPEN, _fleet(_after(None)))
    assert not _holds(Guard.OUTCOME_OPEN, _fleet(_after(OutcomeKind.UNKNOWN)))
    assert _holds(Guard.OUTCOME_OPEN, chosen=(_step(),))


@pytest.mark.parametrize(("ago", "holds"), [(599, True), (600, False), (-300, True)])
def test_cooling_down(ago: int, holds: bool):
    acted = a_sick_state(last_action=RESTART, last_action_at=NOW - seconds(ago))
    assert _holds(Guard.COOLING_DOWN, _fleet(acted)) is holds


def test_an_action_from_the_future_counts_as_just_now():
    reason = _ask(
        Guard.COOLING_DOWN,
        _fleet(a_sick_state(last_action=RESTART, last_action_at=NOW + minutes(99))),
    )
    assert reason is not None
    assert reason.until == NOW + minutes(10)


def test_the_cooldown_is_that_of_the_action_taken_and_the_longest_that_any_rule_asks():
    slow = a_rule(name="slow", ladder=(Rung(action=RESTART, cooldown=minutes(30)),))
    quick = a_rule(name="quick", ladder=(Rung(action=RESTART, cooldown=minutes(1)),))
    acted = _fleet(a_sick_state(last_action=RESTART, last_action_at=NOW - minutes(20)))
    assert _holds(Guard.COOLING_DOWN, acted, policy=a_policy(quick, slow))
    assert not _holds(Guard.COOLING_DOWN, acted, policy=a_policy(quick))
    unnamed = _fleet(a_sick_state(last_action=None, last_action_at=NOW - minutes(20)))
    assert _holds(Guard.COOLING_DOWN, unnamed, policy=a_policy(quick, slow))
    # No rule speaks of that action any more: the usual cooldown counts.
    rebooted = _fleet(a_sick_state(last_action=REBOOT, last_action_at=NOW - minutes(9)))
    assert _holds(Guard.COOLING_DOWN, rebooted, policy=a_policy(quick))


def test_a_look_that_ended_in_nothing_waits_a_minute():
    assert _holds(Guard.COOLING_DOWN, _fleet(a_sick_state(withdrawn_at=NOW - seconds(59))))
    assert not _holds(Guard.COOLING_DOWN, _fleet(a_sick_state(withdrawn_at=NOW - seconds(60))))


def test_advice_is_not_repeated_within_the_cooldown():
    advised = _fleet(a_sick_state(advised_at=NOW - minutes(9)))
    assert _holds(Guard.COOLING_DOWN, advised, step=replace(_step(), mode=Mode.ADVISE))
    assert not _holds(Guard.COOLING_DOWN, advised, step=replace(_step(), mode=Mode.ACT))


def test_evidence_that_is_gone_or_old():
    well = _fleet(a_state(episode=an_episode()))
    assert _holds(Guard.EVIDENCE_STALE, well)
    old = _fleet(a_sick_state(probes=probes_with(*DEAD_AGENT, age=seconds(61))))
    assert _holds(Guard.EVIDENCE_STALE, old)
    cut = _fleet(a_sick_state(path=a_broken_path(times=1)))
    assert _holds(Guard.EVIDENCE_STALE, cut)
    acted = _fleet(a_sick_state(last_action_at=NOW - seconds(4)))
    assert _holds(Guard.EVIDENCE_STALE, acted)


def test_the_newest_answer_from_inside_must_not_be_silence():
    probes = probes_with(*DEAD_AGENT)
    for probe in (ProbeName.AGENT_PROCESS, ProbeName.AGENT_LINK, ProbeName.DISK):
        probes[probe] = probes_with(unknown=(probe,))[probe]._replace(observed_at=NOW - seconds(1))
    assert _holds(Guard.EVIDENCE_STALE, _fleet(a_sick_state(probes=probes)))


def test_a_vm_must_have_shown_its_marks():
    fresh = _step()
    for marks in (GuestMarks(), replace(fresh.marks, boot_id=None)):
        assert _holds(Guard.EVIDENCE_STALE, step=replace(fresh, marks=marks))
    assert _holds(Guard.EVIDENCE_STALE, _fleet(a_sick_state(marks_at=None)))
    assert _holds(Guard.EVIDENCE_STALE, _fleet(a_sick_state(marks_at=NOW - minutes(2))))


@pytest.mark.parametrize("leg", [Leg.INNER_HOST_KEY, Leg.JUMP_HOST_KEY])
def test_host_key_changed(leg: Leg):
    assert _holds(Guard.HOST_KEY_CHANGED, _fleet(a_sick_state(path=a_broken_path(leg, times=1))))
    assert not _holds(Guard.HOST_KEY_CHANGED, _fleet(a_sick_state(path=None)))


def test_log_not_followed():
    lost = judge(_fleet(a_sick_state(log=LogMemory())))
    assert [hold.reason.guard for hold in lost.plan.holds] == [Guard.LOG_NOT_FOLLOWED]
    assert _holds(Guard.LOG_NOT_FOLLOWED, step=replace(_step(), log_position=None))


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({"booted_at": NOW - seconds(299)}, True),
        ({"booted_at": NOW - seconds(300)}, False),
        ({"target": a_target(created_at=NOW - seconds(299)), "booted_at": None}, True),
        ({"target": a_target(created_at=None), "booted_at": None}, True),
        ({"target": a_target(created_at=None)}, False),
        ({"state_since": NOW - seconds(299)}, True),
        # Seen for the first time a moment ago, by a daemon that has just started: says nothing.
        ({"state_since": NOW - seconds(30), "first_seen_at": NOW - seconds(29)}, False),
    ],
)
def test_too_young(changes: dict[str, Any], holds: bool):
    assert _holds(Guard.TOO_YOUNG, _fleet(a_sick_state(**changes))) is holds


@pytest.mark.parametrize(("stood", "holds"), [(59, True), (60, False), (-10, True)])
def test_not_long_enough(stood: int, holds: bool):
    step = _step()
    since = NOW - seconds(stood)
    young = replace(step, diagnosis=replace(step.diagnosis, since=since))
    reason = _ask(Guard.NOT_LONG_ENOUGH, step=young)
    assert (reason is not None) is holds
    if reason is not None:
        assert reason.until == since + minutes(1)


def test_no_rule_of_that_name():
    assert _holds(Guard.NO_RULE, step=replace(_step(), rule="another"))
    assert not _holds(Guard.NOT_LONG_ENOUGH, step=replace(_step(), rule="another"))


def test_a_vm_that_is_not_judged_sick_is_not_touched():
    assert _holds(Guard.NOT_CONFIRMED, sick=())


def test_a_reboot_needs_two_kinds_of_evidence():
    reboot = _step(REBOOT)
    assert not _holds(Guard.NOT_CONFIRMED, step=reboot)
    inside = {p: m for p, m in probes_with(*DEAD_AGENT).items() if m.source is Source.SSH}
    assert _holds(Guard.NOT_CONFIRMED, _fleet(a_sick_state(probes=inside)), step=reboot)
    assert not _holds(Guard.NOT_CONFIRMED, _fleet(a_sick_state(probes=inside)))


def test_a_symptom_is_not_treated():
    step = _step()
    cause = DiagnosisCode.ZONE_WIDE_FAILURE
    marked = replace(step, diagnosis=replace(step.diagnosis, suppressed_by=cause))
    assert _holds(Guard.SUPPRESSED, step=marked)


def test_what_the_api_user_may_call():
    reboot = _step(REBOOT)
    assert not _holds(Guard.CAPABILITY_MISSING, step=reboot)
    assert _holds(Guard.CAPABILITY_MISSING, _fleet(capabilities=None), step=reboot)
    for missing in API_COMMANDS:
        less = _fleet(capabilities=API_COMMANDS - {missing})
        assert _holds(Guard.CAPABILITY_MISSING, less, step=reboot)
    assert not _holds(Guard.CAPABILITY_MISSING, _fleet(capabilities=None))


def test_an_unknown_host_is_no_host():
    lost = a_sick_state(target=a_target(host_id=HostId("nobody")), first_seen_at=LONG_AGO)
    assert _holds(Guard.HYPERVISOR_DOWN, _fleet(lost))
