"""From block to block of one VM: all that they say, without reading again what stays as it was.

Most blocks of a healthy VM repeat the one before, but for its clock, its load and its memory. Then
the answers that passed are given again and only their dates are new. That saves time and changes
no answer: what is not plainly the same is read anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stackward.catalog.fact_sections import FactReader
from stackward.catalog.facts import GuestFacts, Unreadable, marks, readings
from stackward.catalog.probe import Answer, GuestProbe, ProbeThresholds
from stackward.catalog.probes import PROBES_OF
from stackward.catalog.probes.agent import RESTARTS_OF_A_LOOP
from stackward.model.guest import FactBlock, GuestMarks, GuestReadings
from stackward.model.target import Target
from stackward.model.verdict import Observation, Passed, Source

VOLATILE_SECTIONS = frozenset({"uptime", "load", "clock", "memory", "files"})

Told = tuple[tuple[Observation, ...], GuestMarks, GuestReadings]


@dataclass(slots=True)
class _Steady:
    """A block whose lasting answers all passed, for as long as the next ones repeat it."""

    sections: Mapping[str, tuple[str, ...]]
    thresholds: ProbeThresholds
    answers: Sequence[tuple[GuestProbe, Answer | None]]  # None: to be read anew each time
    facts: GuestFacts
    marks: GuestMarks

    def goes_on_in(self, block: FactBlock, thresholds: ProbeThresholds) -> bool:
        """True when nothing that the lasting answers rest on has changed or grown stale."""
        return (
            thresholds is self.thresholds
            and _is_plain(block, thresholds)
            and _lasting(block) == self.sections
        )


class GuestReader:
    """Reads the blocks of one VM."""

    def __init__(self) -> None:
        self._facts = FactReader()
        self._steady: _Steady | None = None

    def observe(self, block: FactBlock, target: Target, thresholds: ProbeThresholds) -> Told:
        """What a block says about the VM. What was asked earlier is dated back by its age."""
        steady = self._steady
        if steady is None or not steady.goes_on_in(block, thresholds):
            return self._observe_anew(block, target, thresholds)
        facts = self._facts.renew(steady.facts, block)
        target_id, received_at, ages = target.id, block.received_at, block.ages
        observations = []
        for probe, known in steady.answers:
            answer = known or probe.interpret(facts, thresholds)
            rests_on = answer.rests_on
            at = received_at - answer.age(ages) if rests_on else received_at
            observations.append(Observation(target_id, probe.name, Source.SSH, answer.verdict, at))
        return tuple(observations), steady.marks, readings(facts)

    def _observe_anew(self, block: FactBlock, target: Target, thresholds: ProbeThresholds) -> Told:
        facts = self._facts.read(block)
        found = marks(facts)
        answers = [(probe, probe.interpret(facts, thresholds)) for probe in PROBES_OF[target.role]]
        self._steady = None
        if _is_plain(block, thresholds) and _stays(facts, answers):
            kept = [(probe, answer if probe.is_lasting else None) for probe, answer in answers]
            self._steady = _Steady(_lasting(block), thresholds, kept, facts, found)
        observations = tuple(
            Observation(
                target.id,
                probe.name,
                Source.SSH,
                answer.verdict,
                block.received_at - answer.age(block.ages),
            )
            for probe, answer in answers
        )
        return observations, found, readings(facts)


def observe_block(block: FactBlock, target: Target, thresholds: ProbeThresholds) -> Told:
    """What one block says about a VM, all by itself."""
    return GuestReader().observe(block, target, thresholds)


def _lasting(block: FactBlock) -> dict[str, tuple[str, ...]]:
    return {name: lines for name, lines in block.sections.items() if name not in VOLATILE_SECTIONS}


def _is_plain(block: FactBlock, thresholds: ProbeThresholds) -> bool:
    """True for a block in which no question is open and nothing is too old to be believed."""
    ages = block.ages
    return not block.pending and (not ages or max(ages.values()) <= thresholds.slow_stale_after)


def _stays(facts: GuestFacts, answers: Sequence[tuple[GuestProbe, Answer]]) -> bool:
    """True when the same sections give the same answers at any later time.

    A unit that restarted often is judged by how long it has run: there the time alone changes the
    answer. Own connects, of which the newest counts, are not looked at where the link passes.
    """
    unit = facts.unit
    return (
        all(isinstance(answer.verdict, Passed) for probe, answer in answers if probe.is_lasting)
        and not isinstance(unit, Unreadable)
        and (unit.restarts or 0) < RESTARTS_OF_A_LOOP
    )
