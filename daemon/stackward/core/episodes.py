"""Opens, escalates and closes episodes: one time of being sick each, with its rows for the journal.

The episode owns the ladder. It opens when a sick target has a cause, keeps that cause's name to the
end, and closes only by good answers, never by silence and never while a step is under way.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from stackward.core.state import Episode, TargetState
from stackward.model.diagnosis import Diagnosis
from stackward.model.entry import Entry, EntryKind
from stackward.model.health import Health, HealthState
from stackward.model.identity import TargetId
from stackward.model.plan import Escalation, Plan

_ON_THE_WAY_BACK = (HealthState.HEALTHY, HealthState.RECOVERING)


def advance_episode(
    state: TargetState,
    health: Health,
    diagnoses: Sequence[Diagnosis],
    now: datetime,
    episode_id: str,
) -> tuple[TargetState, tuple[Entry, ...]]:
    """The target after this round's judgement, and what to journal.

    `episode_id` is the name of the episode, should one open.
    """
    episode = state.episode
    if episode is None:
        if health.state is not HealthState.UNHEALTHY or not diagnoses:
            return state, ()
        return _open(state, diagnoses, now, episode_id)
    if health.state is HealthState.HEALTHY and state.in_flight is None:
        entry = _entry(state, episode, EntryKind.EPISODE_CLOSED, now, "well again")
        return state._replace(episode=None), (entry,)
    is_back = health.state in _ON_THE_WAY_BACK
    well_since = (episode.well_since or now) if is_back else None
    if well_since == episode.well_since:
        return state, ()
    return state._replace(episode=replace(episode, well_since=well_since)), ()


def mark_escalated(
    state: TargetState, escalation: Escalation, now: datetime
) -> tuple[TargetState, tuple[Entry, ...]]:
    """Remember that a person was called for a diagnosis; its row is written once in an episode."""
    episode = state.episode
    if episode is None or escalation.diagnosis in episode.called_for:
        return state, ()
    entry = replace(
        _entry(state, episode, EntryKind.ESCALATED, now, escalation.sentence),
        diagnosis=escalation.diagnosis,
        evidence=(escalation.advice,),
    )
    called_for = episode.called_for | {escalation.diagnosis}
    return state._replace(episode=replace(episode, called_for=called_for)), (entry,)


def close_gone(state: TargetState, now: datetime) -> tuple[Entry, ...]:
    """What to journal when a target is no longer listed."""
    if state.episode is None:
        return ()
    return (_entry(state, state.episode, EntryKind.EPISODE_CLOSED, now, "the VM is gone"),)


def new_escalations(
    before: Plan | None, plan: Plan, with_episode: frozenset[TargetId]
) -> tuple[Entry, ...]:
    """Rows for calls that no episode owns (a zone, a host, the cloud, a way in), when they appear.

    `with_episode`: targets whose calls `mark_escalated` writes.
    """
    known = {(one.subject, one.diagnosis) for one in before.escalations} if before else set()
    return tuple(
        Entry(
            kind=EntryKind.ESCALATED,
            at=plan.made_at,
            text=one.sentence,
            target_id=one.subject.target_id,
            target_name=one.subject_name if one.subject.target_id is not None else None,
            zone_id=one.subject.zone_id,
            diagnosis=one.diagnosis,
            evidence=(one.advice,),
        )
        for one in plan.escalations
        if one.subject.target_id not in with_episode and (one.subject, one.diagnosis) not in known
    )


def _open(
    state: TargetState, diagnoses: Sequence[Diagnosis], now: datetime, episode_id: str
) -> tuple[TargetState, tuple[Entry, ...]]:
    lead = next((one for one in diagnoses if one.suppressed_by is None), diagnoses[0])
    episode = Episode(id=episode_id, opened_at=now, diagnosis=lead.code)
    entry = _entry(state, episode, EntryKind.EPISODE_OPENED, now, lead.sentence)
    opened = state._replace(episode=episode)
    return opened, (replace(entry, evidence=lead.evidence),)


def _entry(
    state: TargetState, episode: Episode, kind: EntryKind, now: datetime, text: str
) -> Entry:
    return Entry(
        kind=kind,
        at=now,
        text=text,
        target_id=state.target.id,
        target_name=state.target.name,
        zone_id=state.target.zone_id,
        episode_id=episode.id,
        diagnosis=episode.diagnosis,
    )
