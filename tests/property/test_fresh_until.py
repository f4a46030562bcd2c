"""Time alone changes no judgement of a VM that is plainly well, until an answer grows too old."""

from dataclasses import replace
from datetime import timedelta
from random import Random

from stackward.core.assess import assess
from stackward.core.diagnose import diagnose_target
from stackward.core.episodes import advance_episode
from stackward.core.evidence import fresh_until
from stackward.core.policy import Policy
from stackward.core.state import TargetState
from stackward.model.health import Health, HealthState
from stackward.model.identity import IntentId
from stackward.model.verdict import Failed, ProbeName, Sign, Unknown
from tests.builders import NOW, a_memory, a_policy, a_state, an_episode, probes_with, seconds
from tests.property.cases import a_case

INSTANT = timedelta(microseconds=1)


def a_policy_of(dice: Random, policy: Policy) -> Policy:
    thresholds = replace(
        policy.thresholds,
        stale_after=seconds(dice.choice([30, 60, 400])),
        slow_stale_after=seconds(dice.choice([45, 300])),
        boot_grace=seconds(dice.choice([10, 300, 310])),
    )
    disabled = frozenset(dice.sample([*ProbeName], dice.choice([0, 0, 1, 3])))
    return replace(policy, thresholds=thresholds, disabled_probes=disabled)


def a_state_of(dice: Random, state: TargetState) -> TargetState:
    """As it was, but each answer of its own age, some of them Unknown or of no great weight."""
    probes = {
        probe: memory._replace(observed_at=memory.observed_at - seconds(dice.uniform(-6, 20)))
        for probe, memory in state.probes.items()
    }
    light = (Unknown("not told"), Failed(Sign.MEMORY_LOW, "little"), Failed(Sign.CLOCK_SKEWED, "?"))
    for probe in dice.sample([*probes], min(len(probes), dice.choice([0, 0, 1, 2]))):
        verdict, age = dice.choice(light), seconds(dice.choice([-4, 5, 25]))
        probes[probe] = a_memory(probe, verdict, times=dice.choice([1, 2, 3]), age=age)
    return state._replace(
        probes=probes,
        episode=dice.choice([None, state.episode, an_episode()]),
        in_flight=dice.choice([None, IntentId("flying")]),
    )


def is_plainly_well(health: Health) -> bool:
    return health.state is HealthState.HEALTHY and not health.reasons


def test_whoever_is_plainly_well_stays_so_until_an_answer_is_too_old_and_no_longer():
    seen = in_episode = with_unknown = 0
    for seed in range(400):
        dice, case = Random(seed), a_case(seed)
        policy = a_policy_of(dice, case.policy)
        for known in case.fleet.targets.values():
            state = a_state_of(dice, known)
            before = assess(state, policy, NOW)
            if not is_plainly_well(before):
                continue
            assert diagnose_target(state, policy, NOW, case.fleet) == ()
            advanced, _ = advance_episode(state, before, (), NOW, "episode-2")
            until = fresh_until(advanced, policy)
            assert until >= NOW
            for moment in (NOW + INSTANT, NOW + dice.random() * (until - NOW), until):
                assert assess(advanced, policy, moment) == before
                assert diagnose_target(advanced, policy, moment, case.fleet) == ()
                again, entries = advance_episode(advanced, before, (), moment, "episode-3")
                assert again is advanced
                assert entries == ()
            assert not is_plainly_well(assess(advanced, policy, until + INSTANT))
            seen += 1
            in_episode += advanced.episode is not None
            with_unknown += any(isinstance(one.verdict, Unknown) for one in state.probes.values())
    assert seen > 400
    assert in_episode > 80
    assert with_unknown > 100


def test_an_answer_that_does_not_count_makes_nobody_look_again():
    nothing_known = a_state(probes={})
    assert fresh_until(nothing_known, a_policy()).year == 9999

    old = a_memory(ProbeName.CLOCK, age=seconds(59))
    state = a_state(probes={**probes_with(), ProbeName.CLOCK: old})
    assert fresh_until(state, a_policy()) == NOW + seconds(1)
    without = a_policy(disabled_probes=frozenset({ProbeName.CLOCK}))
    assert fresh_until(state, without) == NOW + seconds(55)
