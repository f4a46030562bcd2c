"""What counts as proof, and what does not."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from stackward.act.errand import Errand
from stackward.act.proof import Proof, weigh
from stackward.catalog.actions import ACTIONS
from stackward.core.snapshot import Snapshot, Totals
from stackward.core.state import FleetView, LogMemory, ProbeMemory, TargetState
from stackward.model.entry import Entry, EntryKind
from stackward.model.guest import GuestMarks
from stackward.model.identity import IntentId
from stackward.model.plan import ActionName, Plan
from stackward.model.target import AgentState
from stackward.model.verdict import Failed, Passed, ProbeName, Sign, Source, Unknown, Verdict
from tests.builders import NOW, a_fleet, a_policy, a_position, a_state, a_target, an_api, seconds

BEGUN = NOW
SEEN = NOW + seconds(60)
OLD = GuestMarks(boot_id="boot-1", invocation_id="a" * 32)
NEW = replace(OLD, invocation_id="b" * 32)
DOWN = a_target(agent_state=AgentState.ALERT)
UP = a_target(agent_state=AgentState.UP)


def an_errand(action: ActionName = ActionName.RESTART_AGENT, **changes: Any) -> Errand:
    errand = Errand(
        intent=Entry(kind=EntryKind.INTENT, at=BEGUN - seconds(5), text=""),
        intent_id=IntentId("intent-1"),
        target_id=UP.id,
        action=ACTIONS[action],
        marks=OLD,
        log_position=a_position(1000, generation=2),
        verify_within=timedelta(minutes=3),
        begun_at=BEGUN,
        before=DOWN,
    )
    return replace(errand, **changes)


def said(verdict: Verdict, source: Source = Source.API, at: Any = SEEN) -> ProbeMemory:
    return ProbeMemory(verdict=verdict, source=source, observed_at=at, since=at)


def a_well_state(**changes: Any) -> TargetState:
    """Restarted: a new InvocationID, a ready line behind the place, Up."""
    return a_state(
        target=UP,
        marks=NEW,
        marks_at=SEEN,
        log=LogMemory(ready_position=a_position(1000, generation=2), ready_seen_at=SEEN),
        probes={ProbeName.CLOUD_AGENT: said(Passed("Up"))},
    )._replace(
        **changes,
    )


def weighed(errand: Errand, state: TargetState, **fleet: Any) -> Proof:
    view: FleetView = a_fleet(state, **fleet)
    snapshot = Snapshot(
        taken_at=SEEN,
        started_at=NOW,
        round_number=1,
        fleet=view,
        policy=a_policy(),
        health={},
        diagnoses={},
        fleet_diagnoses=(),
        plan=Plan(made_at=SEEN),
        totals=Totals(),
    )
    return weigh(errand, snapshot)


def test_all_three_sides_together_are_proof():
    assert weighed(an_errand(), a_well_state()).is_complete


def test_no_picture_and_no_vm_prove_nothing():
    assert not weigh(an_errand(), None).is_complete
    assert not weighed(an_errand(), a_state("v-9-VM")).is_complete


def ready(generation: int, offset: int, at: Any = SEEN) -> LogMemory:
    return LogMemory(ready_position=a_position(offset, generation=generation), ready_seen_at=at)


@pytest.mark.parametrize(
    ("log", "counts"),
    [
        (ready(2, 1000), True),  # it begins where reading had come to
        (ready(2, 999), False),
        (ready(3, 0), True),
        (ready(1, 99999), False),
        (ready(2, 2000, at=BEGUN), False),
        (LogMemory(), False),
    ],
)
def test_a_ready_line_counts_behind_the_recorded_place_alone(log: LogMemory, counts: bool):
    assert weighed(an_errand(), a_well_state(log=log)).is_complete is counts


def test_without_a_recorded_place_no_line_is_proof():
    assert not weighed(an_errand(log_position=None), a_well_state()).is_complete


@pytest.mark.parametrize(
    ("marks", "marks_at", "counts"),
    [
        (NEW, SEEN, True),
        (NEW, BEGUN, False),
        (NEW, None, False),
        (OLD, SEEN, False),
        (GuestMarks(), SEEN, False),
        (replace(OLD, boot_id="boot-2"), SEEN, True),
    ],
)
def test_a_new_life_is_a_mark_that_changed_and_was_seen_since(
    marks: Any, marks_at: Any, counts: bool
):
    proof = weighed(an_errand(), a_well_state(marks=marks, marks_at=marks_at))
    assert proof.is_new_life is counts
    assert proof.is_complete is counts


def test_where_systemd_tells_no_invocation_a_jvm_that_was_not_there_has_to_do():
    before = GuestMarks(boot_id="boot-1")
    alive = replace(before, agent_pid=812)
    assert weighed(an_errand(marks=before), a_well_state(marks=alive)).is_complete
    assert not weighed(an_errand(marks=alive), a_well_state(marks=alive)).is_complete


def test_a_new_start_of_the_agent_is_no_reboot():
    reboot = an_errand(ActionName.REBOOT_SYSTEM_VM)
    assert not weighed(reboot, a_well_state()).is_new_life
    booted = a_well_state(marks=replace(NEW, boot_id="boot-2"))
    assert weighed(reboot, booted).is_complete


def test_marks_that_were_never_known_do_not_make_a_reboot():
    unknown = an_errand(ActionName.REBOOT_SYSTEM_VM, marks=GuestMarks())
    assert not weighed(unknown, a_well_state()).is_new_life


def api(verdict: Verdict, at: Any = SEEN) -> Callable[..., TargetState]:
    return lambda **changes: a_well_state(
        probes={ProbeName.CLOUD_AGENT: said(verdict, at=at)}, **changes
    )


@pytest.mark.parametrize(
    ("make", "counts"),
    [
        (api(Passed("Up")), True),
        (api(Passed("Up"), at=BEGUN), False),
        (api(Failed(Sign.AGENT_NOT_UP, "Alert")), False),
        (api(Unknown("not asked")), False),
    ],
)
def test_the_api_is_a_witness_only_for_what_it_said_since(make: Any, counts: bool):
    assert weighed(an_errand(), make()).is_complete is counts


def test_an_up_that_was_up_all_along_counts_after_a_new_loss_or_after_two_pings():
    errand = an_errand(before=UP)
    make = api(Passed("Up"))
    assert not weighed(errand, make()).is_complete
    lost = a_target(disconnected_at=BEGUN + seconds(1))
    assert weighed(errand, make(target=lost)).is_complete
    assert not weighed(an_errand(before=lost), make(target=lost)).is_complete
    late = api(Passed("Up"), at=BEGUN + seconds(150))
    assert weighed(errand, late()).is_complete


def test_after_a_restart_nobody_knows_what_the_api_said_before():
    errand = an_errand(before=None, is_resumed=True)
    make = api(Passed("Up"))
    assert not weighed(errand, make()).is_complete
    assert weighed(errand, make(target=a_target(disconnected_at=BEGUN))).is_complete
    old_loss = a_target(disconnected_at=BEGUN - seconds(3600))
    assert not weighed(errand, make(target=old_loss)).is_complete


DOWN_API = {Source.API: an_api(is_up=False)}


def test_the_database_speaks_where_the_api_cannot_be_asked():
    state = a_well_state(probes={ProbeName.DATABASE_AGENT: said(Passed("Up"), Source.DATABASE)})
    assert not weighed(an_errand(), state).is_complete
    assert weighed(an_errand(), state, sources=DOWN_API).is_complete


def test_the_link_inside_speaks_where_no_other_witness_can():
    link = {ProbeName.AGENT_LINK: said(Passed("connected"), Source.SSH)}
    silent = a_target(agent_state=AgentState.NOT_TOLD)
    assert weighed(an_errand(), a_well_state(probes=link, target=silent)).is_complete
    assert weighed(an_errand(), a_well_state(probes=link), sources=DOWN_API).is_complete
    assert not weighed(an_errand(), a_well_state(probes=link)).is_complete


def test_after_a_restart_the_link_stands_for_a_ready_line_that_was_read_before():
    probes = {
        ProbeName.CLOUD_AGENT: said(Passed("Up")),
        ProbeName.AGENT_LINK: said(Passed("connected"), Source.SSH),
    }
    state = a_well_state(probes=probes, log=LogMemory())
    assert not weighed(an_errand(), state).is_complete
    assert weighed(an_errand(is_resumed=True), state).is_complete
