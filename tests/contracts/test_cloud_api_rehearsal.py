"""The CloudStack client against the rehearsed cloud, whose API was written apart from it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from stackward.errors import Garbled, RefusalKind, Refused, TransportError, Unreachable
from stackward.model.identity import TargetId
from stackward.model.target import AgentState, CloudState, SshRoute
from stackward.ports import JobStatus
from stackward.rehearsal.server import Rehearsal
from stackward.rehearsal.settings import QUICK, GuestKind, RehearsalSettings, Release
from stackward.transports.clock import SystemClock
from stackward.transports.cloudstack import CloudStackApi, CloudStackSettings
from tests.contracts.cloud_api import CLAIMS, NOWHERE, Stage

WITHIN = 20.0
API_ONLY = RehearsalSettings(zones=2, guests=GuestKind.NONE, pace=QUICK)


@pytest.fixture
async def cloud() -> AsyncIterator[Rehearsal]:
    async with Rehearsal(API_ONLY) as started:
        yield started


@pytest.fixture
async def client(cloud: Rehearsal) -> AsyncIterator[CloudStackApi]:
    async with client_of(cloud) as opened:
        yield opened


def client_of(cloud: Rehearsal, **changes: Any) -> CloudStackApi:
    settings = CloudStackSettings(
        endpoints=(cloud.api_url,),
        api_key=cloud.api_key,
        secret_key=lambda: cloud.secret_key,
        request_timeout=WITHIN,
        rate_per_second=1000.0,
    )
    return CloudStackApi(replace(settings, **changes), SystemClock())


@asynccontextmanager
async def rehearsal(**changes: Any) -> AsyncIterator[tuple[Rehearsal, CloudStackApi]]:
    async with Rehearsal(replace(API_ONLY, **changes)) as cloud, client_of(cloud) as client:
        yield cloud, client


def first_vm(cloud: Rehearsal) -> TargetId:
    return TargetId(next(iter(cloud.world.vms)))


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
async def test_the_client_keeps_the_contract(claim, cloud, client):
    def destroy(target_id: TargetId) -> None:
        cloud.world.remove(cloud.world.vms[target_id])

    await claim(Stage(client, SystemClock(), first_vm(cloud), destroy))


async def test_the_whole_cloud_is_listed(cloud, client):
    inventory = await client.inventory()
    assert inventory.unreadable == ()
    assert {target.name for target in inventory.targets} == {
        vm.name for vm in cloud.world.vms.values()
    }
    assert {target.agent_state for target in inventory.targets} == {AgentState.UP}
    assert {target.route for target in inventory.targets} == {SshRoute.JUMP}
    zones = {zone.id for zone in inventory.zones}
    hosts = {host.id: host for host in inventory.hosts}
    assert len(zones) == 2
    assert {target.zone_id for target in inventory.targets} == zones
    for target in inventory.targets:
        assert target.host_id is not None
        assert hosts[target.host_id].is_up
        assert target.control_address is not None
        assert target.created_at is not None


async def test_a_cloud_without_anything_lists_nothing():
    async with rehearsal(zones=0) as (_, client):
        inventory = await client.inventory()
    assert (inventory.targets, inventory.zones, inventory.hosts) == ((), (), ())
    assert inventory.unreadable == ()


@pytest.mark.timeout(180)
async def test_more_than_a_page_of_vms_is_listed_whole():
    async with rehearsal(zones=3, ssvms_per_zone=100, cpvms_per_zone=101) as (cloud, client):
        inventory = await client.inventory()
        assert len(cloud.world.vms) == 603
        assert {target.id for target in inventory.targets} == set(cloud.world.vms)
    assert inventory.unreadable == ()


@pytest.mark.parametrize("name", ["4.11.3.0", "4.13.0.0", "4.13.1.0", "4.20.1.0", "4.22.0.0"])
@pytest.mark.parametrize("asks_capabilities", [True, False])
async def test_agents_are_told_alike_by_every_release(name, asks_capabilities):
    async with rehearsal(release=Release(name)) as (cloud, client):
        if asks_capabilities:
            assert (await client.capabilities()).version == name
        ssvm, cpvm, *_ = cloud.world.vms.values()
        cloud.world.forget_agent(ssvm)
        cloud.world.agent_link_closed(cpvm)
        states = {each.name: each.agent_state for each in (await client.inventory()).targets}
        seen = await client.look(TargetId(cpvm.id))
    assert states[ssvm.name] is AgentState.ABSENT
    assert states[cpvm.name] is AgentState.ALERT
    assert seen.target is not None
    assert seen.target.agent_state is AgentState.ALERT


@pytest.mark.parametrize("name", ["4.11.3.0", "4.22.0.0"])
async def test_a_stopped_vm_has_no_agent_that_is_up(name):
    async with rehearsal(release=Release(name)) as (cloud, client):
        vm = next(iter(cloud.world.vms.values()))
        cloud.world.switch_off(vm)
        seen = await client.look(TargetId(vm.id))
    assert seen.target is not None
    assert seen.target.cloud_state is CloudState.STOPPED
    assert seen.target.agent_state is not AgentState.UP


async def test_what_the_client_uses_is_among_what_the_api_can_do(client):
    capabilities = await client.capabilities()
    assert {"listSystemVms", "listHosts", "rebootSystemVm", "queryAsyncJobResult"} <= set(
        capabilities.commands
    )
    assert "forced" in capabilities.commands["rebootSystemVm"]


async def test_a_pending_job_shows_on_its_vm():
    async with rehearsal(pace=replace(QUICK, job=600.0)) as (cloud, client):
        target_id = first_vm(cloud)
        job_id = await client.reboot_system_vm(target_id)
        assert (await client.job(job_id)).status is JobStatus.PENDING
        seen = await client.look(target_id)
        assert seen.target is not None
        assert seen.target.job_id == job_id


async def test_another_client_picks_up_a_job_by_its_id(cloud, client):
    job_id = await client.reboot_system_vm(first_vm(cloud))
    async with client_of(cloud) as another:
        assert (await another.job(job_id)).job_id == job_id


async def test_rebooting_a_vm_that_is_gone_is_refused_as_gone(cloud, client):
    target_id = first_vm(cloud)
    cloud.world.remove(cloud.world.vms[target_id])
    with pytest.raises(Refused) as caught:
        await client.reboot_system_vm(target_id)
    assert caught.value.kind is RefusalKind.GONE
    assert await client.look(target_id) == NOWHERE


@pytest.mark.parametrize("changes", [{"api_key": "no-such-key"}, {"secret_key": lambda: "wrong"}])
async def test_a_wrong_key_is_refused(cloud, changes):
    async with client_of(cloud, **changes) as client:
        with pytest.raises(Refused) as caught:
            await client.inventory()
    assert caught.value.kind is RefusalKind.CREDENTIALS


async def test_a_clock_that_is_behind_is_refused_as_credentials(cloud, client):
    cloud.api.manners.offset = timedelta(hours=1)
    with pytest.raises(Refused) as caught:
        await client.inventory()
    assert caught.value.kind is RefusalKind.CREDENTIALS
    assert "clocks that differ" in str(caught.value)


async def test_a_command_outside_the_role_is_refused(cloud, client):
    cloud.api.manners.forbidden.add("listhosts")
    with pytest.raises(Refused) as caught:
        await client.inventory()
    assert caught.value.kind is RefusalKind.NOT_ALLOWED


async def test_a_server_that_stands_down_takes_no_reboot(cloud, client):
    cloud.api.manners.is_standing_down = True
    with pytest.raises(Refused) as caught:
        await client.reboot_system_vm(first_vm(cloud))
    assert caught.value.kind is RefusalKind.STANDING_DOWN
    assert [line for line in cloud.ledger() if line.is_executed] == []


async def test_a_lost_answer_is_told_as_such_and_the_reboot_was_sent_once(cloud, client):
    cloud.api.manners.loses_answers = True
    before = SystemClock().now()
    target_id = first_vm(cloud)
    with pytest.raises(TransportError) as caught:
        await client.reboot_system_vm(target_id)
    assert caught.value.maybe_sent
    assert len([line for line in cloud.ledger() if line.what == "rebootSystemVm"]) == 1
    (job,) = await client.jobs_since(before)
    assert job.target_id == target_id


@pytest.mark.parametrize(("manner", "kind"), [("is_half", Garbled), ("is_html", Refused)])
async def test_bad_manners_are_one_kind_of_trouble(cloud, client, manner, kind):
    setattr(cloud.api.manners, manner, True)
    with pytest.raises(TransportError) as caught:
        await client.inventory()
    assert type(caught.value) is kind


async def test_a_cloud_that_is_gone_is_unreachable():
    async with Rehearsal(API_ONLY) as cloud:
        client = client_of(cloud)
        await client.inventory()
    with pytest.raises(Unreachable):
        await client.inventory()
    await client.close()
