"""The bookkeeping itself: what it must find."""

from dataclasses import replace

from tests.simulation.books import (
    Request,
    Row,
    faults_in_the_books,
    intent_behind,
    open_intents,
)

REBOOT = "reboot-system-vm"


def rows(*kinds: str, intent_id: str = "one", vm: str = "s-1-VM", outcome: str = "succeeded"):
    return [
        Row(number, kind, vm, intent_id, REBOOT, outcome if kind == "outcome" else None)
        for number, kind in enumerate(kinds, 1)
    ]


WHOLE = rows("intent", "begun", "accepted", "outcome")
REQUEST = Request("s-1-VM", REBOOT, "one")


def test_one_request_and_a_whole_intent_are_well():
    assert faults_in_the_books([REQUEST], WHOLE) == []


def test_an_intent_that_was_asked_for_twice_is_found():
    assert faults_in_the_books([REQUEST, REQUEST], WHOLE) == [
        "intent one was asked for 2 times",
        "2 requests and 1 BEGUN rows",
    ]


def test_a_request_before_its_begun_row_is_found():
    request = replace(REQUEST, intent_id=intent_behind("s-1-VM", REBOOT, rows("intent")))
    assert "no BEGUN row" in faults_in_the_books([request], WHOLE)[0]


def test_an_intent_without_outcome_or_with_two_is_found():
    assert faults_in_the_books([], rows("intent", "begun"))
    assert faults_in_the_books([], rows("intent", "outcome", "outcome"))


def test_what_was_done_may_not_call_itself_withdrawn():
    withdrawn = rows("intent", "begun", "outcome", outcome="withdrawn")
    assert faults_in_the_books([REQUEST], withdrawn)
    assert faults_in_the_books([replace(REQUEST, is_executed=False)], withdrawn) == []


def test_a_request_belongs_to_the_newest_intent_of_its_vm_that_had_begun():
    journal = [
        *rows("intent", "begun", "outcome", intent_id="old"),
        *rows("intent", "begun", intent_id="new"),
        *rows("intent", "begun", intent_id="other", vm="v-2-VM"),
    ]
    assert intent_behind("s-1-VM", REBOOT, journal) == "new"
    assert intent_behind("s-1-VM", "restart-agent", journal) is None


def test_open_intents_are_told_with_how_far_they_came():
    journal = [*WHOLE, *rows("intent", intent_id="two"), *rows("intent", "begun", intent_id="3")]
    assert open_intents(journal) == {"two": "intent", "3": "begun"}
