"""Who is new, who changed, who is gone."""

from dataclasses import replace

from stackward.core.inventory import EMPTY_PATIENCE, FORGET_AFTER, fold_inventory
from stackward.core.state import TargetState
from stackward.model.identity import HostId, TargetId
from stackward.model.target import CloudState
from stackward.model.verdict import ProbeName
from tests.builders import NOW, a_state, a_target, an_inventory, minutes, seconds


def _map(*states: TargetState) -> dict[TargetId, TargetState]:
    return {state.target.id: state for state in states}


def test_a_vm_seen_for_the_first_time_starts_with_nothing():
    fold = fold_inventory({}, an_inventory(a_target()), NOW + seconds(1))
    (state,) = fold.changed
    assert (state.first_seen_at, state.listed_at) == (NOW + seconds(1), NOW)
    assert (state.probes, state.episode, state.predecessor_id) == ({}, None, None)


def test_a_recreated_vm_takes_over_the_service_of_the_one_that_vanished():
    old, new = a_state("v-2-VM"), a_target("v-9-VM")
    fold = fold_inventory(_map(old), an_inventory(new), NOW)
    assert fold.gone == (old.target.id,)
    assert fold.changed[0].predecessor_id == old.target.id
    assert fold.departed == {}


def test_a_successor_that_comes_some_listings_later_is_joined_too():
    old, new = a_state("v-2-VM"), a_target("v-9-VM")
    neighbour = a_state("s-1-VM")
    first = fold_inventory(_map(old, neighbour), an_inventory(neighbour.target), NOW)
    assert first.departed == {old.target.service: old.target.id}
    second = fold_inventory(
        _map(*first.changed),
        an_inventory(neighbour.target, new, at=NOW + minutes(3)),
        NOW + minutes(3),
        first.departed,
    )
    assert [state.predecessor_id for state in second.changed] == [None, old.target.id]
    assert second.departed == {}


def test_a_successor_seen_beside_its_dying_predecessor_is_joined():
    dying = a_state("v-2-VM", target=a_target(cloud_state=CloudState.EXPUNGING))
    new = a_target("v-9-VM")
    fold = fold_inventory(_map(dying), an_inventory(dying.target, new), NOW)
    assert fold.changed[1].predecessor_id == dying.target.id
    after = fold_inventory(
        _map(*fold.changed), an_inventory(new, at=NOW + minutes(1)), NOW + minutes(1)
    )
    assert after.departed == {}


def test_a_second_vm_beside_a_living_one_succeeds_nobody():
    first = a_state("s-1-VM")
    fold = fold_inventory(_map(first), an_inventory(first.target, a_target("s-9-VM")), NOW)
    assert [state.predecessor_id for state in fold.changed] == [None, None]


def test_another_role_or_zone_succeeds_nobody():
    fold = fold_inventory(_map(a_state("s-1-VM")), an_inventory(a_target("v-2-VM")), NOW)
    assert fold.changed[0].predecessor_id is None


def test_a_migrated_vm_stays_itself_and_what_was_seen_by_the_old_way_is_dropped():
    state = a_state()
    moved = replace(state.target, host_id=HostId("host-2"))
    (after,) = fold_inventory(_map(state), an_inventory(moved), NOW).changed
    assert after.path is None
    assert set(after.probes) == {
        ProbeName.CLOUD_STATE,
        ProbeName.CLOUD_AGENT,
        ProbeName.DATABASE_AGENT,
    }
    assert (after.log, after.marks) == (state.log, state.marks)
    assert after.first_seen_at == state.first_seen_at


def test_a_change_of_state_is_dated():
    state = a_state()
    stopped = replace(state.target, cloud_state=CloudState.STOPPED)
    (after,) = fold_inventory(_map(state), an_inventory(stopped), NOW).changed
    assert after.state_since == NOW
    (same,) = fold_inventory(_map(state), an_inventory(state.target), NOW).changed
    assert same.state_since == state.state_since


def test_a_late_listing_changes_and_forgets_nobody():
    state = a_state(listed_at=NOW)
    changed = replace(state.target, cloud_state=CloudState.STOPPED)
    late = NOW - seconds(30)
    assert fold_inventory(_map(state), an_inventory(changed, at=late), NOW).changed == ()
    other = an_inventory(a_target("s-1-VM"), at=late)
    assert fold_inventory(_map(state), other, NOW).gone == ()


def test_a_listing_with_unreadable_rows_forgets_nobody_who_may_be_one_of_them():
    state = a_state()
    holes = an_inventory(a_target("s-1-VM"), unreadable=("row 2",))
    assert fold_inventory(_map(state), holes, NOW).gone == ()
    next_day = NOW + FORGET_AFTER
    holes = replace(holes, observed_at=next_day)
    assert fold_inventory(_map(state), holes, next_day).gone == (state.target.id,)


def test_an_empty_listing_is_not_believed_at_once():
    state = a_state()
    assert fold_inventory(_map(state), an_inventory(), NOW).gone == ()
    later = NOW + EMPTY_PATIENCE
    assert fold_inventory(_map(state), an_inventory(at=later), later).gone == (state.target.id,)
