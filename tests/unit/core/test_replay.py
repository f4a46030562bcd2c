"""What a restart remembers."""

from dataclasses import replace

from stackward.core.replay import KEEP_DEPARTED, Remembered, replay
from stackward.core.state import TargetState
from stackward.model.diagnosis import DiagnosisCode
from stackward.model.entry import Entry, EntryKind, StoredEntry
from stackward.model.identity import IntentId
from stackward.model.outcome import Outcome, OutcomeKind
from stackward.model.plan import ActionName
from tests.builders import NOW, VM, ZONE, a_policy, a_state, a_target, minutes, seconds

ROW = Entry(kind=EntryKind.STARTED, at=NOW, text="")


def _row(kind: EntryKind, second: int, **changes: object) -> Entry:
    row = replace(ROW, kind=kind, at=NOW + seconds(second), target_id=VM, zone_id=ZONE.id)
    return replace(row, **changes)  # type: ignore[arg-type]  # fields of Entry


def _step(number: int, kind: OutcomeKind | None, *, begun: bool = True) -> list[Entry]:
    intent = IntentId(f"intent-{number}")
    second = 100 * number
    rows = [_row(EntryKind.INTENT, second, intent_id=intent, action=ActionName.RESTART_AGENT)]
    if begun:
        rows.append(_row(EntryKind.BEGUN, second + 1, intent_id=intent))
    if kind is not None:
        outcome = Outcome(kind, "")
        rows.append(_row(EntryKind.OUTCOME, second + 2, intent_id=intent, outcome=outcome))
    return rows


CALLED = DiagnosisCode.AGENT_DISCONNECTED
OPENED = _row(
    EntryKind.EPISODE_OPENED, 0, episode_id="episode-1", diagnosis=DiagnosisCode.AGENT_DOWN
)


def _replayed(*rows: Entry) -> TargetState:
    stored = [StoredEntry(number, row) for number, row in enumerate((ROW, *rows), start=1)]
    remembered = replay(stored, a_policy())
    fresh = a_state(probes={})
    return remembered.recall(fresh)


def test_an_open_episode_comes_back_with_its_attempts_and_cooldown():
    state = _replayed(OPENED, *_step(1, OutcomeKind.FAILED), *_step(2, OutcomeKind.UNKNOWN))
    assert state.episode is not None
    assert [one.outcome for one in state.episode.attempts] == [
        OutcomeKind.FAILED,
        OutcomeKind.UNKNOWN,
    ]
    assert state.last_action_at == NOW + seconds(201)
    assert state.last_action is ActionName.RESTART_AGENT


def test_a_closed_episode_stays_closed_and_the_cooldown_stays():
    state = _replayed(OPENED, *_step(1, OutcomeKind.SUCCEEDED), _row(EntryKind.EPISODE_CLOSED, 150))
    assert state.episode is None
    assert state.last_action_at == NOW + seconds(101)


def test_a_step_begun_without_an_outcome_stays_open_and_is_in_nobodys_hands():
    state = _replayed(OPENED, *_step(1, None))
    assert state.in_flight is None
    assert state.episode is not None
    assert [one.outcome for one in state.episode.attempts] == [None]


def test_an_intent_that_never_began_is_no_attempt():
    for kind in (None, OutcomeKind.WITHDRAWN):
        state = _replayed(OPENED, *_step(1, kind, begun=False))
        assert state.episode is not None
        assert state.episode.attempts == ()
        assert state.last_action_at is None


def test_a_call_for_a_person_is_not_made_again_after_a_restart():
    state = _replayed(OPENED, _row(EntryKind.ESCALATED, 5, diagnosis=CALLED))
    assert state.episode is not None
    assert state.episode.called_for == {CALLED}


def test_advice_given_is_remembered():
    row = _row(EntryKind.WOULD_HAVE, 7, action=ActionName.RESTART_AGENT)
    assert _replayed(OPENED, row).advised_at == NOW + seconds(7)


def test_the_budget_of_a_zone_comes_back():
    rows = [*_step(1, OutcomeKind.FAILED), *_step(2, OutcomeKind.WITHDRAWN, begun=False)]
    stored = [StoredEntry(number, row) for number, row in enumerate(rows, start=1)]
    assert replay(stored, a_policy()).zone_actions == {ZONE.id: (NOW + seconds(101),)}


def test_rows_of_another_vm_or_of_none_change_nothing():
    paused = replace(ROW, kind=EntryKind.PAUSED)
    assert _replayed(paused) == a_state(probes={})
    other = replay([StoredEntry(1, OPENED)], a_policy())
    stranger = a_state("s-1-VM")
    assert other.recall(stranger) is stranger


def test_rows_without_what_they_need_are_passed_over():
    for row in (
        _row(EntryKind.EPISODE_OPENED, 1),
        _row(EntryKind.OUTCOME, 1),
        _row(EntryKind.INTENT, 1, intent_id=IntentId("i")),
        _row(EntryKind.ESCALATED, 1),
    ):
        assert _replayed(row).episode is None


def test_what_was_done_to_a_vm_that_was_unlisted_for_a_while_is_not_forgotten():
    acted = a_state(last_action=ActionName.RESTART_AGENT, last_action_at=NOW, listed_at=NOW)
    kept = Remembered().keep(acted, NOW)
    assert kept.recall(a_state()).last_action_at == NOW
    assert kept.without(VM).targets == {}
    other = a_state("s-1-VM", target=a_target("s-1-VM"))
    soon = kept.keep(a_state("s-1-VM"), NOW + minutes(1))
    assert set(soon.targets) == {VM, "id-s-1-VM"}
    later = kept.keep(other, NOW + KEEP_DEPARTED + minutes(1))
    assert set(later.targets) == {other.target.id}
