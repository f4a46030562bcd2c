"""Logs on other machines by SSH: `ports.LogFiles` for the management servers.

A management server is reached directly, as a hypervisor is, and its host key is strict. What runs
there is the script that follows the logs in system VMs, with another path; it writes nothing and
is installed nowhere. One connection per log, made for it and ended with it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from random import Random

from stackward.catalog.log_tail import LogTailSettings
from stackward.model.guest import LogChunk, LogPosition
from stackward.ports import Clock
from stackward.transports.ssh import SshDoor
from stackward.transports.ssh_channels import LoopKit, TailChannel
from stackward.transports.ssh_places import JUMP_LEGS, Place
from stackward.transports.ssh_settings import SshSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementServer:
    """One log and the way to it. Of `ssh` the parts for hypervisors count: keys, user, hosts."""

    address: str
    port: int
    ssh: SshSettings
    tail: LogTailSettings


class ManagementSsh:
    """`ports.LogFiles` over SSH, by the names of the logs."""

    def __init__(
        self,
        servers: Mapping[str, ManagementServer],
        clock: Clock,
        dice: Random,
        *,
        loop: LoopKit | None = None,
    ) -> None:
        self._servers = dict(servers)
        self._doors = {name: SshDoor(server.ssh, dice) for name, server in servers.items()}
        self._clock = clock
        self._loop = loop or LoopKit()

    async def follow(self, name: str, resume: LogPosition | None) -> AsyncIterator[LogChunk]:
        """The log from `resume` on, until something breaks."""
        server, door = self._servers[name], self._doors[name]
        patience = server.ssh.follow_timeout.total_seconds()
        deadline = asyncio.get_running_loop().time() + patience
        place = Place(
            said=f"management server {name} ({server.address}:{server.port})",
            alias=name,
            address=server.address,
            port=server.port,
            legs=JUMP_LEGS,
        )
        way = await door.log_in_to_jump(place, deadline)
        try:
            conversation = TailChannel(
                place.said,
                self._clock,
                server.tail,
                self._loop,
                resume,
                bytes_max=server.ssh.tail_bytes_max,
            )
            try:
                command = self._loop.tail_command(server.tail, resume)
                await way.open(conversation, command, deadline)
                conversation.start()
                async with aclosing(conversation.chunks(deadline)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            finally:
                conversation.close()
        finally:
            way.abort("its log is not followed any more")
