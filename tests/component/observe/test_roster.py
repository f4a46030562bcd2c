"""One task per reachable VM, in step with the published fleet."""

import asyncio
from dataclasses import replace

from stackward.model.identity import TargetId
from stackward.model.target import CloudState, SshRoute
from stackward.observe.roster import Roster
from tests.builders import HOST, a_target
from tests.component.observe.watchtower import Watchtower, running
from tests.fakes.virtual_loop import virtually

VM = TargetId("id-v-2-VM")


class Ledger:
    """Notes when work on a VM begins and ends, and by which way."""

    def __init__(self, tower: Watchtower) -> None:
        self.begun: list[tuple[TargetId, str | None]] = []
        self.ended: list[TargetId] = []
        self.retained: list[frozenset[TargetId]] = []
        self.roster = Roster(tower.bulletin, self._work, self._retain)

    async def _work(self, target_id: TargetId) -> None:
        self.begun.append((target_id, self.roster.way(target_id).target.control_address))
        try:
            await asyncio.sleep(1e9)
        finally:
            self.ended.append(target_id)

    async def _retain(self, target_ids: frozenset[TargetId]) -> None:
        self.retained.append(target_ids)


@virtually
async def test_a_new_listing_of_the_same_fleet_changes_nothing():
    tower = Watchtower()
    ledger = Ledger(tower)
    async with running(ledger.roster.run):
        for _ in range(5):
            tower.publish(a_target())
            await asyncio.sleep(10)
        assert len(ledger.begun) == 1
        assert ledger.ended == []
        assert ledger.retained == [{VM}] * 5


@virtually
async def test_rounds_without_a_new_listing_are_not_even_looked_at():
    tower = Watchtower()
    ledger = Ledger(tower)
    async with running(ledger.roster.run):
        now = tower.clock.now()
        for _ in range(5):
            tower.publish(a_target(), inventory_at=now)
            await asyncio.sleep(1)
        assert len(ledger.retained) == 1


@virtually
async def test_a_migration_ends_the_task_and_begins_another():
    tower = Watchtower()
    ledger = Ledger(tower)
    async with running(ledger.roster.run):
        tower.publish(a_target())
        await asyncio.sleep(5)
        tower.publish(a_target(control_address="169.254.7.7"))
        await asyncio.sleep(5)
        assert ledger.begun == [(VM, "169.254.1.20"), (VM, "169.254.7.7")]
        assert ledger.ended == [VM]


@virtually
async def test_a_hypervisor_with_another_address_is_another_way():
    tower = Watchtower()
    ledger = Ledger(tower)
    async with running(ledger.roster.run):
        tower.publish(a_target())
        await asyncio.sleep(5)
        tower.publish(a_target(), host=replace(HOST, address="192.0.2.99"))
        await asyncio.sleep(5)
        assert len(ledger.begun) == 2


@virtually
async def test_what_does_not_change_the_way_is_news_to_the_running_task():
    tower = Watchtower()
    ledger = Ledger(tower)
    async with running(ledger.roster.run):
        tower.publish(a_target())
        await asyncio.sleep(5)
        tower.publish(a_target(agent_version="4.20.1.0"))
        await asyncio.sleep(5)
        assert len(ledger.begun) == 1
        assert ledger.roster.way(VM).target.agent_version == "4.20.1.0"


@virtually
async def test_the_task_of_a_vm_that_is_gone_ends():
    tower = Watchtower()
    ledger = Ledger(tower)
    async with running(ledger.roster.run):
        tower.publish(a_target(), a_target("s-1-VM"))
        await asyncio.sleep(5)
        tower.publish(a_target("s-1-VM"))
        await asyncio.sleep(5)
        assert ledger.ended == [VM]
        assert ledger.retained[-1] == {"id-s-1-VM"}
        tower.publish(a_target(), a_target("s-1-VM"))
        await asyncio.sleep(5)
        assert [target_id for target_id, _ in ledger.begun].count(VM) == 2


@virtually
async def test_a_vm_that_cannot_be_reached_has_no_task():
    tower = Watchtower()
    ledger = Ledger(tower)
    async with running(ledger.roster.run):
        tower.publish(
            a_target(route=SshRoute.NONE), a_target("s-1-VM", cloud_state=CloudState.STOPPED)
        )
        await asyncio.sleep(5)
        assert ledger.begun == []


@virtually
async def test_a_task_that_ended_by_itself_is_begun_again_at_the_next_listing():
    tower = Watchtower()
    begun: list[TargetId] = []

    async def work(target_id: TargetId) -> None:
        begun.append(target_id)

    roster = Roster(tower.bulletin, work)
    async with running(roster.run):
        for _ in range(3):
            tower.publish(a_target())
            await asyncio.sleep(10)
    assert begun == [VM] * 3
