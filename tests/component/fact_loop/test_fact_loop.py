"""The manners of the fact loop: it answers, stays small, keeps secrets, goes when left alone."""

import asyncio
import os
import re
import signal
from datetime import timedelta

import pytest

from stackward.catalog.fact_loop import FactLoopSettings, fact_loop_script
from stackward.catalog.fact_loop_script import SCRIPT
from tests.component.fact_loop.loops import (
    NEVER,
    NO_SOCKETS,
    NOW,
    PATIENCE,
    SECRETS,
    SOCKET,
    STORE,
    Tree,
    a_loop,
    children_of,
    is_alive,
    stat_of,
)

EAGER = FactLoopSettings(unit_interval=NOW, slow_interval=NOW, disk_interval=NOW, connect_after=NOW)
SLOW_SECTIONS = {"unit", "conf", "mounts", "disk", f"mount:{STORE}"}


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def is_told(*names):
    return lambda block: set(names) <= set(block.sections)


async def test_each_tick_is_answered_by_its_block(tree):
    async with a_loop(tree) as loop:
        first = await loop.ask()
        second = await loop.ask()
    assert (first.tick, second.tick, first.loop_version) == (1, 2, 1)
    assert float(first.sections["clock"][0]) > 0
    assert first.sections["boot"] == ("00000000-22bc-4e09-8191-8ef84e1a7ab7",)
    assert first.sections["memory"][0].startswith("MemTotal:")
    assert first.sections["memory"][1].startswith("MemAvailable:")
    assert first.sections["jvm"] == ("4194302",)
    assert first.sections["link"] == ("established", "0C0200C0:203A 20001")


async def test_slow_facts_come_with_their_age_when_they_have_answered(tree):
    async with a_loop(tree) as loop:
        first = await loop.ask()
        assert set(first.pending) >= {"unit", "conf", "disk"}
        block = await loop.ask_until(is_told(*SLOW_SECTIONS))
        later = await loop.ask()
    assert block.sections["unit"][0] == "ActiveState=active"
    assert block.sections["mounts"] == ("/dev/vda5 / ext4 rw", f"n:/x {STORE} nfs4 rw")
    assert block.sections["disk"][0].endswith(" /")
    assert block.sections[f"mount:{STORE}"][0].endswith(f" {STORE}")
    assert "release Cloudstack Release 4.20.1.0 Mon 23 Jun 2025" in block.sections["conf"]
    assert "properties host=192.0.2.12@static" in block.sections["conf"]
    assert "cmdline type=secstorage" in block.sections["conf"]
    assert later.ages["unit"] >= block.ages["unit"] >= timedelta(0)
    assert later.pending == {}


async def test_a_slow_fact_is_not_asked_again_before_its_interval(tree):
    async with a_loop(tree, FactLoopSettings(unit_interval=NEVER)) as loop:
        await loop.ask_until(is_told("unit"))
        for _ in range(5):
            await loop.ask()
    assert len(tree.asked) == 1
    assert tree.asked[0].startswith("show cloud --no-pager --property=LoadState,ActiveState,")


async def test_secrets_never_leave_the_vm(tree):
    async with a_loop(tree, EAGER) as loop:
        await loop.ask_until(is_told(*SLOW_SECTIONS))
        for _ in range(5):
            await loop.ask()
    assert b"host=192.0.2.12" in loop.raw
    for secret in SECRETS:
        assert secret.encode() not in loop.raw
    assert not re.search(rb"pass|key", loop.raw, re.IGNORECASE)


async def test_a_tick_without_a_slow_question_starts_no_process(tree):
    settings = FactLoopSettings(unit_interval=NEVER, slow_interval=NEVER, disk_interval=NEVER)
    async with a_loop(tree, settings) as loop:
        await loop.ask_until(
            lambda block: is_told(*SLOW_SECTIONS, "files")(block) and not block.pending
        )
        await loop.ask()
        before = faults_of_children(loop.process.pid)
        for _ in range(50):
            await loop.ask()
        after = faults_of_children(loop.process.pid)
        assert children_of(loop.process.pid) == ()
    assert after == before


