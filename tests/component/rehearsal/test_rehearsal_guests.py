"""The rehearsed system VMs are what they seem: SSH, a shell, systemd, a growing log."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest
from tests.component.rehearsal.visitor import BRISK, DEADLINE, enter, inside, jump_to, said, settles

from stackward.catalog.actions.restart_agent import restart_command
from stackward.catalog.fact_loop import (
    BlockReader,
    FactLoopSettings,
    fact_loop_command,
    fact_loop_script,
    tick_line,
)
from stackward.rehearsal.server import Rehearsal
from stackward.rehearsal.settings import RehearsalSettings, Release

SMALL = RehearsalSettings(zones=1, pace=BRISK)


@pytest.fixture
async def cloud() -> AsyncIterator[Rehearsal]:
    async with Rehearsal(SMALL) as started:
        yield started


async def facts(reader: BlockReader, process, tick: int):
    process.stdin.write(tick_line(tick))
    async with asyncio.timeout(DEADLINE):
        while True:
            blocks = reader.feed(await process.stdout.read(65536))
            if blocks:
                return blocks[0]


async def test_a_session_sees_its_own_vm(cloud):
    async with inside(cloud, "v-2-VM") as connection:
        text = await said(connection, "cat $STACKWARD_ROOT/var/cache/cloud/cmdline")
        assert "name=v-2-VM" in text
        assert await said(connection, "systemctl is-active cloud") == "active\n"
        shown = await said(connection, "systemctl show cloud -p ActiveState,Result")
        assert shown == "Result=success\nActiveState=active\n"


async def test_a_link_local_address_leads_to_the_hypervisors_own_vm_alone():
    async with Rehearsal(replace(SMALL, zones=2)) as cloud:
        first, second = cloud.stage.vm("s-1-VM"), cloud.stage.vm("s-3-VM")
        assert first.link_local == second.link_local
        for vm in (first, second):
            async with inside(cloud, vm.name) as connection:
                text = await said(connection, "cat $STACKWARD_ROOT/var/cache/cloud/cmdline")
                assert f"name={vm.name} " in text


async def test_a_hypervisor_carries_connections_to_its_vms_and_nothing_else(cloud):
    vm = cloud.stage.vm("s-1-VM")
    async with await jump_to(cloud, vm.host.name) as jump:
        with pytest.raises(asyncssh.ChannelOpenError):
            await jump.run("true")
        for place in (("169.254.99.99", 3922), (vm.link_local, 22), ("127.0.0.1", 3922)):
            with pytest.raises(asyncssh.ChannelOpenError):
                await jump.open_connection(*place)


async def test_only_the_right_keys_are_let_in(cloud):
    vm = cloud.stage.vm("s-1-VM")
    async with await jump_to(cloud, vm.host.name) as jump:
        with pytest.raises(asyncssh.PermissionDenied):
            await asyncssh.connect(
                vm.link_local,
                3922,
                tunnel=jump,
                client_keys=[str(cloud.jump_key_path)],
                known_hosts=None,
                config=None,
                agent_path=None,
            )


async def test_vms_of_a_template_share_their_host_keys(cloud):
    keys = set()
    for name in ("s-1-VM", "v-2-VM"):
        async with inside(cloud, name) as connection:
            key = connection.get_server_host_key()
            assert key is not None
            keys.add(key.export_public_key())
    assert len(keys) == 1


async def test_the_fact_loop_runs_in_it_and_finds_a_healthy_agent(cloud):
    async with (
        inside(cloud, "s-1-VM") as connection,
        connection.create_process(fact_loop_command(), encoding=None) as process,
    ):
        process.stdin.write(fact_loop_script(FactLoopSettings()))
        reader, tick = BlockReader(), 1
        block = await facts(reader, process, tick)
        while not {"unit", "disk", "conf"} <= set(block.sections):
            tick += 1
            await asyncio.sleep(0.1)
            block = await facts(reader, process, tick)
    machine = cloud.stage.vm("s-1-VM").body
    assert block.sections["boot"] == (machine.boot_id,)
    assert block.sections["jvm"] == (str(machine.unit.state.jvm_pid),)
    assert block.sections["link"][0] == "established"
    assert f"InvocationID={machine.unit.state.invocation_id}" in block.sections["unit"]
    mounts = [name for name in block.sections if name.startswith("mount:/mnt/SecStorage/")]
    assert len(mounts) == 1


async def test_a_restart_is_in_the_ledger_once_and_ends_with_a_ready_line(cloud):
    vm = cloud.stage.vm("s-1-VM")
    before = vm.body.unit.state.invocation_id
    async with inside(cloud, vm.name) as connection:
        log = "$STACKWARD_ROOT/var/log/cloud.log"
        async with connection.create_process(f"tail -n 0 -F -s 0.1 {log}") as tail:
            await asyncio.sleep(0.2)
            assert await said(connection, restart_command(before)) == "stackward: sent\n"
            async with asyncio.timeout(DEADLINE):
                lines = [line async for line in until_ready(tail.stdout)]
        assert await said(connection, restart_command(before)) != "stackward: sent\n"
    assert any("Agent started" in line for line in lines)
    assert vm.agent.status.value == "Up"
    assert vm.body.unit.state.invocation_id != before
    restarts = [line for line in cloud.ledger() if line.what == "restart"]
    assert [(line.vm, line.is_executed) for line in restarts] == [(vm.name, True)]
    assert (cloud.directory / "ledger.jsonl").read_text().count("restart") == 2  # verb, arguments


async def until_ready(stream) -> AsyncIterator[str]:
    async for line in stream:
        yield line
        if "Ready command is processed" in line:
            return


async def test_a_process_ends_with_its_connection(cloud):
    async with inside(cloud, "s-1-VM") as connection:
        process = await connection.create_process("sleep 600 & echo $! $$; wait")
        pids = [int(word) for word in (await process.stdout.readline()).split()]
        connection.abort()
    await settles(lambda: not any(is_alive(pid) for pid in pids))


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


async def test_output_is_held_up_when_nobody_reads(cloud):
    async with inside(cloud, "s-1-VM") as connection:
        process = await connection.create_process(
            "yes | head -c 3000000; echo over >&2", encoding=None
        )
        got = 0
        async with asyncio.timeout(DEADLINE):
            while chunk := await process.stdout.read(1 << 20):
                got += len(chunk)
            assert await process.stderr.read() == b"over\n"
    assert got == 3_000_000


@pytest.mark.parametrize("first", ["", "sleep 0.5;"], ids=["at once", "late"])
async def test_input_goes_through_and_the_exit_status_comes_back(cloud, first):
    async with inside(cloud, "s-1-VM") as connection:
        async with asyncio.timeout(DEADLINE):
            done = await connection.run(f"{first} wc -c; exit 7", input="x" * 300_000)
    assert (str(done.stdout).split(), done.exit_status) == (["300000"], 7)


async def test_a_reboot_breaks_the_connection_and_changes_the_boot_id(cloud):
    vm = cloud.stage.vm("s-1-VM")
    boot_id = vm.body.boot_id
    async with inside(cloud, vm.name) as connection:
        cloud.world.reboot(vm)
        async with asyncio.timeout(DEADLINE):
            await connection.wait_closed()
    await settles(lambda: vm.body.is_up)
    async with inside(cloud, vm.name) as connection:
        path = "$STACKWARD_ROOT/proc/sys/kernel/random/boot_id"
        assert await said(connection, f"cat {path}") == f"{vm.body.boot_id}\n"
    assert vm.body.boot_id != boot_id


async def test_a_vm_that_is_off_cannot_be_reached(cloud):
    vm = cloud.stage.vm("s-1-VM")
    async with await jump_to(cloud, vm.host.name) as jump:
        vm.body.power_off()
        with pytest.raises(asyncssh.ChannelOpenError):
            await enter(cloud, vm, jump)


async def test_a_removed_vm_leaves_no_directory(cloud):
    vm = cloud.stage.vm("s-1-VM")
    root = cloud.stage.guest("s-1-VM").tree.root
    assert root.is_dir()
    cloud.world.remove(vm)
    await settles(lambda: not root.exists())


@pytest.mark.parametrize(
    ("release", "names"),
    [
        ("4.20.1.0", {"cloud.1.log", "cloud.2.log", "cloud.3.log", "cloud.4.log"}),
        ("4.19.0.0", {"cloud.log.1", "cloud.log.2", "cloud.log.3", "cloud.log.4"}),
    ],
)
async def test_a_full_log_is_renamed_as_its_release_does(release, names):
    settings = replace(SMALL, release=Release(release), log_bytes_max=4096)
    async with Rehearsal(settings) as cloud:
        tree = cloud.stage.guest("s-1-VM").tree
        for number in range(60):
            tree.log([f"line {number} " + "x" * 500])
        assert {path.name for path in tree.log_path.parent.iterdir()} == names | {"cloud.log"}
        newest = max(names) if release == "4.20.1.0" else min(names)
        last = tree.log_path.with_name(newest).read_text().splitlines()[-1]
        first = tree.log_path.read_text().splitlines()[0]
        assert int(first.split()[1]) == int(last.split()[1]) + 1


async def test_copytruncate_keeps_the_inode(cloud):
    tree = cloud.stage.guest("s-1-VM").tree
    before, inode = tree.log_path.read_bytes(), tree.log_path.stat().st_ino
    tree.copy_and_truncate()
    assert tree.log_path.with_name("cloud.log.1").read_bytes() == before
    assert (tree.log_path.stat().st_ino, tree.log_path.stat().st_size) == (inode, 0)


async def test_a_vmware_vm_is_reached_directly():
    async with Rehearsal(replace(SMALL, hypervisor="VMware")) as cloud:
        assert cloud.jumps == {}
        async with inside(cloud, "s-1-VM") as connection:
            assert await said(connection, "systemctl is-active cloud") == "active\n"


async def test_no_process_and_no_directory_is_left():
    async with Rehearsal(SMALL) as cloud:
        directory = cloud.directory
        async with inside(cloud, "s-1-VM") as connection:
            # It leaves its session and its group, as something that hangs may.
            escape = "setsid sleep 600 >/dev/null 2>&1 </dev/null & echo $!"
            pid = int(await said(connection, escape))
            assert is_alive(pid)
    await settles(lambda: not is_alive(pid))
    assert not directory.exists()


async def test_two_rehearsals_do_not_meet():
    async with Rehearsal(SMALL) as one, Rehearsal(SMALL) as other:
        assert one.jumps != other.jumps
        assert one.directory != other.directory
        assert [vm.id for vm in one.world.vms.values()] == [
            vm.id for vm in other.world.vms.values()
        ]
        async with inside(other, "s-1-VM") as connection:
            await said(connection, "systemctl restart cloud")
        assert (len(one.ledger()), len(other.ledger())) == (0, 1)
