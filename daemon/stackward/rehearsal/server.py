"""One rehearsed cloud, from start to clean end."""

import asyncio
import secrets
import shutil
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from stackward.rehearsal.addresses import Addresses
from stackward.rehearsal.api import Api, Keys
from stackward.rehearsal.clock import Timers
from stackward.rehearsal.control import Control
from stackward.rehearsal.daemon_config import daemon_config
from stackward.rehearsal.desk import SystemctlDesk
from stackward.rehearsal.directory import end_leftovers, make_directory, remove_directory
from stackward.rehearsal.doors import Door
from stackward.rehearsal.guests import Guest
from stackward.rehearsal.inventory import Machine, RehearsedHost, SystemVm
from stackward.rehearsal.jumps import VM_SSH_PORT, Jump
from stackward.rehearsal.keys import KeyRing
from stackward.rehearsal.ledger import Ledger, LedgerLine
from stackward.rehearsal.light import LightGuest
from stackward.rehearsal.machine import GuestMachine, NothingInside
from stackward.rehearsal.management_log import NAME as MANAGEMENT_LOG
from stackward.rehearsal.management_log import ManagementLog
from stackward.rehearsal.settings import GuestKind, RehearsalSettings
from stackward.rehearsal.stage import Stage
from stackward.rehearsal.switchboard import Switchboard
from stackward.rehearsal.tree import Desk, VmTree
from stackward.rehearsal.world import World

_LOOPBACK = "127.0.0.1"
_SHUTDOWN_SECONDS = 1.0
_START_SECONDS = 60.0
_UPTIME_SECONDS = 1.0
_NOBODY = "192.0.2.10:8250"  # where agents connect to of which only the API tells


