"""Events fold into the picture; views come out of it and stay as they were."""

from datetime import timedelta

from stackward.app.picture import Picture
from stackward.core.replay import Remembered
from stackward.core.state import LogMemory
from stackward.model.event import ManagementLogTold, SourceTold, StepBegun, TargetsListed
from stackward.model.identity import HostId, IntentId
from stackward.model.plan import ActionName
from stackward.model.verdict import Passed, ProbeName, Source
from tests.builders import NOW, VM, ZONE, a_position, a_sick_state, a_target, an_inventory, observed

HOUR = timedelta(hours=1)


def a_picture() -> Picture:
    picture = Picture(Remembered())
    picture.fold(TargetsListed(an_inventory(a_target())), NOW, HOUR)
    return picture


def view_of(picture: Picture):
    return picture.view(pause_reason=None, demotion=None, journal_trouble="", capabilities=None)


def test_a_view_stays_as_it_was_whatever_happens_later():
    picture = a_picture()
    before = view_of(picture)
    picture.fold(observed((ProbeName.AGENT_UNIT, Passed("active"))), NOW, HOUR)
    assert before.targets[VM].probes == {}
    assert view_of(picture).targets[VM].probes != {}


def test_what_changed_is_dirty_and_nothing_else():
    picture = Picture(Remembered())
    picture.fold(TargetsListed(an_inventory(a_target(), a_target("s-1-VM"))), NOW, HOUR)
    picture.dirty.clear()
    picture.fold(observed((ProbeName.AGENT_UNIT, Passed("active"))), NOW, HOUR)
    assert picture.dirty == {VM}


def test_who_is_gone_is_handed_back_and_forgotten():
    picture = a_picture()
    later = NOW + timedelta(seconds=20)
    other = a_target("s-1-VM")
    gone = picture.fold(TargetsListed(an_inventory(other, at=later)), later, HOUR)
    assert [state.target.id for state in gone] == [VM]
    assert set(picture.targets) == {other.id}
    assert VM not in picture.dirty


def test_a_migrated_vm_keeps_its_episode():
    picture = a_picture()
    picture.put(picture.targets[VM]._replace(episode=a_sick_state().episode))
    later = NOW + timedelta(seconds=20)
    moved = a_target(host_id=HostId("host-2"), control_address="169.254.9.9")
    picture.fold(TargetsListed(an_inventory(moved, at=later)), later, HOUR)
    state = picture.targets[VM]
    assert state.episode is not None
    assert state.target.host_id == "host-2"


def test_a_source_is_down_since_it_first_did_not_answer():
    picture = a_picture()
    for second, is_up in enumerate((True, False, False)):
        at = NOW + timedelta(seconds=second)
        picture.fold(SourceTold(source=Source.API, is_up=is_up, detail="", at=at), at, HOUR)
    memory = view_of(picture).sources[Source.API]
    assert (memory.is_up, memory.since, memory.told_at, memory.last_up_at) == (
        False,
        NOW + timedelta(seconds=1),
        NOW + timedelta(seconds=2),
        NOW,
    )


def test_a_step_counts_against_its_zone_from_its_beginning():
    picture = a_picture()
    state = picture.targets[VM]._replace(
        in_flight=IntentId("intent"),
        in_flight_action=ActionName.RESTART_AGENT,
    )
    picture.put(state)
    begun = StepBegun(target_id=VM, intent_id=IntentId("intent"), at=NOW)
    picture.fold(begun, NOW, HOUR)
    assert view_of(picture).zone_actions == {ZONE.id: (NOW,)}


def test_a_listing_by_the_new_clock_that_came_before_the_jump_was_seen_is_not_moved_ahead():
    picture = a_picture()
    later = NOW + HOUR + timedelta(seconds=2)
    picture.fold(TargetsListed(an_inventory(a_target(), at=later)), later, HOUR)
    picture.set_clock_by(HOUR, later)
    assert picture.targets[VM].listed_at == later
    assert picture.inventory_at == later
    assert picture.targets[VM].first_seen_at <= later
    picture.fold(TargetsListed(an_inventory(a_target(host_id=None), at=later)), later, HOUR)
    assert picture.targets[VM].target.host_id is None  # it is listed on


def test_a_management_log_goes_on_with_the_gaps_of_an_earlier_run():
    saved = LogMemory(read_to=a_position(500), gaps=2, gap_bytes=77)
    picture = Picture(Remembered(logs={"ms-1": saved}))
    picture.fold(ManagementLogTold(name="ms-1", is_followed=True, at=NOW, gaps=1), NOW, HOUR)
    log = picture.management_logs["ms-1"]
    assert (log.gaps, log.gap_bytes, log.position) == (3, 77, a_position(500))
