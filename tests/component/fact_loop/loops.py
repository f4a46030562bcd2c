"""A fact loop on this machine, and the tree of files it takes for a system VM."""

import asyncio
import os
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from stackward.catalog.fact_loop import (
    BlockReader,
    FactLoopSettings,
    RawBlock,
    fact_loop_script,
    tick_line,
)

PATIENCE = 20  # seconds that a busy machine may take for anything
NOW = timedelta(0)
NEVER = timedelta(hours=1)
STORE = "/mnt/SecStorage/9f7c2a10"
NO_SOCKETS = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid\n"
SOCKET = (
    "   1: 0F0200C0:B3A2 0C0200C0:203A 01 00000000:00000000 00:00000000 00000000"
    "     0        0 20001 1 0000000000000000 20 4 30 10 -1\n"
)
SECRETS = ("Kp1-not-yours", "Ks2-not-yours", "Vm3-not-yours", "authorized-key-not-yours")

SYSTEMCTL = """#!/bin/sh
echo "$@" >>"$STACKWARD_ROOT/../asked"
exec cat "$STACKWARD_ROOT/../unit"
"""
UNIT = (
    "ActiveState=active\nSubState=running\nMainPID=611\nControlGroup=/system.slice/cloud.service\n"
)


class Tree:
    """The files of a system VM under a folder, its `systemctl`, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.write("etc/cloudstack-release", "Cloudstack Release 4.20.1.0 Mon 23 Jun 2025\n")
        self.write(
            "usr/local/cloud/systemvm/conf/agent.properties",
            f"#Storing\nkeystore.passphrase={SECRETS[0]}\nhost=192.0.2.12@static\nport=8250\n"
            f"keystore_password={SECRETS[1]}\nvmpassword={SECRETS[2]}\nguid=s-1-VM\n",
        )
        self.write(
            "var/cache/cloud/cmdline",
            f" template=domP type=secstorage host=192.0.2.12 port=8250 name=s-1-VM "
            f"authorized_key={SECRETS[3]} keystore_password={SECRETS[1]} vmpassword={SECRETS[2]}\n",
        )
        self.write("proc/sys/kernel/random/boot_id", "00000000-22bc-4e09-8191-8ef84e1a7ab7\n")
        self.write("proc/mounts", f"/dev/vda5 / ext4 rw,relatime 0 0\nn:/x {STORE} nfs4 rw 0 0\n")
        self.write("proc/net/tcp", NO_SOCKETS + SOCKET)
        self.write("proc/net/tcp6", NO_SOCKETS)
        self.write("sys/fs/cgroup/system.slice/cloud.service/cgroup.procs", "4194301\n4194302\n")
        self.jvm(start=1234)
        (self.root / STORE[1:]).mkdir(parents=True)
        (folder / "unit").write_text(UNIT)
        (folder / "asked").touch()
        self.program("systemctl", SYSTEMCTL)

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def jvm(self, *, start: int, state: str = "S") -> None:
        """Numbers above any pid of this machine, so the real /proc has no say."""
        self.write("proc/4194302/comm", "java\n")
        numbers = " ".join(["0"] * 30)
        self.write(
            "proc/4194302/stat",
            f"4194302 (java) {state} 4194301 1 1 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 30 0 {start} "
            f"{numbers}\n",
        )

    def agent_connects_to(self, *addresses: str, port: int) -> None:
        self.write(
            "usr/local/cloud/systemvm/conf/agent.properties",
            f"host={','.join(addresses)}\nport={port}\n",
        )
        self.write("var/cache/cloud/cmdline", " type=secstorage name=s-1-VM\n")

    def program(self, name: str, text: str) -> None:
        file = self.folder / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        return (self.folder / "asked").read_text().splitlines()


class Loop:
    """One running loop. Ticks count by themselves."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.stdin = process.stdin
        self.stdout = process.stdout
        self.raw = b""
        self._reader = BlockReader()
        self._tick = 0

    async def ask(self) -> RawBlock:
        self._tick += 1
        async with asyncio.timeout(PATIENCE):
            self.stdin.write(tick_line(self._tick))
            await self.stdin.drain()
            while True:
                data = await self.stdout.read(65536)
                assert data, "the loop has ended"
                self.raw += data
                blocks = self._reader.feed(data)
                if blocks:
                    (block,) = blocks
                    assert block.tick == self._tick
                    return block

    async def ask_until(self, is_it) -> RawBlock:
        """Ask on, a few times a second, until a block is as wanted."""
        async with asyncio.timeout(PATIENCE):
            while not is_it(block := await self.ask()):
                await asyncio.sleep(0.05)
            return block

    async def ended(self) -> int:
        """Its exit status, when it has ended and let go of its output."""
        async with asyncio.timeout(PATIENCE):
            self.raw += await self.stdout.read()
            return await self.process.wait()


@asynccontextmanager
async def a_loop(tree: Tree | None, settings=None, *, before=b"", wrapper=(), **env: str):
    """A loop that answers, ended when the test is over. `wrapper` goes before the command."""
    path = os.environ["PATH"]
    root = {"STACKWARD_ROOT": str(tree.root)} if tree else {}
    environment = {"PATH": f"{tree.folder}/bin:{path}" if tree else path, **root, **env}
    process = await asyncio.create_subprocess_exec(
        *wrapper,
        "bash",
        "--norc",
        "--noprofile",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
    )
    loop = Loop(process)
    try:
        loop.stdin.write(before + fact_loop_script(settings or FactLoopSettings()))
        yield loop
    finally:
        # By itself it takes its children along, so it is killed only if it does not go.
        loop.stdin.close()
        try:
            await loop.ended()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    fields = stat_of(pid)
    return bool(fields) and fields[0] not in "ZX"


def children_of(pid: int) -> tuple[int, ...]:
    """The processes, zombies too, whose parent this is."""
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return tuple(number for number in numbers if stat_of(number)[1:2] == [str(pid)])


def stat_of(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; none of a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
