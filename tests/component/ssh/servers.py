"""SSH servers on loopback that behave, or misbehave as told, and a tiny pair of loops to run.

Every VM has an address of its own (127.77.x.y) and a port from the kernel. The loops here are
simpler than the real ones, on purpose: what is tested is the transport.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import asyncssh

from stackward.catalog.fact_loop import RawBlock
from stackward.catalog.log_tail import LogTailSettings, RawChunk
from stackward.model.guest import Ages, LogPosition
from stackward.model.identity import HostId, Hypervisor, TargetId, TemplateId, VmRole, ZoneId
from stackward.model.target import AgentState, CloudState, HypervisorHost, SshRoute, Target
from stackward.transports.ssh_channels import LoopKit
from stackward.transports.ssh_guests import SshGuests
from stackward.transports.ssh_settings import SshSettings
from tests.fakes.clock import LoopClock

PATIENCE = 20.0  # seconds: for what should come at once, on a machine that is busy elsewhere
CLIENT_KEY = asyncssh.generate_private_key("ssh-ed25519")
OTHER_KEY = asyncssh.generate_private_key("ssh-ed25519")
JUMP_HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")
TEMPLATE_KEY = asyncssh.generate_private_key("ssh-ed25519")
TEMPLATE_ECDSA_KEY = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
TEMPLATE = TemplateId("template-1")
HOST = HostId("host-1")
START = LogPosition(device_inode="1:1", fingerprint="", fingerprint_bytes=0, generation=1, offset=0)
_addresses = count(1)


class LineReader:
    """Whole lines out of any pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def lines(self, data: bytes) -> list[bytes]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        return whole


class EchoBlocks:
    """A block is `TICK:TEXT`."""

    def __init__(self) -> None:
        self._lines = LineReader()

    def feed(self, data: bytes) -> tuple[RawBlock, ...]:
        blocks = []
        for line in self._lines.lines(data):
            tick, mark, text = line.partition(b":")
            if not mark:
                raise ValueError("no block")
            sections = {"echo": (text.decode(),)}
            blocks.append(RawBlock(int(tick), 1, sections, Ages({}), {}, len(data)))
        return tuple(blocks)


class PlainTail:
    """Lines as they come; the first one of the script is where to begin."""

    def __init__(self, resume: LogPosition | None) -> None:
        self._lines = LineReader()
        self._at = resume or START
        self._is_new = True

    def feed(self, data: bytes) -> tuple[RawChunk, ...]:
        lines = tuple(self._lines.lines(data))
        if self._is_new:
            self._is_new, lines = False, lines[1:]  # "here"
        start = self._at
        self._at = start._replace(offset=start.offset + sum(len(line) + 1 for line in lines))
        return (RawChunk(b"".join(line + b"\n" for line in lines), start, self._at),)


KIT = LoopKit(
    fact_command=lambda: "facts",
    fact_script=lambda _: b"begin\n",
    tick_line=lambda tick: b"%d\n" % tick,
    read_blocks=EchoBlocks,
    tail_command=lambda _settings, _resume: "tail",
    tail_script=lambda _settings, resume, _nonce: b"%d\n" % (resume or START).offset,
    tail_keepalive_line=lambda: b"alive\n",
    read_tail=lambda resume, _settings, _nonce: PlainTail(resume),
)

Process = asyncssh.SSHServerProcess[bytes]
Behaviour = Callable[["FakeVm", Process], Awaitable[None]]


async def behave(vm: "FakeVm", process: Process) -> None:
    """A VM that is well: facts are echoed, the tail says what `vm.log` gets."""
    match process.command:
        case "facts":
            assert await process.stdin.readline() == b"begin\n"
            async for line in process.stdin:
                process.stdout.write(line.strip() + b":fine\n")
        case "tail":
            await process.stdin.readline()
            process.stdout.write(b"here\n")
            async with asyncio.TaskGroup() as group:
                group.create_task(_count_lines(vm, process))
                while (text := await vm.log.get()) is not None:
                    process.stdout.write(text)
                    await process.stdout.drain()
                process.exit(0)
        case other:
            process.stdout.write(f"ran {other}\n".encode())
            process.stderr.write(b"and complained\n")
            process.exit(3)


async def _count_lines(vm: "FakeVm", process: Process) -> None:
    async for _ in process.stdin:
        vm.signs_of_life += 1
        vm.heard_life.set()


