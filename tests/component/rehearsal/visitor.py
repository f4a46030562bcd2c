"""A visitor with a plain SSH client: through the hypervisor into a VM, as an operator would."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncssh

from stackward.rehearsal.settings import Pace

DEADLINE = 20.0
# As fast as a loaded machine can still follow.
BRISK = Pace(
    scan=0.3,
    boot=0.2,
    agent_start=0.1,
    agent_retry=0.1,
    job=0.2,
    ping_timeout=0.5,
    unit_restart=0.02,
    unit_stop=0.3,
    chatter=1.0,
)


async def jump_to(cloud, host: str) -> asyncssh.SSHClientConnection:
    address, port = cloud.jumps[host]
    return await asyncssh.connect(
        address,
        port,
        username="root",
        client_keys=[str(cloud.jump_key_path)],
        known_hosts=str(cloud.known_hosts_path),
        config=None,
        agent_path=None,
    )


async def enter(
    cloud, vm, jump: asyncssh.SSHClientConnection | None
) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        vm.link_local if jump is not None else vm.private,
        cloud.vm_port,
        tunnel=jump or (),
        username="root",
        client_keys=[str(cloud.vm_key_path)],
        known_hosts=None,
        config=None,
        agent_path=None,
    )


@asynccontextmanager
async def inside(cloud, name: str) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A connection into the VM of this name, by the way that its hypervisor asks for."""
    vm = cloud.world.vm_named(name)
    if cloud.settings.is_direct:
        async with await enter(cloud, vm, None) as connection:
            yield connection
    else:
        async with (
            await jump_to(cloud, vm.host.name) as jump,
            await enter(cloud, vm, jump) as connection,
        ):
            yield connection


async def said(connection: asyncssh.SSHClientConnection, command: str) -> str:
    """What the command printed."""
    async with asyncio.timeout(DEADLINE):
        done = await connection.run(command)
    return str(done.stdout)


async def settles(condition: Callable[[], object], *, seconds: float = DEADLINE) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)
