"""From block to block of one VM: all that they say, without reading again what stays as it was.

Most blocks of a healthy VM repeat the one before, but for its clock, its load and its memory. Then
the answers that passed are given again and only their dates are new. That saves time and changes
no answer: what is not plainly the same is read anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from stackward.catalog.fact_loop import VOLATILE_SECTIONS
from stackward.catalog.fact_sections import FactReader
from stackward.catalog.facts import GuestFacts, Unreadable, marks, readings, renewed_readings
from stackward.catalog.probe import Answer, GuestProbe, ProbeThresholds
from stackward.catalog.probes import PROBES_OF
from stackward.catalog.probes.agent import RESTARTS_OF_A_LOOP
from stackward.model.guest import FactBlock, GuestMarks, GuestReadings
from stackward.model.target import Target
from stackward.model.verdict import Observation, Passed, Source

# What was asked in the background keeps its date until it is asked anew, and is told again only
# so often: somebody may have forgotten it, for a jump of the clock or another way into the VM.
TELL_ALL_EVERY = timedelta(seconds=30)

_ZERO = timedelta(0)
_NOTHING: frozenset[str] = frozenset()

Told = tuple[tuple[Observation, ...], GuestMarks, GuestReadings]


@dataclass(slots=True)
class _Steady:
    """A block whose lasting answers all passed, for as long as the next ones repeat it."""

    lasting: Mapping[str, tuple[str, ...]]
    thresholds: ProbeThresholds
    answers: Sequence[tuple[GuestProbe, Answer | None]]  # None: to be read anew each time
    facts: GuestFacts
    marks: GuestMarks
    readings: GuestReadings
    told_all_at: datetime
    asked: Mapping[str, timedelta]  # when the slow sections were, on the VM's uptime

    def goes_on_in(self, block: FactBlock, thresholds: ProbeThresholds) -> bool:
        """True when nothing that the lasting answers rest on has changed or grown stale."""
        return (
            thresholds is self.thresholds
            and _is_plain(block, thresholds)
            and (block.lasting is self.lasting or _lasting(block) == self.lasting)
        )

    def heard_in(self, block: FactBlock) -> frozenset[str] | None:
        """The slow sections that were asked since the block before; None: take all for new.

        Whoever else had a block in between, or nobody, is of no account.
        """
        before, self.asked = self.asked, block.ages.asked
        if not _ZERO <= block.received_at - self.told_all_at < TELL_ALL_EVERY:
            self.told_all_at = block.received_at
            return None
        if self.asked is before:
            return _NOTHING
        return frozenset(name for name, at in self.asked.items() if before.get(name) != at)


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
        heard, ssh = steady.heard_in(block), Source.SSH
        observations = []
        for probe, known in steady.answers:
            verdict, rests_on = answer = known or probe.interpret(facts, thresholds)
            at = received_at
            if rests_on:
                if heard is not None and heard.isdisjoint(rests_on):
                    continue
                at -= answer.age(ages)
            observations.append(Observation(target_id, probe.name, ssh, verdict, at))
        return tuple(observations), steady.marks, renewed_readings(steady.readings, facts)

    def _observe_anew(self, block: FactBlock, target: Target, thresholds: ProbeThresholds) -> Told:
        facts = self._facts.read(block)
        found, told = marks(facts), readings(facts)
        answers = [(probe, probe.interpret(facts, thresholds)) for probe in PROBES_OF[target.role]]
        self._steady = None
        if _is_plain(block, thresholds) and _stays(facts, answers):
            kept = [(probe, answer if probe.is_lasting else None) for probe, answer in answers]
            self._steady = _Steady(
                *(_lasting(block), thresholds, kept, facts, found, told),
                *(block.received_at, block.ages.asked),
            )
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
        return observations, found, told


def observe_block(block: FactBlock, target: Target, thresholds: ProbeThresholds) -> Told:
    """What one block says about a VM, all by itself."""
    return GuestReader().observe(block, target, thresholds)


def _lasting(block: FactBlock) -> Mapping[str, tuple[str, ...]]:
    if block.lasting is not None:
        return block.lasting
    return {name: lines for name, lines in block.sections.items() if name not in VOLATILE_SECTIONS}


def _is_plain(block: FactBlock, thresholds: ProbeThresholds) -> bool:
    """True for a block in which no question is open and nothing is too old to be believed."""
    return not block.pending and block.ages.oldest <= thresholds.slow_stale_after


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
