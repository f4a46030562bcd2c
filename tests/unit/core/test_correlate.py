"""Where a fault lies: a scenario for each cause, with clocks that agree and with one 60 s off."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackward.core.clues import ROWS, clue_of
from stackward.core.correlate import Scene, correlate, decide, spoken_line, with_outcome
from stackward.core.state import Attempt, Episode
from stackward.core.timeline import (
    LINES_KEPT,
    as_span,
    fold_management_log,
    keep,
    log_memory,
    moment,
    own_lines,
)
from stackward.model.correlation import Concern, Culprit, LogLine, ManagementLog, Origin, Timeline
from stackward.model.diagnosis import DiagnosisCode
from stackward.model.entry import Entry, EntryKind
from stackward.model.event import ManagementLogTold
from stackward.model.identity import IntentId
from stackward.model.plan import ActionName
from stackward.model.sighting import EventClass, Severity, Sighting
from tests.builders import NOW, a_position, a_state, minutes, seconds

OPENED = NOW - minutes(5)
E = EventClass
NO_SKEW, SKEW = timedelta(0), seconds(60)
NOTHING = Timeline()


def said(event: E, text: str, before: float, *, skew: timedelta = NO_SKEW, **more) -> LogLine:
    """A line of the VM, written `before` seconds before the episode, its clock off by `skew`."""
    truly_at = OPENED - seconds(before)
    usual = LogLine(
        origin=Origin.VM,
        log="",
        event=event,
        severity=Severity.ERROR,
        text=text,
        at=moment(truly_at + skew, truly_at + seconds(1), skew),
        seen_at=truly_at + seconds(1),
        logged_at=truly_at + skew,
        clock_offset=skew,
    )
    return replace(usual, **more)


def told(event: E, text: str, before: float, *, skew: timedelta = NO_SKEW, **more) -> LogLine:
    """The same of the management server."""
    return said(event, text, before, skew=skew, origin=Origin.MANAGEMENT, log="ms-1", **more)


def a_log(*lines: LogLine, silent_for: float = 0, **more) -> ManagementLog:
    """A followed log that has spoken every minute until `silent_for` minutes ago."""
    spoke = tuple(
        (NOW - minutes(ago)).replace(second=0) for ago in range(30, -1, -1) if ago >= silent_for
    )
    usual = ManagementLog(
        name="ms-1",
        is_followed=True,
        clock_offset=NO_SKEW,
        spoke_in=spoke,
        timeline=keep(NOTHING, lines),
    )
    return replace(usual, **more)


def scene(*lines: LogLine, log: ManagementLog | None = None, **more) -> Scene:
    logs = {} if log is None else {log.name: log}
    server = () if log is None else log.timeline.lines
    usual = Scene(
        name="s-12-VM",
        lines=(*lines, *server),
        now=NOW,
        logs=logs,
        clock_offset=NO_SKEW,
        opened_at=OPENED,
        diagnosis=DiagnosisCode.AGENT_DISCONNECTED,
    )
    return replace(usual, **more)


LOST = "Lost connection to host: 192.0.2.4. Attempting reconnection"
VAGUE = "Unable to connect to remote: is there a server running on port 8250"
NO_ROUTE = f"{VAGUE}? java.net.NoRouteToHostException: No route to host"
REFUSED = f"{VAGUE}? java.net.ConnectException: Connection refused"
BEHIND = "Found the following agents behind on ping: [4]"


def network(vm: timedelta, ms: timedelta) -> Scene:
    return scene(
        told(E.AGENT_DISCONNECT_EVENT, BEHIND, 30, skew=ms),
        said(E.AGENT_LOST_CONNECTION, LOST, 90, skew=vm),
        said(E.MS_UNREACHABLE, NO_ROUTE, 80, skew=vm),
        log=a_log(),
    )


def network_by_the_other_side(vm: timedelta, ms: timedelta) -> Scene:
    return scene(
        told(E.AGENT_DISCONNECT_EVENT, BEHIND, 30, skew=ms),
        said(E.MS_UNREACHABLE, VAGUE, 90, skew=vm),
        log=a_log(),
    )


def hypervisor(vm: timedelta, ms: timedelta) -> Scene:
    return scene(
        told(
            E.HA_ACTION,
            "Host 2 is down.  Starting HA on the VMs",
            60,
            skew=ms,
            concern=Concern.HOST,
        ),
        told(E.AGENT_DISCONNECT_EVENT, BEHIND, 30, skew=ms),
        said(E.AGENT_LOST_CONNECTION, LOST, 70, skew=vm),
        log=a_log(),
    )


def hypervisor_in_a_job(vm: timedelta, ms: timedelta) -> Scene:
    del vm
    job: dict[str, Any] = {"job": "0a1b2c3d", "skew": ms}
    return scene(
        told(E.LIBVIRT_FAILURE, "org.libvirt.LibvirtException: process exited", 61, **job),
        told(E.CAPACITY, "Insufficient capacity ", 60, **job),
        told(E.SYSTEMVM_START_FAILURE, "Unable to start proxy [13] due to [x].", 59, **job),
        told(E.MGMT_EXCEPTION, "Unexpected exception", 58, **job),
        log=a_log(),
    )


def management(vm: timedelta, ms: timedelta) -> Scene:
    stopped = told(
        E.MGMT_STOPPED,
        "Stopping CloudStack management server",
        100,
        skew=ms,
        concern=Concern.SERVER,
    )
    return scene(
        said(E.AGENT_LOST_CONNECTION, LOST, 99, skew=vm),
        said(E.MS_UNREACHABLE, VAGUE, 95, skew=vm),
        log=a_log(stopped, silent_for=7),
    )


def management_by_silence(vm: timedelta, ms: timedelta) -> Scene:
    del ms
    return scene(said(E.MS_UNREACHABLE, VAGUE, 90, skew=vm), log=a_log(silent_for=7))


def management_refuses(vm: timedelta, ms: timedelta) -> Scene:
    return scene(
        told(E.AGENT_DISCONNECT_EVENT, BEHIND, 30, skew=ms),
        said(E.MS_UNREACHABLE, REFUSED, 90, skew=vm),
        log=a_log(),
    )


def storage(vm: timedelta, ms: timedelta) -> Scene:
    return scene(
        said(E.MOUNT_FAILURE, "Unable to mount 192.0.2.7:/x at /mnt: access denied", 70, skew=vm),
        told(E.MOUNT_FAILURE, "Unable to program secondary storage [nfs1]", 69, skew=ms),
        told(E.MGMT_TIMEOUT, "Commands 7 to Host 4 timed out after 3600 secs", 20, skew=ms),
        log=a_log(),
    )


def itself(vm: timedelta, ms: timedelta) -> Scene:
    return scene(
        said(E.OOM, "Out of memory: Killed process 812 (java)", 60, skew=vm),
        told(E.AGENT_DISCONNECT_EVENT, "Host 4 is disconnecting with event", 59, skew=ms),
        log=a_log(),
    )


SCENES = [
    (network, Culprit.NETWORK),
    (network_by_the_other_side, Culprit.NETWORK),
    (hypervisor, Culprit.HYPERVISOR),
    (hypervisor_in_a_job, Culprit.HYPERVISOR),
    (management, Culprit.MANAGEMENT),
    (management_by_silence, Culprit.MANAGEMENT),
    (management_refuses, Culprit.MANAGEMENT),
    (storage, Culprit.STORAGE),
    (itself, Culprit.VM),
]


@pytest.mark.parametrize(
    ("vm", "ms"), [(a, b) for a in (-SKEW, NO_SKEW, SKEW) for b in (-SKEW, NO_SKEW, SKEW)]
)
@pytest.mark.parametrize(("make", "culprit"), SCENES)
def test_each_cause_is_found_whatever_the_clocks_say(make, culprit, vm, ms):
    found = decide(make(vm, ms))
    assert found.culprit is culprit, found.sentence
    assert found.evidence
    assert all(one in found.timeline for one in found.evidence)


@pytest.mark.parametrize(("make", "culprit"), SCENES)
def test_the_measured_clocks_put_the_lines_in_their_true_order(make, culprit):
    del culprit
    straight = [line.text for line in decide(make(NO_SKEW, NO_SKEW)).timeline]
    assert [line.text for line in decide(make(SKEW, -SKEW)).timeline] == straight


def test_a_clock_measured_later_corrects_the_lines_that_were_read_before():
    line = replace(said(E.OOM, "Java heap space", 100, skew=SKEW), clock_offset=None)
    line = replace(line, at=moment(line.logged_at, line.seen_at, None))
    (found,) = decide(scene(line, clock_offset=SKEW)).timeline
    assert found.at == OPENED - seconds(100)


def test_of_one_job_the_first_of_the_deepest_failures_decides_and_not_what_wraps_it():
    job: dict[str, Any] = {"job": "0a1b2c3d"}
    found = decide(
        scene(
            told(E.SYSTEMVM_START_FAILURE, "Unable to start system VM", 10, **job),
            told(E.LIBVIRT_FAILURE, "org.libvirt.LibvirtException", 40, **job),
            told(E.STORAGE_FAILURE, "StorageUnavailableException", 50, **job),
            told(E.VERSION_MISMATCH, "not the version", 60, **job),
        )
    )
    assert found.culprit is Culprit.STORAGE
    assert [line.event for line in found.evidence] == [E.STORAGE_FAILURE]


def test_two_jobs_that_tell_different_failures_decide_nothing():
    found = decide(
        scene(
            told(E.LIBVIRT_FAILURE, "org.libvirt.LibvirtException", 40, job="one"),
            told(E.STORAGE_FAILURE, "StorageUnavailableException", 50, job="two"),
        )
    )
    assert found.culprit is Culprit.UNDECIDED
    assert "the hypervisor host" in found.sentence
    assert "the storage" in found.sentence
    assert len(found.evidence) == 2


def test_what_only_follows_from_a_failure_decides_nothing():
    found = decide(
        scene(
            told(E.SYSTEMVM_START_FAILURE, "Unable to start system VM", 10),
            told(E.CAPACITY, "InsufficientServerCapacityException", 11),
            said(E.AGENT_LOST_CONNECTION, LOST, 12),
            log=a_log(),
        )
    )
    assert found.culprit is Culprit.UNDECIDED
    assert "what follows from a failure" in found.sentence


def test_one_hint_is_too_thin_and_two_of_different_kinds_are_not():
    hint = said(E.KEYSTORE_MISSING, "Failed to load keystore, using trust all manager", 10)
    other = said(E.TLS_FAILURE, "SSL error caught during unwrap data: PKIX path", 9)
    assert decide(scene(hint)).culprit is Culprit.UNDECIDED
    assert "only a hint at the VM itself" in decide(scene(hint)).sentence
    assert decide(scene(hint, other)).culprit is Culprit.VM


def test_nothing_said_is_told_as_such():
    assert "no management server's log is followed" in decide(scene()).sentence
    assert "none of them tells a failure" in decide(scene(log=a_log())).sentence


def test_a_vague_loss_beside_a_log_that_is_not_followed_decides_nothing():
    log = a_log(is_followed=False, detail="no way to it")
    found = decide(scene(said(E.MS_UNREACHABLE, VAGUE, 90), log=log))
    assert found.culprit is Culprit.UNDECIDED
    assert "The log of ms-1 is not followed: no way to it." in found.notes


def test_a_server_that_was_silent_for_a_moment_is_not_taken_for_dead():
    lost = said(E.MS_UNREACHABLE, VAGUE, -240)
    assert decide(scene(lost, log=a_log(silent_for=1))).culprit is Culprit.UNDECIDED


def test_what_our_own_step_caused_is_no_cause():
    stopping = said(E.AGENT_SHUTDOWN, "Stopping the agent: Reason = sig.kill", -30)
    acted = scene(stopping, acted_at=OPENED + seconds(29))
    assert decide(acted).culprit is Culprit.UNDECIDED
    assert decide(acted).timeline == (stopping,)
    assert decide(scene(stopping)).culprit is Culprit.VM


def test_what_was_over_before_the_agent_was_last_up_is_no_cause():
    earlier = said(E.MOUNT_FAILURE, "access denied", 400)
    ready = said(E.AGENT_READY, "Ready command is processed", 300)
    later = said(E.OOM, "Java heap space", 100)
    assert decide(scene(earlier, ready)).culprit is Culprit.UNDECIDED
    assert decide(scene(earlier, ready, later)).culprit is Culprit.VM


def test_what_was_found_by_asking_counts_as_much_as_a_line():
    found = decide(scene(diagnosis=DiagnosisCode.AGENT_DOWN))
    assert (found.culprit, found.evidence) == (Culprit.VM, ())
    lines = scene(said(E.MOUNT_FAILURE, "access denied", 9), diagnosis=DiagnosisCode.AGENT_DOWN)
    assert decide(lines).culprit is Culprit.UNDECIDED


def test_an_agent_that_starts_over_and_over_is_a_hint_at_the_vm():
    start = said(E.AGENT_STARTED, "Implementation Version is 4.20", 60, times=5)
    assert "only a hint at the VM itself: the agent starts over" in decide(scene(start)).sentence


def test_the_notes_say_what_the_clocks_are_worth():
    line = said(E.OOM, "Java heap space", 10, skew=SKEW)
    server = told(E.AGENT_DISCONNECT_EVENT, BEHIND, 9)
    notes = decide(scene(line, server, log=a_log(clock_offset=None), clock_offset=SKEW)).notes
    assert notes[0].startswith("The clock of s-12-VM is 60 s ahead of ours")
    assert notes[1].startswith("The clock of ms-1 was not measured")


def test_a_log_with_gaps_is_told_as_such():
    (note,) = decide(scene(log=a_log(gaps=2))).notes
    assert note == "Of the log of ms-1 2 stretches were destroyed before they were read."


def test_a_state_brings_its_own_lines_and_those_of_the_servers():
    stopped = told(E.MGMT_STOPPED, "Stopping CloudStack", 60, concern=Concern.SERVER)
    episode = Episode(id="e", opened_at=OPENED, diagnosis=DiagnosisCode.AGENT_DISCONNECTED)
    state = a_state(
        "s-12-VM",
        timeline=keep(NOTHING, [said(E.AGENT_LOST_CONNECTION, LOST, 50)]),
        episode=episode,
    )
    found = correlate(state, {"ms-1": a_log(stopped)}, NOW)
    assert found is not None
    assert found.culprit is Culprit.MANAGEMENT
    assert len(found.timeline) == 2


def test_the_first_step_of_an_episode_ends_what_counts():
    attempt = Attempt(
        action=ActionName.RESTART_AGENT, intent_id=IntentId("i"), at=OPENED + seconds(10)
    )
    episode = Episode(
        id="e", opened_at=OPENED, diagnosis=DiagnosisCode.AGENT_DISCONNECTED, attempts=(attempt,)
    )
    stopping = said(E.AGENT_SHUTDOWN, "Stopping the agent: Reason = sig.kill", -11)
    state = a_state("s-12-VM", timeline=keep(NOTHING, [stopping]), episode=episode)
    found = correlate(state, {}, NOW)
    assert found is not None
    assert found.culprit is Culprit.UNDECIDED


def test_a_vm_without_trouble_and_without_lines_has_nothing_to_tell():
    state = a_state("s-12-VM")
    assert correlate(state, {}, NOW) is None
    old = replace(said(E.OOM, "x", 0), at=NOW - minutes(600))
    assert correlate(state._replace(timeline=keep(NOTHING, [old])), {}, NOW) is None


def test_a_clock_offset_beyond_all_bounds_changes_no_time():
    far = datetime(1, 1, 2, tzinfo=NOW.tzinfo)
    assert moment(far, NOW, timedelta(days=900_000)) == NOW
    assert moment(None, NOW, SKEW) == NOW


def test_a_line_is_spoken_with_its_time_and_who_said_it():
    line = told(E.AGENT_DISCONNECT_EVENT, BEHIND, 0, times=3)
    assert spoken_line(line) == f"2026-03-01 11:55:00 ms-1: {BEHIND} (3 times)"


# --- the ring -----------------------------------------------------------------------------------


def test_lines_that_say_the_same_within_minutes_are_one_with_a_count():
    lines = [said(E.MS_UNREACHABLE, f"attempt {n}: refused", n + 1) for n in range(60)]
    kept = keep(NOTHING, lines).lines
    assert sum(line.times for line in kept) == 60
    assert len(kept) == 1
    assert kept[0].at == OPENED - seconds(60)


def test_a_flood_of_different_lines_keeps_the_ring_bounded():
    words = ["".join(chr(97 + (n // 26**k) % 26) for k in range(4)) for n in range(1000)]
    kept = keep(NOTHING, (said(E.MGMT_EXCEPTION, word, 1) for word in words)).lines
    assert len(kept) == LINES_KEPT
    assert kept[-1].text == words[-1]


def test_a_management_log_remembers_since_when_it_is_as_it_is():
    def event(at: datetime, *, is_followed: bool) -> ManagementLogTold:
        return ManagementLogTold(name="ms-1", is_followed=is_followed, at=at, spoke_at=at)

    first = fold_management_log(None, event(NOW, is_followed=True))
    second = fold_management_log(first, event(NOW + seconds(70), is_followed=True))
    third = fold_management_log(second, event(NOW + seconds(80), is_followed=False))
    assert (second.since, third.since) == (NOW, NOW + seconds(80))
    assert len(third.spoke_in) == 2


# --- any input ----------------------------------------------------------------------------------

TEXTS = st.sampled_from(
    [LOST, VAGUE, NO_ROUTE, REFUSED, BEHIND, "", "Caused by: x", "Host 2 is down"]
)
LINES = st.builds(
    said,
    st.sampled_from(E),
    TEXTS | st.text(max_size=40),
    st.integers(-1000, 3000),
    skew=st.sampled_from([NO_SKEW, SKEW, -SKEW]),
    origin=st.sampled_from(Origin),
    log=st.sampled_from(["", "ms-1", "ms-2"]),
    concern=st.sampled_from(Concern),
    job=st.sampled_from(["", "a", "b"]),
)


@given(st.lists(LINES, max_size=30), st.randoms(use_true_random=False))
def test_the_order_in_which_lines_arrive_changes_nothing(lines, dice):
    shuffled = [*lines]
    dice.shuffle(shuffled)
    one = decide(scene(*keep(NOTHING, lines).lines, log=a_log()))
    other = decide(scene(*keep(NOTHING, shuffled).lines, log=a_log()))
    assert (one.culprit, one.sentence) == (other.culprit, other.sentence)
    assert [line.text for line in one.timeline] == [line.text for line in other.timeline]


@given(
    st.lists(LINES, max_size=20),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.none() | st.timedeltas(),
)
def test_any_lines_give_an_outcome_with_a_sentence(lines, acted_at, offset):
    found = decide(scene(*lines, log=a_log(), acted_at=acted_at, clock_offset=offset))
    assert found.sentence.endswith(".")
    assert set(found.evidence) <= set(found.timeline)


def test_every_row_of_the_table_can_be_reached():
    """No row stands below one that takes all of its lines."""
    for place, row in enumerate(ROWS):
        for event in row.events:
            above = [one for one in ROWS[:place] if event in one.events and one.says is None]
            shadows = [
                one
                for one in above
                if one.origin in (None, row.origin) and one.concern in (None, row.concern)
            ]
            assert not shadows, f"{event}: {row.clue.means}"


def test_a_class_that_no_row_names_says_nothing():
    assert clue_of(said(E.AGENT_STARTED, "Agent started", 1)) is None


# --- the journal --------------------------------------------------------------------------------


def a_closing_row(kind: EntryKind = EntryKind.EPISODE_CLOSED) -> Entry:
    return Entry(kind=kind, at=NOW, text="well again", evidence=("first",))


def test_the_row_that_closes_an_episode_says_where_the_cause_lay():
    episode = Episode(id="e", opened_at=OPENED, diagnosis=DiagnosisCode.AGENT_DISCONNECTED)
    own = keep(NOTHING, [said(E.OOM, "Out of memory: Killed process 812 (java)", 60)])
    state = a_state("s-12-VM", timeline=own, episode=episode)
    (closed, other) = with_outcome(
        (a_closing_row(), a_closing_row(EntryKind.EPISODE_OPENED)), state, {}, NOW
    )
    assert closed.text.startswith("well again. The cause lies in the VM itself: the VM has run")
    assert closed.evidence[0] == "first"
    assert "Out of memory" in closed.evidence[1]
    assert other == a_closing_row(EntryKind.EPISODE_OPENED)


def test_a_row_that_closes_an_episode_without_any_line_stays_as_it_is():
    episode = Episode(id="e", opened_at=OPENED, diagnosis=DiagnosisCode.AGENT_DOWN)
    state = a_state("s-12-VM", episode=episode)
    assert with_outcome((a_closing_row(),), state, {}, NOW) == (a_closing_row(),)


def test_the_place_of_a_log_is_saved_and_only_followed_ones_are_said_to_be():
    log = a_log(position=a_position(7), told_at=NOW)
    assert log_memory(log).position == log_memory(log).read_to == a_position(7)
    lost = log_memory(replace(log, is_followed=False))
    assert (lost.position, lost.read_to) == (None, a_position(7))


def test_an_offset_that_no_clock_can_have_is_none():
    assert as_span(1e300) is None
    assert as_span(float("nan")) is None
    assert as_span(60) == SKEW


def test_a_stretch_of_many_events_gives_its_beginning_and_its_end():
    sightings = [
        Sighting(
            event=E.MGMT_EXCEPTION,
            severity=Severity.ERROR,
            pattern="x",
            text=str(number),
            line_start=a_position(number),
            seen_at=NOW,
        )
        for number in range(1000)
    ]
    texts = [line.text for line in own_lines(sightings, None)]
    assert (texts[0], texts[-1], len(texts)) == ("0", "999", 64)