@dataclass
class FakeVm:
    """One system VM. `behaviour` runs every session; `log` is what its tail says, None its end."""

    name: str
    host_keys: tuple[asyncssh.SSHKey, ...] = (TEMPLATE_KEY,)
    client_key: asyncssh.SSHKey = CLIENT_KEY
    behaviour: Behaviour = behave
    template_id: TemplateId | None = TEMPLATE
    host_id: HostId = HOST
    logins: int = 0
    commands: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    log: "asyncio.Queue[bytes | None]" = field(default_factory=asyncio.Queue)
    signs_of_life: int = 0
    heard_life: asyncio.Event = field(default_factory=asyncio.Event)
    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    hangs_in_login: bool = False
    hangs_at_session: bool = False
    address: str = ""
    port: int = 0

    @property
    def target(self) -> Target:
        return Target(
            id=TargetId(f"id-{self.name}"),
            name=self.name,
            role=VmRole.SECONDARY_STORAGE,
            zone_id=ZoneId("zone-1"),
            zone_name="north",
            cloud_state=CloudState.RUNNING,
            agent_state=AgentState.UP,
            hypervisor=Hypervisor.KVM,
            host_id=self.host_id,
            route=SshRoute.JUMP,
            control_address=self.address,
            template_id=self.template_id,
        )


class _VmServer(asyncssh.SSHServer):
    def __init__(self, vm: FakeVm) -> None:
        self._vm = vm
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._vm.connections.append(conn)

    async def begin_auth(self, username: str) -> bool:
        if self._vm.hangs_in_login:
            await asyncio.Event().wait()
        return True

    def auth_completed(self) -> None:
        self._vm.logins += 1

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == "root" and key.public_data == self._vm.client_key.public_data

    def public_key_auth_supported(self) -> bool:
        return True


@dataclass
class FakeJump:
    """One hypervisor's sshd. `forwards` False: as AllowTcpForwarding no."""

    name: str = "kvm1"
    host_id: HostId = HOST
    host_key: asyncssh.SSHKey = JUMP_HOST_KEY
    client_key: asyncssh.SSHKey = CLIENT_KEY
    forwards: bool = True
    hangs_at_forward: bool = False
    may_forward: asyncio.Event = field(default_factory=asyncio.Event)
    attempts: int = 0
    logins: int = 0
    forwarded: int = 0
    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    port: int = 0
    acceptor: asyncssh.SSHAcceptor | None = None

    @property
    def host(self) -> HypervisorHost:
        return HypervisorHost(
            id=self.host_id,
            name=self.name,
            zone_id=ZoneId("zone-1"),
            address="127.0.0.1",
            is_up=True,
        )


class _JumpServer(asyncssh.SSHServer):
    def __init__(self, jump: FakeJump) -> None:
        self._jump = jump
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._jump.attempts += 1
        self._jump.connections.append(conn)

    def auth_completed(self) -> None:
        self._jump.logins += 1

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == "hopper" and key.public_data == self._jump.client_key.public_data

    def connection_requested(self, dest_host: str, dest_port: int, *origin: object):
        self._jump.forwarded += 1
        if not self._jump.forwards:
            code = asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
            raise asyncssh.ChannelOpenError(code, "open failed")
        return self._forward(dest_host, dest_port)

    async def _forward(self, host: str, port: int):
        if self._jump.hangs_at_forward:
            await self._jump.may_forward.wait()
        assert self._connection is not None
        return await self._connection.forward_connection(host, port)


class MemoryKeys:
    """`ports.HostKeys` in memory."""

    def __init__(self) -> None:
        self.pins: dict[TemplateId, set[str]] = {}

    async def pinned(self, template_id: TemplateId) -> frozenset[str]:
        return frozenset(self.pins.get(template_id, ()))

    async def pin(self, template_id: TemplateId, key: str, *, first_seen_on: str) -> None:
        await asyncio.sleep(0)
        self.pins.setdefault(template_id, set()).add(key)


