"""What people are shown: what is wrong first, in sentences, and nothing that could do harm."""

import json
import re
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.builders import (
    NOW,
    ZONE,
    a_broken_path,
    a_fleet,
    a_policy,
    a_rule,
    a_sick_state,
    a_state,
    a_target,
)
from tests.judging import judge
from tests.unit.telemetry.test_metrics import a_snapshot

from stackward.core.state import Episode
from stackward.core.timeline import keep
from stackward.errors import Leg
from stackward.model.correlation import LogLine, ManagementLog, Origin, Timeline
from stackward.model.diagnosis import DiagnosisCode
from stackward.model.sighting import EventClass, Severity
from stackward.model.verdict import Sign
from stackward.web import page, views

NASTY = '<script>alert("`&\'")</script>'


def a_picture(*states, policy=None, **changes):
    """A snapshot with the judgement that the control loop would have made."""
    judged = judge(a_fleet(*states, **changes), policy)
    return a_snapshot(
        fleet=judged.fleet,
        policy=judged.policy,
        health=judged.health,
        diagnoses=judged.diagnoses,
        fleet_diagnoses=judged.fleet_diagnoses,
        plan=judged.plan,
    )


def text_of(html: str) -> str:
    return re.sub(r"<[^>]+>", " ", html.partition("</style>")[2])


def test_what_is_wrong_stands_before_every_table():
    html = page.fleet(a_picture(a_state("a-1-VM"), a_sick_state("s-1-VM")), NOW)
    cause = "The agent of SSVM s-1-VM in zone north is dead"
    assert html.index(cause) < html.index("<table")
    assert text_of(html).index("1 failed") < text_of(html).index(cause)


def test_a_sick_vm_is_told_with_what_comes_next():
    html = page.fleet(a_picture(a_sick_state("s-1-VM"), policy=a_policy(a_rule())), NOW)
    assert "<b>Next:</b>" in html
    assert "restart-agent" in html


def test_where_all_is_well_there_is_nothing_to_read_first():
    html = page.fleet(a_picture(a_state("s-1-VM"), a_state("v-2-VM")), NOW)
    assert 'class="card' not in html
    assert "2 passed" in html


def test_a_cause_that_leaves_a_vm_passed_is_told_first_all_the_same():
    shut_out = a_state("z-1-VM", path=a_broken_path(Leg.INNER_HOST_KEY))
    picture = a_picture(a_state("a-1-VM"), shut_out)
    html = page.fleet(picture, NOW)
    assert html.count('class="card') == 1
    assert html.index("shows another host key") < html.index("<table")
    rows = [views.vm_row(picture, state) for state in views.ordered(picture.fleet)]
    assert min(rows, key=views.urgency)["name"] == "z-1-VM"


def test_a_pause_is_told_before_anything_else():
    html = page.fleet(a_picture(a_sick_state("s-1-VM"), pause_reason="upgrade"), NOW)
    assert html.index("Paused, nothing is done: upgrade") < html.index("is dead")


def test_a_symptom_is_not_told_as_a_cause():
    behind = [
        a_state(name, path=a_broken_path(Leg.JUMP_TCP), probes={}) for name in ("s-1-VM", "v-2-VM")
    ]
    html = page.fleet(a_picture(*behind), NOW)
    assert html.count('class="card') == 1
    assert html.count("a symptom of JumpUnreachable") == len(behind)


@pytest.mark.parametrize("show", ["fleet", "vm"])
def test_what_comes_from_outside_is_only_text(show):
    target = a_target(NASTY, zone_name=NASTY, host_name=NASTY)
    picture = a_picture(a_sick_state("s-1-VM", target=target), pause_reason=NASTY)
    html = page.fleet(picture, NOW) if show == "fleet" else page.vm(picture, NOW, NASTY)
    assert html is not None
    assert "<script" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize("pattern", [r"<script", r"\son\w+=", r"https?://", r"@import", r"url\("])
def test_the_page_needs_nothing_but_itself(pattern):
    picture = a_picture(a_sick_state("s-1-VM"))
    for html in (page.fleet(picture, NOW), page.vm(picture, NOW, "s-1-VM"), page.starting()):
        assert html is not None
        assert not re.search(pattern, html)