def faults_of_children(pid: int) -> int:
    """Page faults of the children that have ended: no process ends without some."""
    return int(stat_of(pid)[8])


# --- its end


async def test_without_ticks_it_ends_by_itself(tree):
    async with a_loop(tree, FactLoopSettings(dead_man=timedelta(seconds=1.5))) as loop:
        await loop.ask()
        assert await loop.ended() == 0


async def test_the_end_of_its_input_ends_it(tree):
    async with a_loop(tree) as loop:
        await loop.ask()
        loop.stdin.close()
        assert await loop.ended() == 0


@pytest.mark.parametrize("line", [b"x\n", b"\n", b"1 2\n", b"$(touch pwned)\n", b"9" * 40 + b"\n"])
async def test_what_is_no_tick_ends_it_without_an_answer(tree, line):
    async with a_loop(tree) as loop:
        loop.stdin.write(line)
        await loop.ended()
    assert loop.raw == b""


async def test_half_a_script_does_nothing(tree):
    script = fact_loop_script(EAGER)
    cuts = [*range(0, len(script) - 40, 1500), *range(len(script) - 24, len(script) - 1, 3)]
    environment = {
        "PATH": f"{tree.folder}/bin:{os.environ['PATH']}",
        "STACKWARD_ROOT": str(tree.root),
    }
    for cut in cuts:
        process = await asyncio.create_subprocess_exec(
            "bash",
            "--norc",
            "--noprofile",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
        )
        async with asyncio.timeout(PATIENCE):
            output, _ = await process.communicate(script[:cut])
        assert output == b"", cut
    assert tree.asked == []


async def test_its_children_end_with_it(tree):
    tree.program("systemctl", f'#!/bin/sh\necho $$ >>"{tree.folder}/asked"\nexec sleep 1000\n')
    async with a_loop(tree) as loop:
        await loop.ask()
        await asked(tree)
        loop.stdin.close()
        await loop.ended()
    async with asyncio.timeout(PATIENCE):
        while is_alive(int(tree.asked[0])):
            await asyncio.sleep(0.02)


# --- children that hang


async def test_a_child_that_hangs_is_killed_after_its_limit_and_never_has_a_twin(tree):
    tree.program("systemctl", f'#!/bin/sh\necho $$ >>"{tree.folder}/asked"\nexec sleep 1000\n')
    settings = FactLoopSettings(
        unit_interval=NOW, slow_interval=NEVER, disk_interval=NEVER, limit=timedelta(seconds=0.2)
    )
    async with a_loop(tree, settings) as loop:
        block = await loop.ask_until(is_told("unit"))
        assert block.sections["unit"] == ("!killed 0",)
        async with asyncio.timeout(PATIENCE):
            while len(tree.asked) < 6:
                await loop.ask()
                # The pipe of one that was killed is closed a moment before it is gone.
                assert sum(is_alive(int(pid)) for pid in tree.asked) <= 2
                await asyncio.sleep(0.05)


async def test_a_child_that_cannot_be_killed_stays_the_only_one(tree):
    # Its pipe is kept open by a process that the kill does not reach, as the kernel would keep it.
    tree.program(
        "systemctl",
        f"#!/bin/sh\nsetsid sh -c 'echo $$ >>\"{tree.folder}/asked\"; exec sleep 1000' &\nwait\n",
    )
    try:
        async with a_loop(tree, FactLoopSettings(unit_interval=NOW, limit=NOW)) as loop:
            await loop.ask()
            await asked(tree)  # and no tick before that: a kill comes with a tick
            first = await loop.ask()
            await loop.ask_until(is_told("disk"))
            for _ in range(10):
                await loop.ask()
            await asyncio.sleep(0.1)
            last = await loop.ask()
            assert last.pending["unit"] > first.pending["unit"]
            assert "unit" not in last.sections
            assert len(tree.asked) == 1
            # Nor does it hold the channel.
            loop.stdin.close()
            assert await loop.ended() == 0
            assert is_alive(int(tree.asked[0]))
    finally:
        for pid in tree.asked:
            os.kill(int(pid), signal.SIGKILL)


