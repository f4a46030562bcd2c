"""Rebuilds from journal rows what outlives a restart: episodes, cooldowns and budgets.

What is seen is seen anew; only what was decided and done is remembered. The rows fold through the
same functions as the live events, so that the daemon knows the same after a restart as before it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from stackward.core.ladder import DISRUPTIVE
from stackward.core.policy import Policy
from stackward.core.reduce import fold_zone_actions, reduce
from stackward.core.state import Episode, LogMemory, TargetState
from stackward.model.correlation import ManagementLog
from stackward.model.entry import Entry, EntryKind, StoredEntry
from stackward.model.event import StepBegun, StepFinished, StepStarted
from stackward.model.identity import IntentId, TargetId, VmRole, ZoneId
from stackward.model.outcome import Outcome, OutcomeKind
from stackward.model.plan import ActionName
from stackward.model.target import AgentState, CloudState, Target

# How long what was done to a VM that is no longer listed is remembered, should it come back.
KEEP_DEPARTED = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What is known of targets that are not in the map (yet, or any more).

    `logs`, by the id of the VM or the name of a log elsewhere: what was saved by an earlier run.
    """

    targets: Mapping[TargetId, TargetState] = field(default_factory=dict)
    logs: Mapping[str, LogMemory] = field(default_factory=dict)
    zone_actions: Mapping[ZoneId, tuple[datetime, ...]] = field(default_factory=dict)

    def recall(self, state: TargetState) -> TargetState:
        """A target seen for the first time, with what is remembered of its id."""
        known = self.targets.get(state.target.id)
        log = known.log if known is not None and known.log.read_to is not None else None
        log = log or self.logs.get(state.target.id)
        if log is not None:
            state = state._replace(log=replace(log, position=None))
        if known is None:
            return state
        return state._replace(
            episode=known.episode,
            in_flight=known.in_flight,
            in_flight_action=known.in_flight_action,
            last_finished=known.last_finished,
            last_action=known.last_action,
            last_action_at=known.last_action_at,
            withdrawn_at=known.withdrawn_at,
            advised_at=known.advised_at,
        )

    def recall_log(self, name: str) -> ManagementLog | None:
        """A management server's log that an earlier run has read; None: none has."""
        saved = self.logs.get(name)
        if saved is None:
            return None
        return ManagementLog(
            name=name,
            is_followed=False,
            position=saved.read_to,
            gaps=saved.gaps,
            gap_bytes=saved.gap_bytes,
        )

    def keep(self, state: TargetState, now: datetime) -> "Remembered":
        """Remember what was done to a target that is no longer listed; its episode is over."""
        recent = {
            target_id: known
            for target_id, known in self.targets.items()
            if now - known.listed_at < KEEP_DEPARTED
        }
        left = state._replace(episode=None)
        return replace(self, targets={**recent, state.target.id: left})

    def without(self, target_id: TargetId) -> "Remembered":
        """Forget a target that is in the map again: from here on the map knows better."""
        left = {one: known for one, known in self.targets.items() if one != target_id}
        return replace(self, targets=left)


def replay(entries: Iterable[StoredEntry], policy: Policy) -> Remembered:
    """Fold journal rows, oldest first. No step is in flight after it: whoever sent one is gone."""
    targets: dict[TargetId, TargetState] = {}
    zone_actions: Mapping[ZoneId, tuple[datetime, ...]] = {}
    for stored in entries:
        entry = stored.entry
        if entry.target_id is None:
            continue
        state = targets.get(entry.target_id) or _blank(entry.target_id, entry)
        targets[entry.target_id] = _fold(state._replace(listed_at=entry.at), entry)
        is_counted = state.in_flight_action in (None, *DISRUPTIVE)
        if entry.kind is EntryKind.BEGUN and is_counted and entry.zone_id is not None:
            window = policy.limits.zone_window
            zone_actions = fold_zone_actions(zone_actions, entry.zone_id, entry.at, window)
    return Remembered(
        targets={
            target_id: state._replace(in_flight=None, in_flight_action=None)
            for target_id, state in targets.items()
        },
        zone_actions=zone_actions,
    )


def _fold(state: TargetState, entry: Entry) -> TargetState:
    target_id, at = state.target.id, entry.at
    intent_id = entry.intent_id or IntentId(f"{entry.kind.value} at {at.isoformat()}")
    match entry.kind:
        case EntryKind.EPISODE_OPENED if entry.episode_id and entry.diagnosis:
            episode = Episode(id=entry.episode_id, opened_at=at, diagnosis=entry.diagnosis)
            return state._replace(episode=episode)
        case EntryKind.EPISODE_CLOSED:
            return state._replace(episode=None)
        case EntryKind.ESCALATED if state.episode is not None and entry.diagnosis is not None:
            called_for = state.episode.called_for | {entry.diagnosis}
            return state._replace(episode=replace(state.episode, called_for=called_for))
        case EntryKind.INTENT:
            return _start(state, intent_id, entry)
        case EntryKind.BEGUN:
            begun = StepBegun(target_id=target_id, intent_id=intent_id, at=at)
            return reduce(_start(state, intent_id, entry), begun)
        case EntryKind.OUTCOME if entry.outcome is not None:
            return _finish(state, intent_id, entry, entry.outcome)
        case EntryKind.WOULD_HAVE:
            outcome = entry.outcome or Outcome(OutcomeKind.WOULD_HAVE, entry.text)
            return _finish(state, intent_id, entry, outcome)
        case _:
            return state


def _start(state: TargetState, intent_id: IntentId, entry: Entry) -> TargetState:
    if entry.action is None:
        return state
    started = StepStarted(
        target_id=state.target.id,
        intent_id=intent_id,
        action=entry.action,
        episode_id=entry.episode_id or "",
        at=entry.at,
    )
    return reduce(state, started)


def _finish(state: TargetState, intent_id: IntentId, entry: Entry, outcome: Outcome) -> TargetState:
    # A row without an action ends a step that an earlier row named.
    action = entry.action or state.in_flight_action or state.last_action
    return reduce(
        state,
        StepFinished(
            target_id=state.target.id,
            intent_id=intent_id,
            action=action or ActionName.RESTART_AGENT,
            outcome=outcome,
            at=entry.at,
        ),
    )


def _blank(target_id: TargetId, entry: Entry) -> TargetState:
    """A target of which only the journal has told. Nothing but what was done is ever taken."""
    zone_id = entry.zone_id or ZoneId("")
    target = Target(
        id=target_id,
        name=entry.target_name or target_id,
        role=VmRole.CONSOLE_PROXY,
        zone_id=zone_id,
        zone_name=zone_id,
        cloud_state=CloudState.UNRECOGNISED,
        agent_state=AgentState.NOT_TOLD,
    )
    return TargetState(
        target=target, first_seen_at=entry.at, listed_at=entry.at, state_since=entry.at
    )
