"""In a storm the first and the last of each class are told, and everything is counted."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from stackward.catalog.signatures import Hit, Signature
from stackward.catalog.telling import Telling
from stackward.model.sighting import EventClass, Severity

CLASSES = [EventClass.AGENT_READY, EventClass.TLS_FAILURE, EventClass.OOM, EventClass.BENIGN]


def hits(events: list[EventClass]) -> list[Hit]:
    return [
        Hit(
            Signature(name="x", event=event, severity=Severity.INFO, match=None),
            event,
            None,
            None,
            n,
        )
        for n, event in enumerate(events)
    ]


@given(st.lists(st.sampled_from(CLASSES)), st.integers(1, 5))
def test_every_event_is_told_or_counted_once_and_first_and_last_are_told(events, most):
    telling = Telling(most)
    for hit in hits(events):
        telling.add(hit)
    told = list(telling.told())
    assert Counter(hit.event for hit in told) + telling.counted == Counter(events)
    assert EventClass.BENIGN not in {hit.event for hit in told}
    places = {hit.place for hit in told}
    for event in set(events) - {EventClass.BENIGN}:
        assert events.index(event) in places
        assert len(events) - 1 - events[::-1].index(event) in places
    assert len(told) <= most + 2 * len(CLASSES)
    assert telling.shed == len(events) - len(told) - events.count(EventClass.BENIGN)


def test_what_is_little_is_all_told():
    telling = Telling()
    for hit in hits([EventClass.OOM] * 5):
        telling.add(hit)
    assert [hit.place for hit in telling.told()] == [0, 1, 2, 3, 4]
    assert telling.shed == 0