class Rehearsal:
    """`async with Rehearsal(settings) as cloud:` and everything is there until the block ends.

    It needs asyncio's own loop: on uvloop asyncssh's server loses the first bytes of connections
    that it forwards.
    """

    def __init__(self, settings: RehearsalSettings | None = None) -> None:
        self.settings = settings or RehearsalSettings()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    # --- building ---------------------------------------------------------------------------------

    async def _start(self, stack: AsyncExitStack) -> None:
        self.directory = self._open_directory(stack)
        self._addresses = Addresses()
        stack.callback(self._addresses.close)
        ledger = Ledger(self.directory / "ledger.jsonl")
        stack.callback(ledger.close)
        timers = Timers()
        self.keys = KeyRing(self.directory / "keys")
        self._tasks = _Tasks(await stack.enter_async_context(asyncio.TaskGroup()))
        stack.callback(self._tasks.cancel)
        stack.callback(timers.close)
        world = World(
            self.settings,
            timers,
            self._make_machine,
            address=self._addresses.of,
            log=ManagementLog(
                self.directory / MANAGEMENT_LOG, self.settings.release, self.settings.log_bytes_max
            ),
        )
        self.api_key, self.secret_key = f"key-{world.new_id()}", f"secret-{world.new_id()}"
        self.stage = Stage(
            world=world,
            api=Api(world, ledger, Keys(self.api_key, self.secret_key)),
            api_door=Door(self._addresses.of(0, 0), self.settings.api_port),
            ledger=ledger,
            keys=self.keys,
        )
        self._switchboard = Switchboard(self.stage)
        await self._open_desk(stack)
        world.populate()
        self._open_jumps()
        await self._open_api(stack)
        await self._open_control(stack)
        timers.every(_UPTIME_SECONDS, self._let_time_pass)
        world.start_scans()
        await self._ready()

    def _open_directory(self, stack: AsyncExitStack) -> Path:
        if self.settings.directory is not None:
            directory = self.settings.directory.resolve()
            directory.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(directory / "vms", ignore_errors=True)  # of a rehearsal that was killed
            stack.callback(end_leftovers, directory)
            return directory
        directory = make_directory()
        stack.callback(remove_directory, directory)
        return directory

    async def _open_desk(self, stack: AsyncExitStack) -> None:
        token = secrets.token_hex(16)
        desk = SystemctlDesk(self.stage.ledger, token, self._machine_named)
        server = await asyncio.start_server(desk.answer, _LOOPBACK, 0)
        stack.callback(server.close)
        port = server.sockets[0].getsockname()[1]
        self._desk = Desk(host=_LOOPBACK, port=port, token=token)

    def _machine_named(self, name: str) -> GuestMachine | None:
        vm = self.world.vm_named(name)
        return None if vm is None else self.stage.machines[vm.id]

    def _make_machine(self, world: World, vm: SystemVm) -> Machine:
        guest = self._make_guest(vm)
        if guest is None:
            machine = GuestMachine(world, vm, NothingInside(), _NOBODY)
        else:
            machine = GuestMachine(world, vm, guest, guest.management_place)
            self.stage.guests[vm.id] = guest
            self._tasks.run(guest.serve)
        self.stage.machines[vm.id] = machine
        return machine

    def _make_guest(self, vm: SystemVm) -> Guest | LightGuest | None:
        is_fixed = self.settings.is_direct and self._addresses.is_own
        address = vm.private if self.settings.is_direct else self._addresses.of(2, vm.number)
        ssh_port = VM_SSH_PORT if is_fixed else 0
        release = self.settings.release
        match self.settings.guests:
            case GuestKind.NONE:
                return None
            case GuestKind.LIGHT:
                return LightGuest(vm, self.keys, release, address=address, ssh_port=ssh_port)
            case GuestKind.SHELL | GuestKind.TREE as kind:
                tree = VmTree(
                    vm=vm,
                    directory=self.directory / "vms" / vm.name,
                    release=release,
                    desk=self._desk,
                    log_bytes_max=self.settings.log_bytes_max,
                )
                return Guest(
                    vm,
                    tree,
                    self.keys,
                    address=address,
                    ssh_port=ssh_port,
                    has_ssh=kind is GuestKind.SHELL,
                )

    def _open_jumps(self) -> None:
        has_jumps = not self.settings.is_direct and self.settings.guests is not GuestKind.NONE
        for host in self.world.hosts if has_jumps else ():
            jump = Jump(host, self.keys, self._find_vm)
            self.stage.jumps[host.name] = jump
            self._tasks.run(jump.serve)
        self.keys.write_known_hosts(self.jumps)

    def _find_vm(self, host: RehearsedHost, link_local: str) -> tuple[str, int] | None:
        for vm in self.world.vms.values():
            if vm.host is host and vm.link_local == link_local:
                guest = self.stage.guests.get(vm.id)
                return None if guest is None else guest.place
        return None

    async def _open_api(self, stack: AsyncExitStack) -> None:
        _, port = await _serve(stack, self.stage.api.application(), 0)
        stack.callback(self.stage.api.manners.is_over.set)
        self.stage.api_door.lead_to((_LOOPBACK, port))
        self._tasks.run(self.stage.api_door.serve)

    async def _open_control(self, stack: AsyncExitStack) -> None:
        control = Control(self.stage, self._switchboard)
        host, port = await _serve(stack, control.application(), self.settings.control_port)
        control.port = port
        self.control_url = f"http://{host}:{port}"

    def _let_time_pass(self) -> None:
        for vm_id in self.world.vms:
            guest = self.stage.guests.get(vm_id)
            if isinstance(guest, Guest):
                guest.tree.tick(self.stage.machines[vm_id])

    async def _ready(self) -> None:
        """Every door stands when the block begins."""
        async with asyncio.timeout(_START_SECONDS):
            for guest in self.stage.guests.values():
                await guest.is_listening.wait()
            for jump in self.stage.jumps.values():
                await jump.ssh.is_listening.wait()

    # --- looking ----------------------------------------------------------------------------------

    @property
    def world(self) -> World:
        return self.stage.world

    @property
    def api(self) -> Api:
        return self.stage.api

    @property
    def api_url(self) -> str:
        host, port = self.stage.api_door.place
        return f"http://{host}:{port}/client/api"

    @property
    def jumps(self) -> dict[str, tuple[str, int]]:
        """Where the hypervisors' sshd are, by host name."""
        return {name: jump.door.place for name, jump in self.stage.jumps.items()}

    @property
    def known_hosts_path(self) -> Path:
        return self.keys.known_hosts_path

    @property
    def vm_key_path(self) -> Path:
        return self.keys.vm_key_path

    @property
    def jump_key_path(self) -> Path:
        return self.keys.jump_key_path

    @property
    def vm_port(self) -> int:
        """Where sshd of the system VMs listens, as the daemon must be told it."""
        return VM_SSH_PORT

    def ledger(self) -> tuple[LedgerLine, ...]:
        """Every request that was to change something."""
        return self.stage.ledger.lines

    def daemon_config(self) -> dict[str, object]:
        """The main file of a daemon that watches this cloud, as a mapping."""
        return daemon_config(
            self.settings,
            directory=self.directory,
            api_url=self.api_url,
            api_key=self.api_key,
            secret_key=self.secret_key,
            keys=self.keys,
            jumps=self.jumps,
            vm_ports=self._vm_ports(),
        )

    def _vm_ports(self) -> Mapping[str, int]:
        """Direct VMs whose port is not the usual one: where 127.0.0.1 has to do for all."""
        if not self.settings.is_direct or self._addresses.is_own:
            return {}
        places = (guest.place for guest in self.stage.guests.values())
        return {place[0]: place[1] for place in places if place is not None}

    # --- faults -----------------------------------------------------------------------------------

    def inject(self, fault: str, on: str = "") -> None:
        """Switch a fault on, for a VM, a hypervisor, a zone or ("") the cloud."""
        self._switchboard.inject(fault, on)

    def clear(self, fault: str, on: str = "") -> None:
        self._switchboard.clear(fault, on)


class _Tasks:
    """What runs until the end, and ends at once when told."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._running: set[asyncio.Task[None]] = set()

    def run(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        task = self._group.create_task(work())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def cancel(self) -> None:
        for task in tuple(self._running):
            task.cancel()


async def _serve(stack: AsyncExitStack, app: web.Application, port: int) -> tuple[str, int]:
    runner = web.AppRunner(
        app, access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, _LOOPBACK, port).start()
    host, bound = runner.addresses[0][:2]
    return host, bound


async def serve(settings: RehearsalSettings, announce: Callable[[str], None]) -> None:
    """Rehearse until cancelled, and say where to look."""
    async with Rehearsal(settings) as cloud:
        announce(f"CloudStack API   {cloud.api_url}")
        announce(f"faults, ledger   {cloud.control_url}")
        announce(f"directory        {cloud.directory}")
        for name, (address, port) in cloud.jumps.items():
            announce(f"hypervisor       {name} at {address}:{port}")
        await asyncio.Event().wait()