async def asked(tree: Tree) -> None:
    """Wait until systemctl has been started."""
    async with asyncio.timeout(PATIENCE):
        while not tree.asked:
            await asyncio.sleep(0.02)


async def test_a_child_that_talks_without_end_is_cut(tree):
    tree.program("systemctl", "#!/bin/sh\nexec yes ActiveState=active\n")
    async with a_loop(tree) as loop:
        block = await loop.ask_until(is_told("unit"))
        assert block.sections["unit"] == ("!cut",)
        assert block.size_bytes < 20_000


# --- the agent and its link


async def test_a_jvm_that_is_gone_is_missed_at_once_and_systemd_asked_again(tree):
    async with a_loop(tree, FactLoopSettings(unit_interval=NEVER)) as loop:
        await loop.ask_until(is_told("unit"))
        tree.jvm(start=1234, state="Z")
        assert (await loop.ask()).sections["jvm"] == ("none",)
        await loop.ask_until(lambda block: len(tree.asked) == 2)


async def test_another_process_with_the_old_number_is_not_the_jvm(tree):
    async with a_loop(tree) as loop:
        await loop.ask()
        tree.jvm(start=5678)
        tree.write("proc/4194302/comm", "sshd\n")
        assert (await loop.ask()).sections["jvm"] == ("none",)


async def test_without_a_cgroup_the_children_of_the_main_process_are_looked_at(tree):
    (tree.root / "sys/fs/cgroup/system.slice/cloud.service/cgroup.procs").unlink()
    tree.write("proc/611/task/611/children", "4194302 ")
    async with a_loop(tree) as loop:
        assert (await loop.ask()).sections["jvm"] == ("unknown",)
        block = await loop.ask_until(lambda block: block.sections["jvm"] != ("unknown",))
    assert block.sections["jvm"] == ("4194302",)


@pytest.mark.parametrize("table", ["tcp", "tcp6"])
async def test_the_link_is_found_in_either_table_and_missed_when_gone(tree, table):
    tree.write("proc/net/tcp", NO_SOCKETS)
    tree.write(f"proc/net/{table}", NO_SOCKETS + SOCKET)
    async with a_loop(tree) as loop:
        for _ in range(2):
            assert (await loop.ask()).sections["link"][0] == "established"
        tree.write(f"proc/net/{table}", NO_SOCKETS + SOCKET.replace(" 01 ", " 08 ", 1))
        assert (await loop.ask()).sections["link"] == ("none",)
        tree.write("proc/net/tcp", NO_SOCKETS + SOCKET.replace("0C0200C0", "0D0200C0"))
        assert (await loop.ask()).sections["link"] == ("established", "0D0200C0:203A 20001")


async def test_a_vm_without_a_link_tries_its_addresses_once_and_not_again_soon(tree):
    taken = 0

    async def take(reader, writer):
        nonlocal taken
        taken += 1
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    tree.agent_connects_to("127.0.0.1", port=port)
    tree.write("proc/net/tcp", NO_SOCKETS)
    async with server, a_loop(tree, EAGER) as loop:
        name = f"connect:127.0.0.1:{port}"
        block = await loop.ask_until(is_told(name))
        assert block.sections[name] == ("open",)
        for _ in range(10):
            await loop.ask()
        assert taken == 1
        tree.write("proc/net/tcp", NO_SOCKETS + SOCKET.replace(":203A", f":{port:04X}"))
        assert name not in (await loop.ask()).sections


async def test_a_refused_connect_is_told_with_its_reason(tree):
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    tree.agent_connects_to("127.0.0.1", port=port)
    tree.write("proc/net/tcp", NO_SOCKETS)
    async with a_loop(tree, EAGER) as loop:
        name = f"connect:127.0.0.1:{port}"
        block = await loop.ask_until(is_told(name))
        assert "Connection refused" in " ".join(block.sections[name])


