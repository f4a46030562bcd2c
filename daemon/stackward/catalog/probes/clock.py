"""The VM's clock beside ours: certificates and logs need it right."""

from stackward.catalog.facts import GuestFacts, Unreadable
from stackward.catalog.probe import Answer, ProbeThresholds
from stackward.model.verdict import Failed, Passed, Sign, Unknown


def interpret_clock(facts: GuestFacts, thresholds: ProbeThresholds) -> Answer:
    """Failed only if it is off by more than is allowed and more than the asking can explain."""
    if isinstance(facts.clock_offset, Unreadable):
        return Answer(Unknown(facts.clock_offset.reason))
    offset = facts.clock_offset.total_seconds()
    words = f"the clock is {abs(offset):.1f} s {'ahead of' if offset >= 0 else 'behind'} ours"
    if abs(facts.clock_offset) > thresholds.clock_offset_max + facts.clock_uncertainty:
        return Answer(Failed(Sign.CLOCK_SKEWED, words))
    return Answer(Passed(words))
