"""A jump that breaks and comes back, VM by VM: one incident from the first moment to the last."""

from datetime import timedelta

import pytest

from stackward.core.state import PathMemory, TargetState
from stackward.errors import Leg
from stackward.model.diagnosis import DiagnosisCode
from stackward.model.target import CloudState
from stackward.model.verdict import Sign
from tests.builders import NOW, a_fleet, a_policy, a_state, a_target
from tests.judging import judge

FALL = a_policy().thresholds.fall
GRACE = a_policy().thresholds.stale_after
SECOND = timedelta(seconds=1)


def _vm(
    number: int,
    leg: Leg | None,
    *signs: Sign,
    since: timedelta,
    told: timedelta = timedelta(0),
    times: int = FALL,
    **changes: object,
) -> TargetState:
    """A VM behind the jump whose way has been like this `since` and was told of `told` ago."""
    path = PathMemory(
        leg=leg,
        detail="no answer",
        since=NOW - since,
        told_at=NOW - told,
        failed_in_a_row=times if leg is not None else 0,
    )
    name = f"v-{number}-VM"
    return a_state(name, *signs, path=path, target=a_target(name, **changes))


def _calls(*states: TargetState) -> list[str]:
    return sorted(call.diagnosis.value for call in judge(a_fleet(*states)).plan.escalations)


JUMP, LONE = DiagnosisCode.JUMP_UNREACHABLE.value, DiagnosisCode.VM_UNREACHABLE.value


@pytest.mark.parametrize("leg", [Leg.JUMP_TCP, Leg.JUMP_AUTH])
def test_the_first_vm_that_is_sure_speaks_for_those_not_asked_since(leg: Leg):
    sure = _vm(1, leg, since=30 * SECOND)
    unsure = [_vm(number, leg, since=25 * SECOND, times=1) for number in (2, 3)]
    not_asked = _vm(4, None, since=timedelta(days=1), told=31 * SECOND)
    assert _calls(sure, *unsure, not_asked) == [JUMP]


def test_a_silence_that_neighbours_share_is_the_jumps():
    sure = _vm(1, Leg.CHANNEL, since=30 * SECOND)
    unsure = _vm(2, Leg.CHANNEL, since=25 * SECOND, times=1)
    assert _calls(sure, unsure) == [JUMP]


def test_one_who_came_through_since_proves_the_jump():
    sick = _vm(1, Leg.CHANNEL, since=30 * SECOND)
    well = _vm(2, None, since=timedelta(days=1), told=20 * SECOND)
    assert _calls(sick, well) == [LONE]


def test_one_that_runs_no_more_proves_and_breaks_nothing():
    def stopped(number: int, leg: Leg | None) -> TargetState:
        long_ago = timedelta(hours=1)
        sign, state = Sign.VM_NOT_RUNNING, CloudState.STOPPED
        return _vm(number, leg, sign, since=long_ago, told=long_ago, cloud_state=state)

    assert JUMP not in _calls(stopped(1, Leg.JUMP_TCP))
    well_when_it_ran = stopped(2, None)
    calls = _calls(_vm(3, Leg.JUMP_TCP, since=SECOND), well_when_it_ran)
    assert JUMP in calls
    assert LONE not in calls


def test_a_way_not_tried_again_since_the_jump_is_back_belongs_to_the_outage():
    back = [_vm(number, None, since=number * SECOND) for number in (1, 2)]
    waiting = [_vm(number, Leg.JUMP_TCP, since=timedelta(minutes=5)) for number in (3, 4)]
    assert _calls(*back, *waiting) == [JUMP]
    last = _vm(3, Leg.INNER_TCP, since=timedelta(minutes=5))
    assert _calls(*back, last) == [JUMP]


def test_a_way_that_stays_broken_when_the_others_are_back_is_a_cause_of_its_own():
    back = [_vm(number, None, since=GRACE) for number in (1, 2)]
    left = _vm(3, Leg.INNER_TCP, since=timedelta(minutes=5))
    assert _calls(*back, left) == [LONE]


def test_an_outage_takes_in_a_vm_that_was_cut_before():
    before = _vm(1, Leg.INNER_TCP, since=timedelta(hours=1))
    sure = _vm(2, Leg.JUMP_TCP, since=30 * SECOND)
    not_asked = _vm(3, None, since=timedelta(days=1), told=31 * SECOND)
    assert _calls(before, sure, not_asked) == [JUMP]


def test_another_key_of_the_jump_is_one_call_from_the_first_answer_on():
    seen = _vm(1, Leg.JUMP_HOST_KEY, since=SECOND, times=1)
    not_asked = _vm(2, None, since=timedelta(days=1), told=2 * SECOND)
    assert _calls(seen, not_asked) == [JUMP]
