"""The rehearsed API keeps CloudStack's manners, good and bad."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from cs import CloudStack
from tests.component.rehearsal.caller import Caller, signed
from tests.component.rehearsal.visitor import BRISK, settles

from stackward.model.target import CloudState
from stackward.rehearsal.server import Rehearsal
from stackward.rehearsal.settings import GuestKind, RehearsalSettings, Release
from stackward.rehearsal.signatures import expected_signature

API_ONLY = RehearsalSettings(zones=2, guests=GuestKind.NONE, pace=BRISK)


@pytest.fixture
async def cloud() -> AsyncIterator[Rehearsal]:
    async with Rehearsal(API_ONLY) as started:
        yield started


@pytest.fixture
async def caller(cloud: Rehearsal) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession() as session:
        yield Caller(cloud, session)


def test_the_signature_is_the_one_java_makes():
    params = {
        "command": "listSystemVms",
        "response": "json",
        "apikey": "AKey-1_x",
        "signatureversion": "3",
        "expires": "2030-01-02T03:04:05+0000",
        "keyword": "a b*~é/+'()!:[x]",
    }
    assert expected_signature(params, "SKey-1_y") == "HTIUGYk1q15OkG++tcRbqDbPGBU="


async def test_every_zone_has_its_two_vms_running_with_their_agents_up(caller):
    status, answer = await caller.call("listSystemVms")
    assert status == 200
    assert answer["count"] == 4
    assert {vm["name"] for vm in answer["systemvm"]} == {"s-1-VM", "v-2-VM", "s-3-VM", "v-4-VM"}
    assert {(vm["state"], vm["agentstate"]) for vm in answer["systemvm"]} == {("Running", "Up")}


async def test_an_independent_client_is_understood(cloud):
    client = CloudStack(endpoint=cloud.api_url, key=cloud.api_key, secret=cloud.secret_key)
    answer = await asyncio.to_thread(client.listZones)
    assert [zone["name"] for zone in answer["zone"]] == ["zone-1", "zone-2"]


async def test_a_list_without_a_match_has_neither_count_nor_rows(caller):
    assert await caller.call("listSystemVms", name="no-such") == (200, {})


async def test_a_page_past_the_end_has_the_count_alone(caller):
    assert await caller.call("listSystemVms", page="9", pagesize="2") == (200, {"count": 4})


async def test_a_page_holds_as_many_rows_as_asked_for(caller):
    _, answer = await caller.call("listSystemVms", page="2", pagesize="3")
    assert answer["count"] == 4
    assert [vm["name"] for vm in answer["systemvm"]] == ["v-4-VM"]


@pytest.mark.parametrize(
    "params", [{"page": "1"}, {"pagesize": "10"}, {"page": "1", "pagesize": "501"}]
)
async def test_half_a_page_or_too_large_a_page_is_refused(caller, params):
    status, answer = await caller.call("listSystemVms", **params)
    assert (status, answer["errorcode"]) == (431, 431)


async def test_a_wrong_signature_an_old_request_and_an_unknown_command_look_alike(caller):
    good = caller.params("listZones")
    wrong = {**signed(good, caller.cloud.secret_key), "signature": "bm90IGl0"}
    past = (datetime.now(UTC) - timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%S+0000")
    old = signed({**good, "expires": past}, caller.cloud.secret_key)
    stranger = signed({**good, "command": "listUnicorns"}, caller.cloud.secret_key)
    for params in (wrong, old, stranger):
        status, body, headers = await caller.raw(params)
        assert (status, list(body)) == (401, ["errorresponse"])
        assert "unable to verify" in body["errorresponse"]["errortext"]
        assert "X-Description" not in headers


async def test_a_forbidden_command_is_told_before_the_secret_is_checked(caller):
    caller.cloud.api.manners.forbidden.add("listhosts")
    params = signed(caller.params("listHosts"), "not the secret")
    status, body, headers = await caller.raw(params)
    assert (status, list(body)) == (432, ["errorresponse"])
    assert "listHosts" in headers["X-Description"]


async def test_a_stale_id_is_a_parameter_error(caller):
    status, answer = await caller.call("rebootSystemVm", method="POST", id="no-such-vm")
    assert status == 431
    assert "entity does not exist" in answer["errortext"]
    assert [(line.what, line.is_executed) for line in caller.cloud.ledger()] == [
        ("rebootSystemVm", False)
    ]


async def test_a_reboot_is_a_job_that_shows_on_the_vm_and_ends(caller):
    vm = next(iter(caller.cloud.world.vms.values()))
    boot_id = vm.body.boot_id
    status, answer = await caller.call("rebootSystemVm", method="POST", id=vm.id)
    assert status == 200
    _, listed = await caller.call("listSystemVms", id=vm.id)
    assert listed["systemvm"][0]["jobid"] == answer["jobid"]
    await settles(lambda: not vm.jobs)
    _, job = await caller.call("queryAsyncJobResult", jobid=answer["jobid"])
    assert (job["jobstatus"], job["jobresult"]["systemvm"]["id"]) == (1, vm.id)
    assert job["cmd"].endswith(".RebootSystemVmCmd")
    await settles(lambda: vm.body.boot_id != boot_id and vm.agent.status.value == "Up")
    _, jobs = await caller.call("listAsyncJobs", listall="true")
    assert [row["jobid"] for row in jobs["asyncjobs"]] == [answer["jobid"]]
    assert [(line.what, line.vm) for line in caller.cloud.ledger()] == [("rebootSystemVm", vm.name)]


async def test_the_lying_reboot_succeeds_and_reboots_nothing(caller):
    caller.cloud.world.reboots_lie = True
    vm = next(iter(caller.cloud.world.vms.values()))
    boot_id = vm.body.boot_id
    _, answer = await caller.call("rebootSystemVm", method="POST", id=vm.id)
    await settles(lambda: not vm.jobs)
    _, job = await caller.call("queryAsyncJobResult", jobid=answer["jobid"])
    assert (job["jobstatus"], vm.body.boot_id) == (1, boot_id)


async def test_a_destroyed_vm_comes_back_as_another(caller):
    world = caller.cloud.world
    old = world.vm_named("s-1-VM")
    await caller.call("destroySystemVm", method="POST", id=old.id)
    await settles(lambda: any(v.number > 4 and v.agent is not None for v in world.vms.values()))
    status, _ = await caller.call("listSystemVms", id=old.id)
    assert status == 431
    new = list(world.vms.values())[-1]
    assert (new.name, new.zone) == ("s-5-VM", old.zone)
    assert new.id != old.id
    assert new.link_local != old.link_local


async def test_a_stopped_vm_is_started_again_by_the_scan(caller):
    vm = caller.cloud.world.vm_named("v-2-VM")
    await caller.call("stopSystemVm", method="POST", id=vm.id)
    await settles(lambda: vm.state is CloudState.STOPPED)
    assert vm.agent.status.value == "Disconnected"
    await settles(lambda: vm.state is CloudState.RUNNING and vm.agent.status.value == "Up")


async def test_a_lost_answer_was_executed_all_the_same(caller):
    caller.cloud.api.manners.loses_answers = True
    vm = next(iter(caller.cloud.world.vms.values()))
    with pytest.raises(aiohttp.ClientError):
        await caller.call("rebootSystemVm", method="POST", id=vm.id)
    assert len(caller.cloud.ledger()) == 1
    assert len(vm.jobs) == 1


async def test_half_a_reply_breaks_off(caller):
    caller.cloud.api.manners.is_half = True
    with pytest.raises(aiohttp.ClientError):
        await caller.call("listZones")


async def test_a_silent_api_answers_nobody(caller):
    caller.cloud.api.manners.is_silent = True
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await caller.call("listZones")


async def test_an_old_release_tells_no_agent_state_but_lists_the_agents_host():
    settings = replace(API_ONLY, release=Release("4.11.1.0"))
    async with Rehearsal(settings) as cloud, aiohttp.ClientSession() as session:
        caller = Caller(cloud, session)
        _, answer = await caller.call("listSystemVms")
        assert "agentstate" not in answer["systemvm"][0]
        _, hosts = await caller.call("listHosts", type="SecondaryStorageVM")
        assert [host["name"] for host in hosts["host"]] == ["s-1-VM", "s-3-VM"]
        iso = (datetime.now(UTC) + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
        params = signed({**caller.params("listZones"), "expires": iso}, cloud.secret_key)
        status, _, _ = await caller.raw(params)
        assert status == 401


async def test_capabilities_tell_what_this_release_can(caller):
    _, capabilities = await caller.call("listCapabilities")
    assert capabilities["capability"]["cloudstackversion"] == "4.20.1.0"
    _, apis = await caller.call("listApis", name="rebootSystemVm")
    assert [param["name"] for param in apis["api"][0]["params"]] == ["forced", "id"]
    assert apis["api"][0]["isasync"]


async def test_the_same_seed_gives_the_same_identities():
    names = []
    for _ in range(2):
        async with Rehearsal(API_ONLY) as cloud:
            names.append([(vm.id, vm.name, vm.link_local) for vm in cloud.world.vms.values()])
    assert names[0] == names[1]


async def test_nothing_is_left_behind():
    async with Rehearsal(API_ONLY) as cloud:
        directory = cloud.directory
        assert directory.is_dir()
    assert not directory.exists()
