"""Answers for people: they fit the terminal, say what is wrong first, and are never markup."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console
from tests.builders import NOW, a_policy, a_rule, a_sick_state, a_state, a_target
from tests.unit.web.test_page import a_picture, a_told_picture

from stackward.cli import show
from stackward.web import views

NARROW = 60


def shown(what, answer, width=NARROW) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    what(console, answer)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def a_sick_picture():
    return a_picture(a_state("a-1-VM"), a_sick_state("s-1-VM"), policy=a_policy(a_rule()))


def in_one_line(text: str) -> str:
    return " ".join(text.split())


def test_the_sick_stand_before_the_well():
    text = shown(show.status, views.status(a_sick_picture(), NOW))
    assert text.index("s-1-VM") < text.index("a-1-VM")


def test_a_sick_vm_is_told_with_cause_and_what_comes_next():
    text = in_one_line(shown(show.status, views.status(a_sick_picture(), NOW)))
    assert "The agent of SSVM s-1-VM in zone north is dead" in text
    assert "-> " in text
    assert "restart-agent" in text


@pytest.mark.parametrize("command", ["status", "plan", "explanation"])
def test_a_narrow_terminal_is_not_overrun(command):
    picture = a_sick_picture()
    answers = {
        "status": views.status(picture, NOW),
        "plan": views.plan(picture, NOW),
        "explanation": views.vm(picture, "s-1-VM", NOW),
    }
    text = shown(getattr(show, command), answers[command])
    assert max(map(len, text.splitlines())) <= NARROW


def test_an_explanation_says_what_to_do_and_what_not():
    text = in_one_line(shown(show.explanation, views.vm(a_sick_picture(), "s-1-VM", NOW)))
    for word in ("What follows", "What to do", "What not", "Now", "VERDICT"):
        assert word in text


def test_a_pause_is_told_by_every_answer_about_the_fleet():
    picture = a_picture(a_sick_state("s-1-VM"), pause_reason="upgrade")
    for what, answer in (
        (show.status, views.status(picture, NOW)),
        (show.plan, views.plan(picture, NOW)),
    ):
        assert "Paused, nothing is done: upgrade" in shown(what, answer)


def test_where_nothing_is_sick_there_is_nothing_to_do():
    text = shown(show.plan, views.plan(a_picture(a_state("s-1-VM")), NOW))
    assert "nothing to do" in text


def test_before_the_first_listing_no_vm_is_known():
    assert "none is known yet" in shown(show.status, views.status(a_picture(), NOW))


def test_an_empty_listing_is_not_shown_as_all_well():
    nobody = a_picture()
    assert "lists no system VM" in in_one_line(shown(show.status, views.status(nobody, NOW)))
    assert "nothing to do" not in shown(show.plan, views.plan(nobody, NOW))
    first = replace(nobody, is_ready=False)
    assert "lists no system VM" not in in_one_line(shown(show.status, views.status(first, NOW)))


def test_a_fleet_of_which_nobody_can_tell_is_not_shown_as_all_well():
    picture = a_picture(a_state("s-1-VM", probes={}))
    text = in_one_line(shown(show.plan, views.plan(picture, NOW)))
    assert "Nothing is sick" not in text
    assert "of 1 VMs nobody can tell" in text


def test_what_comes_from_outside_is_no_markup():
    target = a_target("[red]s-1[/red]")
    picture = a_picture(a_sick_state("s-1-VM", target=target))
    assert "[red]s-1[/red]" in shown(show.status, views.status(picture, NOW), width=200)


def test_the_journal_tells_kind_vm_and_text():
    row = {
        "sequence": 7,
        "at": "2026-03-01T12:00:00+00:00",
        "kind": "outcome",
        "outcome": {"kind": "succeeded"},
        "target_name": "s-1-VM",
        "action": "restart-agent",
        "text": "succeeded: [proof]",
    }
    text = in_one_line(shown(show.journal, [row], width=120))
    assert "7 2026-03-01 12:00:00 outcome: succeeded s-1-VM restart-agent" in text
    assert "succeeded: [proof]" in text


def test_an_empty_journal_says_so():
    assert "No such row" in shown(show.journal, [])


def test_an_explanation_shows_both_logs_and_marks_what_decides():
    answer = json.loads(views.dumps(views.vm(a_told_picture(), "s-1-VM", NOW) or {}))
    text = in_one_line(shown(show.explanation, answer, width=200))
    assert "Where The cause lies in the network" in text
    assert "> 2026-03-01 11:54:00 s-1-VM java.net.NoRouteToHostException" in text
    assert "(7 times)" in text


def test_a_log_that_is_not_followed_is_told():
    answer = json.loads(views.dumps(views.status(a_told_picture(), NOW)))
    text = in_one_line(shown(show.status, answer, width=200))
    assert "The log of ms-1 is not followed: no way to it" in text
