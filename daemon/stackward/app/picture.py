"""The picture of the fleet that the control loop owns: events fold into it, views come out of it.

Folding an event replaces one target's value. Nobody outside the loop ever holds the mutable maps.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from stackward.core.inventory import fold_inventory
from stackward.core.ladder import DISRUPTIVE
from stackward.core.reduce import fold_zone_actions, reduce, says_it_again
from stackward.core.replay import Remembered
from stackward.core.state import FleetView, LogMemory, SourceMemory, TargetState
from stackward.core.timeline import fold_management_log, log_memory
from stackward.model.correlation import ManagementLog
from stackward.model.event import (
    Event,
    ManagementLogTold,
    Observed,
    Sighted,
    SourceTold,
    StepBegun,
    TargetEvent,
    TargetsListed,
)
from stackward.model.identity import HostId, ServiceId, TargetId, ZoneId
from stackward.model.log_flow import LogHabit
from stackward.model.target import Capabilities, HypervisorHost, Witness, Zone
from stackward.model.verdict import Source


class Picture:
    """What is known. `dirty` names the targets of which news came since they were judged."""

    def __init__(self, remembered: Remembered) -> None:
        self._remembered = remembered
        self.targets: dict[TargetId, TargetState] = {}
        self.dirty: set[TargetId] = set()
        self.zones: Mapping[ZoneId, Zone] = {}
        self.hosts: Mapping[HostId, HypervisorHost] = {}
        self.inventory_at: datetime | None = None
        self._witness: Witness | None = None
        self._unreadable: tuple[str, ...] = ()
        self._sources: dict[Source, SourceMemory] = {}
        self.management_logs: dict[str, ManagementLog] = {}
        self.read_on: set[str] = set()  # the logs, of VMs and others, of which something was told
        self._successors: dict[ServiceId, TargetId] = {}
        self._departed: Mapping[ServiceId, TargetId] = {}
        self._zone_actions: Mapping[ZoneId, tuple[datetime, ...]] = remembered.zone_actions

    def fold(self, event: Event, now: datetime, window: timedelta) -> tuple[TargetState, ...]:
        """Take one event in; what comes back are the targets that are gone by it."""
        match event:
            case Observed():  # first, because it comes most often
                self._fold_news(event, window)
                return ()
            case TargetsListed():
                return self._fold_listing(event, now)
            case SourceTold():
                self._fold_source(event)
                return ()
            case ManagementLogTold():
                known = self.management_logs.get(event.name)
                told = fold_management_log(known or self._remembered.recall_log(event.name), event)
                self.management_logs[event.name] = told
                self.read_on.add(event.name)
                return ()
            case _:
                self._fold_news(event, window)
                return ()

    def put(self, state: TargetState) -> None:
        """Replace one target's value."""
        self.targets[state.target.id] = state
        self.dirty.add(state.target.id)

    def logs(self, *, everything: bool) -> dict[str, LogMemory]:
        """What is remembered of each log; or only of those read on since `read_on` was emptied."""
        vms = self.targets.keys() if everything else self.targets.keys() & self.read_on
        others = self.management_logs
        return {target_id: self.targets[TargetId(target_id)].log for target_id in vms} | {
            name: log_memory(log)
            for name, log in others.items()
            if everything or name in self.read_on
        }

    def view(
        self,
        *,
        pause_reason: str | None,
        demotion: str | None,
        journal_trouble: str,
        capabilities: Capabilities | None,
    ) -> FleetView:
        """The picture as the pure rooms read it. Copies the maps: once a round, not per event."""
        return FleetView(
            targets=dict(self.targets),
            zones=self.zones,
            hosts=self.hosts,
            inventory_at=self.inventory_at,
            inventory_witness=self._witness,
            unreadable=self._unreadable,
            sources=dict(self._sources),
            management_logs=dict(self.management_logs),
            zone_actions=self._zone_actions,
            successors=self._successors,
            pause_reason=pause_reason,
            demotion=demotion,
            journal_trouble=journal_trouble,
            capabilities=frozenset(capabilities.commands) if capabilities else None,
        )

    def set_clock_by(self, jump: timedelta, now: datetime) -> None:
        """The wall clock jumped: what was observed by the old one is forgotten, the rest moved.

        Nothing is moved past `now`: a listing by the new clock may have come before the jump was
        seen. Answers come anew within one interval. Left as they were, those from before a clock
        that went back would look newer than every answer to come, until it has caught up.
        """
        for target_id, state in self.targets.items():
            self.targets[target_id] = state._replace(
                first_seen_at=min(state.first_seen_at + jump, now),
                listed_at=min(state.listed_at + jump, now),
                state_since=min(state.state_since + jump, now),
                probes={},
                path=None,
                log=replace(
                    state.log,
                    told_at=None,
                    ready_seen_at=None,
                    habit=LogHabit(),
                    flow=state.log.flow._replace(last_line_at=None),
                ),
                marks_at=None,
                booted_at=None,
            )
            self.dirty.add(target_id)
        if self.inventory_at is not None:
            self.inventory_at = min(self.inventory_at + jump, now)
        for source, memory in self._sources.items():
            last_up_at = memory.last_up_at
            self._sources[source] = replace(
                memory,
                since=min(memory.since + jump, now),
                told_at=min(memory.told_at + jump, now),
                last_up_at=None if last_up_at is None else min(last_up_at + jump, now),
            )

    def _fold_listing(self, event: TargetsListed, now: datetime) -> tuple[TargetState, ...]:
        inventory = event.inventory
        folded = fold_inventory(self.targets, inventory, now, self._departed)
        for state in folded.changed:
            before = self.targets.get(state.target.id)
            if before is None:
                self.put(self._remembered.recall(state))
            elif before.target == state.target:  # listed again as it was: no news of it
                self.targets[state.target.id] = state
            else:
                self.put(state)
            if state.target.id in self._remembered.targets:
                self._remembered = self._remembered.without(state.target.id)
        gone = tuple(self.targets.pop(target_id) for target_id in folded.gone)
        for state in gone:
            self._remembered = self._remembered.keep(state, now)
        self.dirty.difference_update(folded.gone)
        self.read_on.difference_update(folded.gone)
        self._successors = {
            state.target.service: state.target.id
            for state in self.targets.values()
            if state.predecessor_id is not None
        }
        self._departed = folded.departed
        self.zones = {zone.id: zone for zone in inventory.zones}
        self.hosts = {host.id: host for host in inventory.hosts}
        self.inventory_at = inventory.observed_at
        self._witness = inventory.witness
        self._unreadable = inventory.unreadable
        return gone

    def _fold_news(self, event: TargetEvent, window: timedelta) -> None:
        """What is told of one target; of one that is not known, nothing is kept."""
        state = self.targets.get(event.target_id)
        if state is None:
            return
        if says_it_again(state, event):
            self.targets[event.target_id] = reduce(state, event)
        else:
            self.put(reduce(state, event))
        if isinstance(event, Sighted):
            self.read_on.add(event.target_id)
        if isinstance(event, StepBegun) and state.in_flight_action in (None, *DISRUPTIVE):
            self._zone_actions = fold_zone_actions(
                self._zone_actions, state.target.zone_id, event.at, window
            )

    def _fold_source(self, event: SourceTold) -> None:
        old = self._sources.get(event.source)
        told = SourceMemory(
            is_up=event.is_up,
            detail=event.detail,
            since=event.at,
            told_at=event.at,
            last_up_at=event.at if event.is_up else None,
            latency=event.latency,
        )
        if old is not None:
            told = replace(
                told,
                since=old.since if old.is_up is event.is_up else event.at,
                last_up_at=told.last_up_at or old.last_up_at,
            )
        self._sources[event.source] = told
