"""Folds a listing of the cloud into the map of targets: who is new, who changed, who is gone.

A VM is its CloudStack id. A migration keeps the id and changes the way in; a recreate has a new id
and takes over the service (zone and role) of the one that vanished.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from stackward.core.state import TargetState
from stackward.model.identity import ServiceId, TargetId
from stackward.model.target import CloudState, Inventory, Target
from stackward.model.verdict import Source

# A row that nobody can read may be any VM that is missing, so none is forgotten while there is
# one. A day bounds what a cloud that recreates a VM every minute can pile up meanwhile.
FORGET_AFTER = timedelta(days=1)

# A listing without a single VM is more often a lost permission than a cloud without system VMs.
EMPTY_PATIENCE = timedelta(minutes=10)

_ENDING = frozenset(
    {
        CloudState.STOPPING,
        CloudState.STOPPED,
        CloudState.SHUTDOWN,
        CloudState.DESTROYED,
        CloudState.EXPUNGING,
        CloudState.ERROR,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryFold:
    """What one listing changed. `departed`: the last VM of each service that nobody succeeded.

    `changed` holds every target listed, new ones too; `gone` the ids to forget.
    """

    changed: tuple[TargetState, ...]
    gone: tuple[TargetId, ...]
    departed: Mapping[ServiceId, TargetId] = field(default_factory=dict)


def fold_inventory(
    targets: Mapping[TargetId, TargetState],
    inventory: Inventory,
    now: datetime,
    departed: Mapping[ServiceId, TargetId] | None = None,
) -> InventoryFold:
    """What a listing changes. `departed` is what the fold before this one handed back."""
    listed = {target.id: target for target in inventory.targets}
    gone = _gone(targets, listed, inventory, now)
    leaving = dict(departed or {})
    for state in gone:
        leaving[state.target.service] = state.target.id
    changed = []
    for target in sorted(listed.values(), key=lambda target: target.id):
        known = targets.get(target.id)
        if known is None:
            predecessor = leaving.pop(target.service, None) or _ending_twin(target, targets)
            changed.append(_first_seen(target, inventory, now, predecessor))
        elif inventory.observed_at >= known.listed_at:
            changed.append(_listed_again(known, target, inventory.observed_at))
    return InventoryFold(
        changed=tuple(changed),
        gone=tuple(state.target.id for state in gone),
        departed=_without_heir(leaving, changed, targets),
    )


def _gone(
    targets: Mapping[TargetId, TargetState],
    listed: Mapping[TargetId, Target],
    inventory: Inventory,
    now: datetime,
) -> tuple[TargetState, ...]:
    patience = timedelta(0)
    if inventory.unreadable:
        patience = FORGET_AFTER
    elif not listed:
        patience = EMPTY_PATIENCE
    return tuple(
        state
        for state in (targets[target_id] for target_id in sorted(targets.keys() - listed.keys()))
        if state.listed_at < inventory.observed_at and now - state.listed_at > patience
    )


def _without_heir(
    leaving: Mapping[ServiceId, TargetId],
    changed: list[TargetState],
    targets: Mapping[TargetId, TargetState],
) -> Mapping[ServiceId, TargetId]:
    """Those who left and whom nobody named as predecessor yet."""
    if not leaving:
        return leaving
    named = {state.predecessor_id for state in (*changed, *targets.values())}
    return {service: who for service, who in leaving.items() if who not in named}


def _ending_twin(target: Target, targets: Mapping[TargetId, TargetState]) -> TargetId | None:
    """A VM of the same service that is on its way out while its successor is there already."""
    twins = [
        state
        for state in targets.values()
        if state.target.service == target.service and state.target.cloud_state in _ENDING
    ]
    succeeded = {state.predecessor_id for state in targets.values()}
    free = [state for state in twins if state.target.id not in succeeded]
    newest = max(free, key=lambda state: (state.state_since, state.target.id), default=None)
    return newest.target.id if newest is not None else None


def _first_seen(
    target: Target, inventory: Inventory, now: datetime, predecessor: TargetId | None
) -> TargetState:
    return TargetState(
        target=target,
        first_seen_at=now,
        listed_at=inventory.observed_at,
        state_since=inventory.observed_at,
        predecessor_id=predecessor,
    )


def _listed_again(state: TargetState, target: Target, at: datetime) -> TargetState:
    if target is state.target:  # the same row as the last time
        return state._replace(listed_at=at)
    state_since = state.state_since if target.cloud_state is state.target.cloud_state else at
    renewed = state._replace(target=target, listed_at=at, state_since=state_since)
    return renewed if _way(target) == _way(state.target) else _by_another_way(renewed)


def _way(target: Target) -> tuple[object, ...]:
    return (target.route, target.host_id, target.control_address)


def _by_another_way(state: TargetState) -> TargetState:
    """What was learnt by the old way speaks no more of this VM; what CloudStack said does."""
    kept = {
        probe: memory for probe, memory in state.probes.items() if memory.source is not Source.SSH
    }
    return state._replace(path=None, probes=kept, round_trip=None)
