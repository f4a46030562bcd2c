"""Each fault does what its table says, and is gone when it is switched off."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import asyncssh
import pytest
from tests.component.rehearsal.caller import Caller
from tests.component.rehearsal.visitor import BRISK, DEADLINE, inside, jump_to, said, settles

from stackward.model.target import CloudState
from stackward.rehearsal.faults import BY_NAME, FAULTS, Kind
from stackward.rehearsal.server import Rehearsal
from stackward.rehearsal.settings import RehearsalSettings
from stackward.rehearsal.stage import NotHere

SMALL = RehearsalSettings(zones=1, pace=BRISK)
SUBJECTS = {Kind.VM: "s-1-VM", Kind.HOST: "kvm-1-1", Kind.ZONE: "zone-1", Kind.CLOUD: ""}
STAT = "stat -f -c '%b %f %a %S %c %d %n'"


@pytest.fixture
async def cloud() -> AsyncIterator[Rehearsal]:
    async with Rehearsal(SMALL) as started:
        yield started


@pytest.fixture
def vm(cloud):
    return cloud.stage.vm("s-1-VM")


def agent(vm) -> str:
    return "absent" if vm.agent is None else vm.agent.status.value


@pytest.mark.parametrize("name", [fault.name for fault in FAULTS])
async def test_every_fault_begins_and_ends_and_leaves_the_cloud_whole(cloud, name):
    on = SUBJECTS[BY_NAME[name].kind]
    cloud.inject(name, on)
    cloud.inject(name, on)
    cloud.clear(name, on)
    cloud.clear(name, on)
    vm = cloud.stage.vm("s-1-VM")
    machine = cloud.stage.machine("s-1-VM")
    machine.unit.reset_failed()
    machine.unit.start()
    await settles(lambda: vm.state is CloudState.RUNNING and agent(vm) == "Up" and not vm.jobs)
    async with inside(cloud, "s-1-VM") as connection:
        assert await said(connection, "systemctl is-active cloud") == "active\n"
    async with aiohttp.ClientSession() as session:
        status, _ = await Caller(cloud, session).call("listZones")
    assert status == 200


@pytest.mark.parametrize(
    ("name", "on"),
    [("no-such-fault", ""), ("agent-dies", ""), ("agent-dies", "s-99-VM"), ("api-down", "s-1-VM")],
)
async def test_an_unknown_fault_or_subject_is_refused(cloud, name, on):
    with pytest.raises(NotHere):
        cloud.inject(name, on)


async def test_a_dying_agent_ends_failed_and_one_restart_heals_it(cloud, vm):
    cloud.inject("agent-dies", vm.name)
    assert agent(vm) == "Alert"
    async with inside(cloud, vm.name) as connection:
        await settles(lambda: vm.body.unit.state.active == "failed")
        shown = await said(connection, "systemctl show cloud -p Result,NRestarts,ExecMainStatus")
        assert shown == "Result=exit-code\nNRestarts=6\nExecMainStatus=67\n"
        await said(connection, "systemctl reset-failed cloud; systemctl --no-block restart cloud")
    await settles(lambda: agent(vm) == "Up")
    assert [line.what for line in cloud.ledger()] == ["reset-failed", "restart"]


async def test_an_agent_that_was_healed_can_die_again(cloud, vm):
    for _ in range(2):
        cloud.inject("agent-dies", vm.name)
        await settles(lambda: vm.body.unit.state.active == "failed")
        vm.body.unit.reset_failed()
        vm.body.unit.start()
        await settles(lambda: agent(vm) == "Up")


async def test_a_failed_unit_is_not_started_before_it_is_reset(cloud, vm):
    cloud.inject("agent-dies", vm.name)
    unit = vm.body.unit
    await settles(lambda: unit.state.active == "failed")
    assert not unit.start()
    unit.reset_failed()
    assert unit.start()


async def test_an_agent_that_no_restart_helps_fails_again(cloud, vm):
    cloud.inject("restart-does-not-help", vm.name)
    await settles(lambda: vm.body.unit.state.active == "failed")
    before = vm.body.unit.state.invocation_id
    async with inside(cloud, vm.name) as connection:
        await said(connection, "systemctl reset-failed cloud; systemctl --no-block restart cloud")
    await settles(lambda: vm.body.unit.state.active == "failed")
    assert vm.body.unit.state.invocation_id != before
    assert agent(vm) == "Alert"


async def test_an_agent_that_exits_zero_stays_down(cloud, vm):
    cloud.inject("agent-exits-zero", vm.name)
    async with inside(cloud, vm.name) as connection:
        shown = await said(connection, "systemctl show cloud -p ActiveState,ExecMainCode,Result")
    assert shown == "Result=success\nExecMainCode=1\nActiveState=inactive\n"


async def test_a_killed_agent_is_started_by_systemd_alone(cloud, vm):
    cloud.inject("agent-is-killed", vm.name)
    assert agent(vm) == "Alert"
    await settles(lambda: agent(vm) == "Up")
    assert vm.body.unit.state.restarts == 1
    assert cloud.ledger() == ()


async def test_a_person_who_stops_the_agent_leaves_it_disconnected(cloud, vm):
    cloud.inject("agent-stopped-by-person", vm.name)
    state = vm.body.unit.state
    assert (state.active, state.main_code, state.main_status) == ("inactive", 2, 15)
    assert agent(vm) == "Disconnected"


async def test_a_hung_agent_is_given_up_only_when_its_pings_are_overdue(cloud, vm):
    cloud.inject("agent-hangs", vm.name)
    assert agent(vm) == "Up"
    await settles(lambda: agent(vm) == "Disconnected")
    async with inside(cloud, vm.name) as connection:
        sockets = await said(connection, "grep -c ' 08 ' $STACKWARD_ROOT/proc/net/tcp")
        assert sockets == "1\n"
        # SIGTERM is not heard: the stop takes its whole time-out, then comes the start.
        await said(connection, "systemctl restart cloud")
    await settles(lambda: agent(vm) == "Up")


async def test_without_a_management_server_the_agent_lives_and_has_no_link(cloud, vm):
    connect = "exec 3<>/dev/tcp/{}/{} && echo open".format(*vm.body.management.split(":"))
    async with inside(cloud, vm.name) as connection:
        assert await said(connection, connect) == "open\n"
        cloud.inject("management-unreachable", vm.name)
        assert agent(vm) == "Alert"
        assert await said(connection, connect) == ""
        assert await said(connection, "grep -c ' 01 ' $STACKWARD_ROOT/proc/net/tcp") == "0\n"
        assert await said(connection, "systemctl is-active cloud") == "active\n"
        cloud.clear("management-unreachable", vm.name)
        await settles(lambda: agent(vm) == "Up")


async def test_an_agent_that_never_connects_has_no_row(cloud, vm):
    cloud.inject("never-connects", vm.name)
    await asyncio.sleep(BRISK.agent_retry * 2)
    assert agent(vm) == "absent"


async def test_a_full_disk_shows_in_stat_alone(cloud, vm):
    cloud.inject("disk-full", vm.name)
    async with inside(cloud, vm.name) as connection:
        numbers = (await said(connection, f"{STAT} $STACKWARD_ROOT/")).split()
    assert numbers[1:3] == ["0", "0"]


@pytest.mark.parametrize("name", ["mount-hung", "mount-hung-hard"])
async def test_a_hung_mount_answers_when_the_fault_is_over(cloud, vm, name):
    cloud.inject(name, vm.name)
    async with inside(cloud, vm.name) as connection:
        touch = await connection.create_process(f"{STAT} $STACKWARD_ROOT/mnt/SecStorage/*; echo")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.7):
                await touch.stdout.readline()
        assert (await said(connection, f"{STAT} $STACKWARD_ROOT/")).startswith("1283104 ")
        cloud.clear(name, vm.name)
        async with asyncio.timeout(DEADLINE):
            assert (await touch.stdout.readline()).startswith("536870912 ")


async def test_a_hard_hung_mount_outlives_the_killing_of_its_toucher(cloud, vm):
    cloud.inject("mount-hung-hard", vm.name)
    command = f"timeout -s KILL 0.5 {STAT} $STACKWARD_ROOT/mnt/SecStorage/*"
    async with inside(cloud, vm.name) as connection:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await connection.run(command)


async def test_a_clock_runs_ahead_where_the_loop_reads_it(cloud, vm):
    cloud.inject("clock-skew", vm.name)
    async with inside(cloud, vm.name) as connection:
        printed = await said(connection, r"printf 'x\036=clock\037%s\036\n' 1000.5")
    assert printed == "x\x1e=clock\x1f1600.500000\x1e\n"


async def enters_within(cloud, name: str, seconds: float) -> None:
    async with asyncio.timeout(seconds), inside(cloud, name):
        pass


async def test_a_hung_sshd_takes_connects_and_says_nothing(cloud, vm):
    async with inside(cloud, vm.name) as connection:
        cloud.inject("vm-ssh-hangs", vm.name)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await connection.run("true")
        with pytest.raises(TimeoutError):
            await enters_within(cloud, vm.name, 0.5)
        cloud.clear("vm-ssh-hangs", vm.name)
        assert await said(connection, "echo back") == "back\n"


async def test_a_changed_host_key_is_not_the_templates(cloud, vm):
    async def shown() -> bytes:
        async with inside(cloud, vm.name) as connection:
            key = connection.get_server_host_key()
            assert key is not None
            return key.export_public_key()

    before = await shown()
    cloud.inject("host-key-changed", vm.name)
    assert await shown() != before
    cloud.clear("host-key-changed", vm.name)
    assert await shown() == before


async def test_a_jump_that_is_down_refuses_and_breaks_what_stood(cloud, vm):
    async with inside(cloud, vm.name) as connection:
        cloud.inject("jump-down", vm.host.name)
        async with asyncio.timeout(DEADLINE):
            await connection.wait_closed()
    with pytest.raises(OSError, match=r"refused|reset|failed"):
        await jump_to(cloud, vm.host.name)
    cloud.clear("jump-down", vm.host.name)
    async with inside(cloud, vm.name) as connection:
        assert await said(connection, "echo back") == "back\n"


async def test_a_jump_that_hangs_is_silent_to_all_behind_it(cloud, vm):
    async with inside(cloud, vm.name) as connection:
        cloud.inject("jump-hangs", vm.host.name)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await connection.run("true")
        cloud.clear("jump-hangs", vm.host.name)
        assert await said(connection, "echo back") == "back\n"


async def test_the_api_is_down_and_comes_back_on_the_same_port(cloud):
    url = cloud.api_url
    async with aiohttp.ClientSession() as session:
        caller = Caller(cloud, session)
        cloud.inject("api-down")
        with pytest.raises(aiohttp.ClientError):
            await caller.call("listZones")
        cloud.clear("api-down")
        assert cloud.api_url == url
        status, _ = await caller.call("listZones")
        assert status == 200


async def test_a_foreign_job_shows_on_the_vm_until_it_ends(cloud, vm):
    cloud.inject("vm-job-pending", vm.name)
    async with aiohttp.ClientSession() as session:
        caller = Caller(cloud, session)
        _, listed = await caller.call("listSystemVms", id=vm.id)
        assert listed["systemvm"][0]["jobstatus"] == 0
        cloud.clear("vm-job-pending", vm.name)
        _, listed = await caller.call("listSystemVms", id=vm.id)
        assert "jobid" not in listed["systemvm"][0]


async def test_a_disabled_zone_is_not_scanned(cloud, vm):
    cloud.inject("zone-disabled", "zone-1")
    cloud.inject("vm-stops", vm.name)
    cloud.world.scan()
    assert vm.state is CloudState.STOPPED
    cloud.clear("zone-disabled", "zone-1")
    await settles(lambda: vm.state is CloudState.RUNNING and agent(vm) == "Up")


async def test_faults_are_switched_over_http_and_the_ledger_is_read_there(cloud, vm):
    async with aiohttp.ClientSession() as session:
        where = f"{cloud.control_url}/faults/agent-hangs?vm={vm.name}"
        async with session.post(where) as response:
            assert await response.json() == {"active": [{"name": "agent-hangs", "on": vm.name}]}
        async with session.delete(where) as response:
            assert await response.json() == {"active": []}
        async with session.post(f"{cloud.control_url}/faults/agent-hangs") as response:
            assert response.status == 404
        async with session.get(f"{cloud.control_url}/vms") as response:
            rows = await response.json()
            assert {row["name"]: row["unit"] for row in rows}[vm.name] == "active/running"
        async with session.get(f"{cloud.control_url}/") as response:
            assert "agent-hangs" in await response.text()
        async with session.get(f"{cloud.control_url}/ledger") as response:
            assert await response.json() == []


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
async def test_a_foreign_page_cannot_switch_faults(cloud, vm, headers):
    async with aiohttp.ClientSession() as session:
        where = f"{cloud.control_url}/faults/agent-hangs?vm={vm.name}"
        async with session.post(where, headers=headers) as response:
            assert response.status == 403
    assert not vm.body.unit.is_deaf


async def test_a_host_in_maintenance_takes_no_new_vm():
    async with Rehearsal(replace(SMALL, hosts_per_zone=2)) as cloud:
        vm = cloud.stage.vm("s-1-VM")
        cloud.inject("host-maintenance", vm.host.name)
        cloud.world.remove(vm)
        cloud.world.scan()
        new = list(cloud.world.vms.values())[-1]
        assert new.host is not vm.host
        with pytest.raises(NotHere):
            cloud.inject("agent-dies", vm.name)


async def test_an_unused_key_is_unknown_to_the_hypervisor(cloud, vm):
    address, port = cloud.jumps[vm.host.name]
    with pytest.raises(asyncssh.PermissionDenied):
        await asyncssh.connect(
            address,
            port,
            client_keys=[str(cloud.vm_key_path)],
            known_hosts=str(cloud.known_hosts_path),
            config=None,
            agent_path=None,
        )
