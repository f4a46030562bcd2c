"""Turns what is remembered of a target into its health.

Rise and fall: one bad answer is Suspect, and one good answer after an episode is Recovering.
Vantage points: the inside, the API and the database corroborate each other; where they differ, the
reasons show it. A way in that is cut takes away what it told and nothing else.
"""

from datetime import datetime

from stackward.core.diagnoses import rows_of
from stackward.core.evidence import ADVISORY_SIGNS, Evidence, read_evidence
from stackward.core.policy import Policy
from stackward.core.state import Episode, ProbeMemory, TargetState
from stackward.core.wording import plain
from stackward.model.health import Health, HealthState, Overall
from stackward.model.verdict import Failed, ProbeName, Source, Unknown

# Who can say that an agent is well, each alone.
_AGENT_WITNESSES = (ProbeName.CLOUD_AGENT, ProbeName.DATABASE_AGENT, ProbeName.AGENT_LINK)


def assess(
    state: TargetState, policy: Policy, now: datetime, evidence: Evidence | None = None
) -> Health:
    """The health of a target at a moment, with its reasons, the most telling first.

    `evidence`: the target's at that moment, if it has been read already.
    """
    evidence = evidence or read_evidence(state, policy, now)
    bad = [
        _said(memory)
        for sign, memory in sorted(evidence.believed.items())
        if sign not in ADVISORY_SIGNS
    ]
    doubted = [
        f"{_said(memory)} ({doubt})"
        for sign, (memory, doubt) in sorted(evidence.doubted.items())
        if sign not in ADVISORY_SIGNS
    ]
    is_well = any(probe in evidence.passed for probe in _AGENT_WITNESSES)
    advice = [_said(memory) for sign, memory in evidence.believed.items() if sign in ADVISORY_SIGNS]
    if bad:
        reasons = (*bad, *_against(evidence), *doubted, *advice, *_silence(state, evidence))
        return Health(HealthState.UNHEALTHY, Overall.FAILED, reasons)
    reasons = (*doubted, *advice, *_silence(state, evidence))
    if doubted:
        verdict = Overall.PASSED if is_well and state.episode is None else Overall.UNKNOWN
        return Health(HealthState.SUSPECT, verdict, reasons)
    if not is_well:
        nobody = "nobody can say whether the agent is well"
        return Health(HealthState.UNKNOWN, Overall.UNKNOWN, (nobody, *reasons))
    if state.episode is not None:
        awaited = _awaited(state, state.episode, evidence, policy)
        if awaited:
            return Health(HealthState.RECOVERING, Overall.UNKNOWN, (*awaited, *reasons))
    return Health(HealthState.HEALTHY, Overall.PASSED, reasons)


def _said(memory: ProbeMemory) -> str:
    verdict = memory.verdict
    words = verdict.reason if isinstance(verdict, Unknown) else verdict.evidence
    return f"{memory.source.value}: {plain(words) or 'well'}"


def _against(evidence: Evidence) -> tuple[str, ...]:
    """The witnesses who say of a sick target that its agent is well."""
    return tuple(
        f"but {_said(evidence.passed[probe])}"
        for probe in _AGENT_WITNESSES
        if probe in evidence.passed
    )


def _silence(state: TargetState, evidence: Evidence) -> tuple[str, ...]:
    if state.path is not None and state.path.leg is not None:
        why = f"{state.path.leg.spoken}: {plain(state.path.detail)}"
        return (f"nothing is known from inside: {why}",)
    stale = sorted(probe.value for probe, why in evidence.silent.items() if why == "stale")
    return (f"stale: {', '.join(stale)}",) if stale else ()


def _awaited(
    state: TargetState, episode: Episode, evidence: Evidence, policy: Policy
) -> tuple[str, ...]:
    """What must still be seen before an episode is over: nothing closes by silence.

    Each source that the episode's cause rests on answers well `rise` times, and no probe that was
    bad when it last spoke is silent now.
    """
    rise = policy.thresholds.rise
    awaited = [
        f"{probe.value} passed {memory.passed_in_a_row} of {rise} times"
        for probe, memory in sorted(evidence.passed.items())
        if memory.passed_in_a_row < rise
    ]
    awaited += [
        f"{probe.value} has not passed since it failed"
        for probe, memory in sorted(state.probes.items())
        if probe in evidence.silent and _was_bad(memory)
    ]
    awaited += [
        f"no word from {source.value} yet"
        for source in sorted(_sources(episode))
        if not evidence.knows(source)
    ]
    return tuple(awaited)


def _was_bad(memory: ProbeMemory) -> bool:
    known = memory.last_known
    return (
        known is not None
        and isinstance(known.verdict, Failed)
        and known.verdict.sign not in ADVISORY_SIGNS
    )


def _sources(episode: Episode) -> frozenset[Source]:
    """The sources that the cause of an episode rests on, whichever of its rows it was."""
    return frozenset.intersection(*(row.sources for row in rows_of(episode.diagnosis)))
