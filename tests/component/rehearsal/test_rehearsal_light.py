"""Light system VMs answer the daemon's two loops as a shell would, and rehearsals stand alone."""

import asyncio
import json
from pathlib import Path

from tests.component.rehearsal.visitor import BRISK, DEADLINE, inside, settles

from stackward.catalog.fact_loop import (
    BlockReader,
    FactLoopSettings,
    fact_loop_command,
    fact_loop_script,
    tick_line,
)
from stackward.catalog.log_tail import (
    LogTailSettings,
    TailReader,
    log_tail_command,
    log_tail_script,
    tail_keepalive_line,
)
from stackward.rehearsal.server import Rehearsal, serve
from stackward.rehearsal.settings import GuestKind, RehearsalSettings

LIGHT = RehearsalSettings(zones=1, ssvms_per_zone=3, guests=GuestKind.LIGHT, pace=BRISK)
NONCE = "0123456789abcdef"


async def block_of(process, reader: BlockReader, tick: int):
    process.stdin.write(tick_line(tick))
    async with asyncio.timeout(DEADLINE):
        while True:
            blocks = reader.feed(await process.stdout.read(65536))
            if blocks:
                return blocks[0]


async def test_a_light_vm_tells_the_facts_of_its_machine():
    async with Rehearsal(LIGHT) as cloud, inside(cloud, "s-2-VM") as connection:
        machine = cloud.stage.machine("s-2-VM")
        process = await connection.create_process(fact_loop_command(), encoding=None)
        process.stdin.write(fact_loop_script(FactLoopSettings()))
        reader = BlockReader()
        block = await block_of(process, reader, 1)
        assert block.sections["boot"] == (machine.boot_id,)
        assert block.sections["link"][0] == "established"
        assert "ActiveState=active" in block.sections["unit"]
        machine.unit.stop()
        block = await block_of(process, reader, 2)
        assert (block.tick, block.sections["jvm"], block.sections["link"]) == (
            2,
            ("none",),
            ("none",),
        )


async def test_a_light_vm_lets_its_log_be_followed():
    settings = LogTailSettings()
    async with Rehearsal(LIGHT) as cloud, inside(cloud, "v-4-VM") as connection:
        process = await connection.create_process(log_tail_command(settings, None), encoding=None)
        process.stdin.write(log_tail_script(settings, None, nonce=NONCE))
        process.stdin.write(tail_keepalive_line())
        reader = TailReader(None, settings, nonce=NONCE)
        async with asyncio.timeout(DEADLINE):
            chunks = reader.feed(await process.stdout.read(65536))
        assert [(chunk.lines, chunk.gap_bytes_min) for chunk in chunks] == [((), 0)]


async def test_a_light_vm_knows_nothing_else():
    async with Rehearsal(LIGHT) as cloud, inside(cloud, "s-1-VM") as connection:
        async with asyncio.timeout(DEADLINE):
            done = await connection.run("systemctl restart cloud")
        assert done.exit_status == 127


async def test_a_light_vm_that_reboots_breaks_its_connections():
    async with Rehearsal(LIGHT) as cloud:
        vm = cloud.stage.vm("s-1-VM")
        async with inside(cloud, vm.name) as connection:
            cloud.world.reboot(vm)
            async with asyncio.timeout(DEADLINE):
                await connection.wait_closed()
        await settles(lambda: vm.agent is not None and vm.agent.status.value == "Up")


async def test_a_tree_without_sshd_has_what_somebody_elses_sshd_needs():
    settings = RehearsalSettings(zones=1, guests=GuestKind.TREE, pace=BRISK)
    async with Rehearsal(settings) as cloud:
        environment = cloud.stage.guest("s-1-VM").environment
        process = await asyncio.create_subprocess_exec(
            "/bin/bash",
            "-c",
            "systemctl restart cloud && systemctl is-active cloud",
            env=environment,
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(DEADLINE):
            output, _ = await process.communicate()
        assert output == b"active\n"
        assert [(line.vm, line.what) for line in cloud.ledger()] == [("s-1-VM", "restart")]


async def test_the_ledger_stays_in_a_directory_that_was_given(tmp_path):
    settings = RehearsalSettings(
        zones=1, guests=GuestKind.NONE, pace=BRISK, directory=tmp_path / "cloud"
    )
    async with Rehearsal(settings) as cloud:
        cloud.stage.ledger.write("api", "rebootSystemVm", vm="s-1-VM", is_executed=True)
    lines = (tmp_path / "cloud" / "ledger.jsonl").read_text().splitlines()
    assert [json.loads(line)["what"] for line in lines] == ["rebootSystemVm"]


async def test_a_daemon_is_told_where_everything_is():
    async with Rehearsal(RehearsalSettings(zones=2, guests=GuestKind.LIGHT, pace=BRISK)) as cloud:
        config = json.loads(json.dumps(cloud.daemon_config()))
        assert config["cloudstack"]["endpoints"] == [cloud.api_url]
        assert set(config["ssh"]["hypervisors"]) == {"kvm-1-1", "kvm-2-1"}
        path = Path(config["cloudstack"]["secret_key"]["file"])
        assert path.read_text() == cloud.secret_key


async def test_served_on_its_own_it_says_where_to_look_and_ends_when_told():
    said: list[str] = []
    has_said = asyncio.Event()

    def announce(line: str) -> None:
        said.append(line)
        has_said.set()

    async with asyncio.TaskGroup() as group:
        settings = RehearsalSettings(zones=1, guests=GuestKind.LIGHT, pace=BRISK)
        task = group.create_task(serve(settings, announce))
        async with asyncio.timeout(DEADLINE):
            await has_said.wait()
        task.cancel()
    assert any("/client/api" in line for line in said)
