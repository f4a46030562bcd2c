"""One task per system VM, kept in step with the published fleet.

The prober and the tailer both need it: a task for each VM that can be reached over SSH, ended
when the VM is gone, made anew when the way to it changed. One VM has one task, so it is never
asked twice at the same time, and a slow VM delays no other.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from stackward.core.snapshot import Snapshot
from stackward.model.identity import TargetId
from stackward.model.target import HypervisorHost, SshRoute, Target
from stackward.ports import SnapshotSource


@dataclass(frozen=True, slots=True)
class Way:
    """A VM and the hypervisor host that leads to it."""

    target: Target
    host: HypervisorHost | None

    @property
    def key(self) -> tuple[object, ...]:
        """What must not change for a running task to stay right."""
        target, host = self.target, self.host
        return (
            target.route,
            target.control_address,
            target.host_id,
            target.template_id,
            host.address if host else None,
        )


class Roster:
    """Runs `work(way_of, target_id)` for each reachable VM of the newest snapshot."""

    def __init__(
        self,
        snapshots: SnapshotSource,
        work: Callable[[TargetId], Awaitable[None]],
        on_change: Callable[[frozenset[TargetId]], Awaitable[None]] | None = None,
    ) -> None:
        self._snapshots = snapshots
        self._work = work
        self._on_change = on_change
        self._ways: dict[TargetId, Way] = {}
        self._tasks: dict[TargetId, asyncio.Task[None]] = {}
        self._keys: dict[TargetId, tuple[object, ...]] = {}

    def way(self, target_id: TargetId) -> Way:
        """The VM as it was listed last."""
        return self._ways[target_id]

    async def run(self) -> None:
        """Follow the snapshots until cancelled."""
        round_number = -1
        listed_at = None
        async with asyncio.TaskGroup() as group:
            while True:
                snapshot = await self._snapshots.next_after(round_number)
                round_number = snapshot.round_number
                if snapshot.fleet.inventory_at == listed_at:
                    continue
                listed_at = snapshot.fleet.inventory_at
                await self._reconcile(group, snapshot)

    async def _reconcile(self, group: asyncio.TaskGroup, snapshot: Snapshot) -> None:
        fleet = snapshot.fleet
        wanted = {
            target_id: Way(
                state.target,
                fleet.hosts.get(state.target.host_id) if state.target.host_id else None,
            )
            for target_id, state in fleet.targets.items()
            if state.target.is_running and state.target.route is not SshRoute.NONE
        }
        for target_id in [known for known in self._tasks if known not in wanted]:
            self._end(target_id)
        for target_id, way in wanted.items():
            self._ways[target_id] = way
            if self._keys.get(target_id) == way.key and not self._tasks[target_id].done():
                continue
            self._end(target_id, keep_way=True)
            self._keys[target_id] = way.key
            self._tasks[target_id] = group.create_task(self._contained(target_id))
        if self._on_change is not None:
            await self._on_change(frozenset(wanted))

    async def _contained(self, target_id: TargetId) -> None:
        await self._work(target_id)

    def _end(self, target_id: TargetId, *, keep_way: bool = False) -> None:
        task = self._tasks.pop(target_id, None)
        if task is not None:
            task.cancel()
        self._keys.pop(target_id, None)
        if not keep_way:
            self._ways.pop(target_id, None)
