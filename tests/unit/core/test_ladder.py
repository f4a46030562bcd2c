"""Which rung is next."""

import pytest

from stackward.core.ladder import Exhausted, NextRung, next_rung
from stackward.core.policy import Rung
from stackward.core.state import ATTEMPTS_KEPT, Attempt, Episode
from stackward.model.identity import IntentId
from stackward.model.outcome import OutcomeKind
from stackward.model.plan import ActionName
from tests.builders import NOW, a_rule, an_episode

RESTART, REBOOT = ActionName.RESTART_AGENT, ActionName.REBOOT_SYSTEM_VM
TWO_THEN_ONE = (Rung(action=RESTART, attempts_max=2), Rung(action=REBOOT))
UP_AND_DOWN = (Rung(action=RESTART), Rung(action=REBOOT), Rung(action=RESTART))


def _tried(*actions: ActionName, outcome: OutcomeKind | None = OutcomeKind.FAILED) -> Episode:
    return an_episode(
        attempts=tuple(
            Attempt(action=action, intent_id=IntentId(str(n)), at=NOW, outcome=outcome)
            for n, action in enumerate(actions)
        )
    )


@pytest.mark.parametrize(
    ("ladder", "tried", "expected"),
    [
        (TWO_THEN_ONE, (), (0, 1)),
        (TWO_THEN_ONE, (RESTART,), (0, 2)),
        (TWO_THEN_ONE, (RESTART, RESTART), (1, 1)),
        (TWO_THEN_ONE, (RESTART, RESTART, REBOOT), None),
        # A higher rung was used: it never goes back down, though the lower had one left.
        (TWO_THEN_ONE, (RESTART, REBOOT), None),
        (TWO_THEN_ONE, (REBOOT,), None),
        (UP_AND_DOWN, (RESTART,), (1, 1)),
        (UP_AND_DOWN, (RESTART, REBOOT), (2, 1)),
        (UP_AND_DOWN, (RESTART, REBOOT, RESTART), None),
        # Not on this ladder (the rule was changed meanwhile): uses up the rung.
        ((Rung(action=RESTART, attempts_max=2),), (REBOOT,), (0, 2)),
        ((Rung(action=RESTART),), (REBOOT,), None),
        ((), (), None),
    ],
)
def test_the_next_rung_follows_from_what_was_tried(
    ladder: tuple[Rung, ...], tried: tuple[ActionName, ...], expected: tuple[int, int] | None
):
    following = next_rung(a_rule(ladder=ladder), _tried(*tried))
    if expected is None:
        assert following == Exhausted(tried)
    else:
        assert isinstance(following, NextRung)
        assert (following.number, following.attempt) == expected


@pytest.mark.parametrize("kind", [OutcomeKind.WITHDRAWN, OutcomeKind.WOULD_HAVE])
def test_what_was_never_sent_uses_up_nothing(kind: OutcomeKind):
    following = next_rung(a_rule(), _tried(RESTART, outcome=kind))
    assert isinstance(following, NextRung)
    assert (following.number, following.attempt) == (0, 1)


@pytest.mark.parametrize("kind", [None, OutcomeKind.SUCCEEDED, OutcomeKind.UNKNOWN])
def test_what_may_have_been_sent_counts(kind: OutcomeKind | None):
    following = next_rung(a_rule(), _tried(RESTART, outcome=kind))
    assert isinstance(following, NextRung)
    assert following.number == 1


def test_when_the_memory_of_attempts_is_full_a_person_is_called():
    patient = a_rule(ladder=(Rung(action=RESTART, attempts_max=1000),))
    assert isinstance(next_rung(patient, _tried(*[RESTART] * ATTEMPTS_KEPT)), Exhausted)
