"""Memory that is still to be had, by the kernel's own estimate."""

from stackward.catalog.facts import GuestFacts, Unreadable
from stackward.catalog.probe import Answer, ProbeThresholds
from stackward.model.verdict import Failed, Passed, Sign, Unknown


def interpret_memory(facts: GuestFacts, thresholds: ProbeThresholds) -> Answer:
    """Is there room left?"""
    if isinstance(facts.memory, Unreadable):
        return Answer(Unknown(facts.memory.reason))
    ratio = facts.memory.available_bytes / facts.memory.total_bytes
    words = f"{facts.memory.available_bytes // 2**20} MiB ({ratio:.0%}) of memory available"
    if ratio < thresholds.memory_available_ratio_min:
        return Answer(Failed(Sign.MEMORY_LOW, words))
    return Answer(Passed(words))
