"""One time of being sick: opens, is told once, closes."""

from dataclasses import replace

from stackward.core.episodes import advance_episode, close_gone, mark_escalated, new_escalations
from stackward.core.state import TargetState
from stackward.model.diagnosis import DiagnosisCode, Subject
from stackward.model.entry import EntryKind
from stackward.model.health import Health, HealthState, Overall
from stackward.model.identity import IntentId, ZoneId
from stackward.model.plan import Escalation, Plan
from tests.builders import DEAD_AGENT, NOW, a_fleet, a_sick_state, a_state, an_episode, seconds
from tests.judging import judge

HEALTHY = Health(HealthState.HEALTHY, Overall.PASSED)
RECOVERING = Health(HealthState.RECOVERING, Overall.UNKNOWN)
UNHEALTHY = Health(HealthState.UNHEALTHY, Overall.FAILED)
UNKNOWN = Health(HealthState.UNKNOWN, Overall.UNKNOWN)
NOBODY_ELSE = a_state("s-1-VM")
FOUND = judge(a_fleet(a_sick_state(), NOBODY_ELSE)).diagnoses[a_state().target.id]


def _advance(state: TargetState, health: Health, found=FOUND):
    return advance_episode(state, health, found, NOW, "episode-9")


def test_an_episode_opens_with_the_cause_and_says_so():
    state, (entry,) = _advance(a_state("v-2-VM", *DEAD_AGENT), UNHEALTHY)
    assert state.episode is not None
    assert (state.episode.id, state.episode.opened_at) == ("episode-9", NOW)
    assert state.episode.diagnosis is DiagnosisCode.AGENT_DOWN
    assert (entry.kind, entry.episode_id) == (EntryKind.EPISODE_OPENED, "episode-9")
    assert "is dead" in entry.text
    assert entry.evidence == FOUND[0].evidence


def test_no_episode_without_a_cause_or_without_sickness():
    for health, found in ((UNHEALTHY, ()), (UNKNOWN, FOUND), (HEALTHY, FOUND)):
        state = a_state()
        assert _advance(state, health, found) == (state, ())


def test_an_open_episode_keeps_its_name_and_its_ladder_when_the_cause_changes():
    state = a_state("s-1-VM", episode=an_episode(DiagnosisCode.DISK_FULL))
    assert _advance(state, UNHEALTHY) == (state, ())


def test_a_symptom_opens_an_episode_too():
    both = a_fleet(a_state("s-1-VM", *DEAD_AGENT), a_state("v-2-VM", *DEAD_AGENT))
    judged = judge(both)
    for target_id, found in judged.diagnoses.items():
        state, entries = _advance(both.targets[target_id], UNHEALTHY, found)
        assert state.episode is not None
        assert len(entries) == 1


def test_an_episode_closes_when_healthy_and_not_before():
    state, entries = _advance(a_sick_state(), RECOVERING)
    assert state.episode is not None
    assert (state.episode.well_since, entries) == (NOW, ())
    relapsed, _ = _advance(state, UNHEALTHY)
    assert relapsed.episode is not None
    assert relapsed.episode.well_since is None
    closed, (entry,) = _advance(state, HEALTHY)
    assert (closed.episode, entry.kind) == (None, EntryKind.EPISODE_CLOSED)


def test_an_episode_does_not_close_while_a_step_is_under_way():
    state, entries = _advance(a_sick_state(in_flight=IntentId("i")), HEALTHY)
    assert state.episode is not None
    assert entries == ()


def _call(**subject: object) -> Escalation:
    return Escalation(
        subject=Subject(**subject),  # type: ignore[arg-type]  # one of its three fields
        subject_name="somebody",
        diagnosis=DiagnosisCode.AGENT_DOWN,
        sentence="It is dead.",
        advice="Look.",
    )


def test_a_person_is_called_once_in_an_episode():
    call = _call(target_id=a_state().target.id)
    state, (entry,) = mark_escalated(a_sick_state(), call, NOW)
    assert (entry.kind, entry.text, entry.evidence) == (
        EntryKind.ESCALATED,
        "It is dead.",
        ("Look.",),
    )
    assert mark_escalated(state, call, NOW) == (state, ())
    assert mark_escalated(a_state(), call, NOW) == (a_state(), ())


def test_a_person_is_called_again_when_the_cause_turns_out_to_be_another():
    call = _call(target_id=a_state().target.id)
    other = replace(call, diagnosis=DiagnosisCode.MANAGEMENT_UNREACHABLE)
    state, _ = mark_escalated(a_sick_state(), call, NOW)
    state, (entry,) = mark_escalated(state, other, NOW)
    assert entry.diagnosis is DiagnosisCode.MANAGEMENT_UNREACHABLE
    assert mark_escalated(state, call, NOW) == (state, ())
    assert mark_escalated(state, other, NOW) == (state, ())


def test_the_episode_of_a_vm_that_is_gone_is_over():
    assert [one.kind for one in close_gone(a_sick_state(), NOW)] == [EntryKind.EPISODE_CLOSED]
    assert close_gone(a_state(), NOW) == ()


def test_calls_that_no_episode_owns_are_written_when_they_appear():
    mine, zone = a_state().target.id, ZoneId("zone-1")
    before = Plan(made_at=NOW - seconds(10), escalations=(_call(zone_id=zone),))
    after = Plan(
        made_at=NOW,
        escalations=(_call(zone_id=zone), _call(zone_id=ZoneId("z2")), _call(target_id=mine)),
    )
    assert [one.zone_id for one in new_escalations(before, after, frozenset({mine}))] == ["z2"]
    assert len(new_escalations(before, after, frozenset())) == 2
    assert len(new_escalations(None, after, frozenset())) == 3