async def test_a_vm_with_a_link_makes_no_connect_of_its_own(tree):
    async with a_loop(tree, EAGER) as loop:
        await loop.ask_until(is_told(*SLOW_SECTIONS))
        block = await loop.ask()
    assert not [name for name in (*block.sections, *block.pending) if name.startswith("connect:")]


# --- odd worlds


@pytest.mark.parametrize(
    "point",
    [
        "/mnt/SecStorage/$(touch${IFS}PWNED)",
        "/mnt/SecStorage/x[$(touch${IFS}PWNED)]",
        "/mnt/SecStorage/`touch${IFS}PWNED`",
        "/mnt/SecStorage/;touch\\040PWNED",
        "/mnt/SecStorage/*",
    ],
)
async def test_the_name_of_a_mount_is_never_executed(tree, point):
    point = point.replace("PWNED", str(tree.folder / "pwned"))
    tree.write("proc/mounts", f"n:/x {point} nfs4 rw 0 0\n/dev/$(x) / ext4 rw 0 0\n")
    async with a_loop(tree, EAGER) as loop:
        await loop.ask_until(is_told("unit", "disk", "conf"))
        block = await loop.ask()
    assert block.sections["mounts"][0].startswith("n:/x /mnt/SecStorage/")
    assert not (tree.folder / "pwned").exists()
    assert not [name for name in block.sections if name.startswith("mount:")]


async def test_the_addresses_of_the_agent_are_never_executed(tree):
    pwned = tree.folder / "pwned"
    tree.agent_connects_to(f"$(touch${{IFS}}{pwned})", "a[$(touch x)]", "192.0.2.1/../x", port=8250)
    tree.write("proc/net/tcp", NO_SOCKETS)
    async with a_loop(tree, EAGER) as loop:
        await loop.ask_until(is_told("unit", "disk", "conf"))
        for _ in range(5):
            await loop.ask()
        block = await loop.ask()
    assert not pwned.exists()
    assert not [name for name in (*block.sections, *block.pending) if name.startswith("connect:")]


async def test_a_vm_without_any_of_its_files_is_still_answered_for(tmp_path):
    (tmp_path / "root/proc/net").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    bare = Tree.__new__(Tree)
    bare.folder, bare.root = tmp_path, tmp_path / "root"
    bare.program("systemctl", "#!/bin/sh\necho no bus >&2\nexit 1\n")
    async with a_loop(bare, EAGER) as loop:
        block = await loop.ask_until(is_told("unit", "conf"))
    assert block.sections["unit"] == ("no bus",)
    assert block.sections["conf"] == ("properties !unreadable", "cmdline !unreadable")
    assert block.sections["jvm"] == ("unknown",)


async def test_the_machine_itself_can_be_asked():
    async with a_loop(None) as loop:
        block = await loop.ask_until(is_told("disk", "mounts", "conf"))
    assert block.sections["disk"]
    assert float(block.sections["uptime"][0]) > 0


async def test_a_bash_that_tells_no_fractions_of_a_second_tells_seconds(tree):
    async with a_loop(tree, before=b"unset EPOCHREALTIME\n") as loop:
        block = await loop.ask()
    assert re.fullmatch(r"\d{10,}", block.sections["clock"][0])


def test_the_text_keeps_to_bash_4_4_and_writes_no_file():
    assert "EPOCHREALTIME" not in SCRIPT.replace("${EPOCHREALTIME-}", "")
    assert not re.search(r"\$\{[^}]*@[A-Za-z]\}", SCRIPT), "transformations differ between versions"
    assert "<<" not in SCRIPT, "here-documents and here-strings are files in old versions"
    written_to = set(re.findall(r">\s*([^\s;&(]+)", re.sub(r"\[\[.*?\]\]|\(\(.*?\)\)", "", SCRIPT)))
    assert written_to <= {"/dev/null", '"/dev/tcp/$1/$2"'}, written_to