class SilentLog:
    """`ports.Log` that keeps what was said."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, object]]] = []

    def info(self, event: str, **values: object) -> None:
        self.said.append((event, values))

    debug = warning = error = exception = info


@dataclass
class Cloud:
    """Servers that run, and what the transport has to be told about them."""

    stack: AsyncExitStack
    folder: Path
    keys: MemoryKeys = field(default_factory=MemoryKeys)
    log: SilentLog = field(default_factory=SilentLog)
    jump_ports: dict[str, int] = field(default_factory=dict)
    vm_ports: dict[str, int] = field(default_factory=dict)
    known: list[str] = field(default_factory=list)

    async def start_vm(self, vm: FakeVm, *, address: str = "") -> FakeVm:
        await self.serve_vm(vm, address=address)
        return vm

    async def serve_vm(self, vm: FakeVm, *, address: str = "") -> asyncssh.SSHAcceptor:
        async def serve(process: Process) -> None:
            vm.commands.append(process.command or "(shell)")
            vm.requests += [*process.env, process.get_terminal_type() or ""]
            await vm.behaviour(vm, process)

        acceptor = await asyncssh.create_server(
            lambda: _VmServer(vm) if not vm.hangs_at_session else _HangingVmServer(vm),
            address or next_address(),
            0,
            server_host_keys=[*vm.host_keys],
            process_factory=None if vm.hangs_at_session else serve,
            encoding=None,
            allow_scp=False,
            login_timeout=0,
        )
        self.stack.callback(acceptor.close)
        vm.address, vm.port = acceptor.sockets[0].getsockname()
        self.vm_ports[vm.address] = vm.port
        return acceptor

    async def start_raw_vm(
        self,
        vm: FakeVm,
        serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    ) -> FakeVm:
        """A TCP server that is no sshd."""
        server = await asyncio.start_server(serve, next_address(), 0)
        self.stack.callback(server.close)
        vm.address, vm.port = server.sockets[0].getsockname()
        self.vm_ports[vm.address] = vm.port
        return vm

    async def start_jump(self, jump: FakeJump) -> FakeJump:
        jump.acceptor = await asyncssh.create_server(
            lambda: _JumpServer(jump), "127.0.0.1", jump.port, server_host_keys=[jump.host_key]
        )
        self.stack.callback(jump.acceptor.close)
        jump.port = jump.acceptor.sockets[0].getsockname()[1]
        self.jump_ports[jump.name] = jump.port
        self.know(jump)
        return jump

    def know(self, jump: FakeJump, *, key: asyncssh.SSHKey | None = None) -> None:
        public = (key or jump.host_key).export_public_key("openssh").decode().strip()
        self.known = [line for line in self.known if not line.startswith(f"[{jump.name}]")]
        self.known.append(f"[{jump.name}]:{jump.port} {public}")
        (self.folder / "known_hosts").write_text("\n".join([*self.known, ""]))

    def settings(self, **changes: Any) -> SshSettings:
        (self.folder / "known_hosts").touch()
        usual = SshSettings(
            known_hosts=self.folder / "known_hosts",
            vm_keys=(CLIENT_KEY.export_private_key("pkcs8-pem"),),
            jump_keys=(CLIENT_KEY.export_private_key("openssh"),),
            jump_user="hopper",
            jump_ports=self.jump_ports,
            vm_port_overrides=self.vm_ports,
            connect_timeout=timedelta(seconds=PATIENCE),
            login_timeout=timedelta(seconds=PATIENCE),
            follow_timeout=timedelta(seconds=PATIENCE),
            back_off_min=timedelta(milliseconds=1),
            back_off_max=timedelta(milliseconds=1),
        )
        return replace(usual, **changes)

    def guests(
        self, *, tail: LogTailSettings | None = None, kit: LoopKit = KIT, **changes: Any
    ) -> SshGuests:
        guests = SshGuests(
            self.settings(**changes),
            self.keys,
            LoopClock(),
            self.log,
            Random(7),
            tail=tail,
            loop=kit,
        )
        self.stack.push_async_callback(guests.close)
        return guests


class _HangingVmServer(_VmServer):
    async def session_requested(self) -> bool:
        await asyncio.Event().wait()
        return False


def next_address() -> str:
    """A loopback address that no other server of this process has."""
    number = next(_addresses)
    return f"127.77.{number // 250}.{number % 250 + 1}"


@asynccontextmanager
async def a_cloud(folder: Path):
    """A cloud without machines; everything started in it ends with it."""
    async with AsyncExitStack() as stack:
        yield Cloud(stack, folder)