def test_the_page_of_a_vm_says_what_to_do_and_what_not():
    html = page.vm(a_picture(a_sick_state("s-1-VM")), NOW, "s-1-VM")
    assert html is not None
    for title in ("What follows", "What to do", "What not to do", "Now"):
        assert f"<dt>{title}</dt>" in html
    assert "<code>systemctl reset-failed cloud; systemctl restart cloud</code>" in html


def test_evidence_is_a_table_with_ages_and_the_bad_first():
    html = page.vm(a_picture(a_state("s-1-VM", Sign.DISK_FULL)), NOW, "s-1-VM")
    assert html is not None
    table = text_of(html).partition("Who says what")[2]
    assert "5 s ago" in table
    assert table.index("failed") < table.index("passed")


def test_no_page_speaks_python_or_iso():
    picture = a_picture(a_sick_state("s-1-VM"), policy=a_policy(a_rule()))
    for html in (page.fleet(picture, NOW), page.vm(picture, NOW, "s-1-VM")):
        assert html is not None
        assert not re.search(r"\bNone\b|\dT\d\d:|timedelta|\+00:00", text_of(html))


def test_a_disabled_zone_is_named_as_such():
    html = page.fleet(
        a_picture(a_state("s-1-VM"), zones={ZONE.id: replace(ZONE, is_enabled=False)}), NOW
    )
    assert "Zone north disabled" in " ".join(text_of(html).split())


def test_a_name_that_leads_nowhere_has_no_page():
    assert page.vm(a_picture(a_state("s-1-VM")), NOW, "s-9-VM") is None


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(seconds=-3), "0 s"),
        (timedelta(milliseconds=1400), "1 s"),
        (timedelta(seconds=119), "119 s"),
        (timedelta(minutes=2), "2 min"),
        (timedelta(minutes=119), "119 min"),
        (timedelta(hours=5), "5 h"),
        (timedelta(days=3), "3 days"),
    ],
)
def test_a_length_of_time_is_said_in_one_unit(length, words):
    assert views.spoken(length.total_seconds()) == words


def test_an_empty_listing_is_told_and_a_first_one_awaited():
    assert "lists no system VM at all" in text_of(page.fleet(a_picture(), NOW))
    first = replace(a_picture(), is_ready=False)
    assert "lists no system VM at all" not in text_of(page.fleet(first, NOW))


def a_told_picture():
    """A sick VM of which two logs speak, in an episode."""
    when = NOW - timedelta(minutes=6)
    lost = LogLine(
        origin=Origin.VM,
        log="",
        event=EventClass.MS_UNREACHABLE,
        severity=Severity.ERROR,
        text=f"java.net.NoRouteToHostException: No route to host {NASTY}",
        at=when,
        seen_at=when,
        times=7,
    )
    episode = Episode(
        id="e", opened_at=NOW - timedelta(minutes=5), diagnosis=DiagnosisCode.AGENT_DISCONNECTED
    )
    state = a_sick_state("s-1-VM", timeline=keep(Timeline(), [lost]), episode=episode)
    silent = ManagementLog(name="ms-1", is_followed=False, detail="no way to it", since=when)
    return a_picture(state, management_logs={"ms-1": silent})


def test_the_page_of_a_vm_says_where_the_cause_lies_and_by_which_lines():
    html = page.vm(a_told_picture(), NOW, "s-1-VM")
    assert html is not None
    assert "<dt>Where it lies</dt><dd>The cause lies in the network" in html
    assert "<b>java.net.NoRouteToHostException" in html
    assert "(7 times)" in html
    assert "<script" not in html
    assert "The log of ms-1 is not followed: no way to it." in html


def test_a_log_that_is_not_followed_is_told_first():
    html = text_of(page.fleet(a_told_picture(), NOW))
    assert "The log of ms-1 is not followed for 6 min: no way to it" in html


def test_the_json_of_a_vm_holds_the_whole_timeline():
    told = views.vm(a_told_picture(), "s-1-VM", NOW)
    assert told is not None
    logs = json.loads(views.dumps(told))["explanation"]["logs"]
    assert logs["culprit"] == "network"
    assert logs["timeline"] == logs["evidence"]
    status = json.loads(views.dumps(views.status(a_told_picture(), NOW)))
    assert status["management_logs"][0]["is_followed"] is False
