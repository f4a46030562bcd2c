"""The mailbox is bounded, and says what it dropped."""

from dataclasses import replace
from datetime import timedelta

from tests.builders import NOW, a_position

from stackward.app.inbox import Inbox
from stackward.model.event import Observed, PathTold, Sighted, StepFinished
from stackward.model.identity import IntentId, TargetId
from stackward.model.outcome import Outcome, OutcomeKind
from stackward.model.plan import ActionName
from stackward.model.sighting import EventClass, Severity, Sighting
from stackward.model.verdict import Source


def an_observation(name="vm", source=Source.SSH, age=0):
    return Observed(
        target_id=TargetId(name),
        source=source,
        observations=(),
        observed_at=NOW - timedelta(seconds=age),
    )


async def test_events_come_out_in_the_order_of_their_arrival():
    inbox = Inbox()
    events = [an_observation("a"), an_observation("b"), an_observation("a")]
    for event in events:
        inbox.put(event)
    assert inbox.take(10) == events


async def test_when_full_an_observation_replaces_its_older_sister():
    inbox = Inbox(capacity=1)
    inbox.put(PathTold(target_id=TargetId("z"), leg=None, detail="", at=NOW))
    older, newer = an_observation("a", age=2), an_observation("a", age=1)
    inbox.put(older)
    inbox.put(newer)
    assert inbox.take(10)[1:] == [newer]
    assert inbox.dropped["observed"] == 1


async def test_when_full_it_never_grows_past_twice_its_capacity():
    inbox = Inbox(capacity=10)
    for number in range(1000):
        inbox.put(an_observation(f"vm-{number}"))
    assert len(inbox) <= 20
    assert sum(inbox.dropped.values()) == 980


async def test_when_full_news_of_the_way_still_gets_in():
    inbox = Inbox(capacity=1)
    inbox.put(an_observation())
    news = PathTold(target_id=TargetId("vm"), leg=None, detail="", at=NOW)
    inbox.put(news)
    assert news in inbox.take(10)


async def test_a_flood_of_observations_pushes_no_outcome_out():
    inbox = Inbox(capacity=2)
    outcome = StepFinished(
        target_id=TargetId("vm"),
        intent_id=IntentId("intent"),
        action=ActionName.RESTART_AGENT,
        outcome=Outcome(OutcomeKind.SUCCEEDED, "proved"),
        at=NOW,
    )
    inbox.put(outcome)
    for number in range(100):
        inbox.put(an_observation(f"vm-{number}"))
    assert len(inbox) <= 4
    assert inbox.take(1) == [outcome]


async def test_taking_is_bounded_and_keeps_the_rest():
    inbox = Inbox()
    for number in range(5):
        inbox.put(an_observation(f"vm-{number}"))
    assert len(inbox.take(2)) == 2
    assert len(inbox) == 3


async def test_sightings_that_found_no_room_are_counted():
    inbox = Inbox(capacity=0)
    sighting = Sighting(
        event=EventClass.AGENT_READY,
        severity=Severity.INFO,
        pattern="ready",
        text="Ready",
        line_start=a_position(),
        seen_at=NOW,
    )
    inbox.put(
        Sighted(target_id=TargetId("vm"), sightings=(sighting,), position=a_position(), at=NOW)
    )
    assert (len(inbox), inbox.dropped["sighted"]) == (0, 1)


def a_sighting(event=EventClass.AGENT_READY, offset=1000):
    return Sighting(
        event=event,
        severity=Severity.INFO,
        pattern="some",
        text="a line",
        line_start=a_position(offset),
        seen_at=NOW,
    )


async def test_a_storm_of_sightings_keeps_the_places_and_the_ready_line_and_no_more():
    inbox = Inbox(sightings_max=10)
    noise = [a_sighting(EventClass.TLS_FAILURE, offset) for offset in range(4)]
    stretch = (*noise, a_sighting(), *noise)
    events = [
        Sighted(target_id=TargetId("vm"), sightings=stretch, position=a_position(number), at=NOW)
        for number in range(100)
    ]
    events[1:] = [replace(event, counted={EventClass.TLS_FAILURE: 1}) for event in events[1:]]
    for event in events:
        inbox.put(event)
    taken = [event for event in inbox.take(1000) if isinstance(event, Sighted)]
    assert [event.position for event in taken] == [event.position for event in events]
    assert [len(event.sightings) for event in taken] == [9] + [1] * 99
    assert [dict(event.counted) for event in taken[1:]] == [{EventClass.TLS_FAILURE: 9}] * 99
    assert inbox.dropped["sighted"] == 99 * 8
    inbox.put(events[0])
    assert inbox.take(1) == [events[0]]  # there is room again
