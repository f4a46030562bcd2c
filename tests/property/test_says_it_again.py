"""An answer that says again what was known changes no judgement of a VM that is plainly well."""

from random import Random

from stackward.core.assess import assess
from stackward.core.diagnose import diagnose_target
from stackward.core.reduce import reduce, says_it_again
from stackward.model.health import HealthState
from stackward.model.verdict import Failed, Passed, ProbeName, Sign, Source, Unknown
from tests.builders import NOW, observed, seconds
from tests.property.cases import a_case

VERDICTS = (Passed("fine"), Passed("fine"), Passed("fine"), Passed("fine"), Passed("fine"),
            Unknown("not told"), Failed(Sign.MEMORY_LOW, "little is left"))  # fmt: skip
INSIDE = tuple(
    probe
    for probe in ProbeName
    if probe.value not in ("cloud-state", "cloud-agent", "database-agent")
)


def test_whoever_was_plainly_well_stays_so_without_being_judged_again():
    skipped = 0
    for seed in range(400):
        dice, case = Random(seed), a_case(seed)
        for state in case.fleet.targets.values():
            said = [(probe, dice.choice(VERDICTS)) for probe in dice.sample(INSIDE, 4)]
            event = observed(
                *said,
                at=NOW - seconds(dice.randrange(3)),
                target_id=state.target.id,
                source=Source.SSH,
            )
            before = assess(state, case.policy, NOW)
            is_plainly_well = before.state is HealthState.HEALTHY and not before.reasons
            if not is_plainly_well or not says_it_again(state, event):
                continue
            skipped += 1
            after = reduce(state, event)
            assert assess(after, case.policy, NOW) == before
            assert diagnose_target(after, case.policy, NOW, case.fleet) == diagnose_target(
                state, case.policy, NOW, case.fleet
            )
    assert skipped > 100


def test_what_is_new_is_told_as_new():
    state = next(iter(a_case(3).fleet.targets.values()))
    good = observed((ProbeName.AGENT_UNIT, Passed("fine")), target_id=state.target.id)
    state = reduce(state, good)
    for verdict in (Unknown("?"), Failed(Sign.UNIT_FAILED, "failed")):
        bad = observed(
            (ProbeName.AGENT_UNIT, verdict), target_id=state.target.id, at=NOW + seconds(9)
        )
        assert not says_it_again(state, bad)
        assert not says_it_again(reduce(state, bad), good)
