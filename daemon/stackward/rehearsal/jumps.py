"""Hypervisors as jump hosts: SSH that carries connections to its own system VMs, and nothing else.

A VM's link-local address means something only on its own hypervisor. So the same address leads to
another VM on another host, and to nobody where no such VM runs.
"""

from collections.abc import Callable

import asyncssh

from stackward.rehearsal.doors import Door
from stackward.rehearsal.inventory import RehearsedHost
from stackward.rehearsal.keys import KeyRing, allow_only
from stackward.rehearsal.ssh_doors import SshDoor, closed

VM_SSH_PORT = 3922

# Where (host, link-local address) leads on this machine; None: no such VM there, or it is off.
FindVm = Callable[[RehearsedHost, str], tuple[str, int] | None]


class _JumpServer(asyncssh.SSHServer):
    """One connection to one hypervisor. It has no shell."""

    def __init__(self, jump: "Jump") -> None:
        self._jump = jump
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._jump.live.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._connection is not None:
            self._jump.live.discard(self._connection)

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> asyncssh.SSHTCPSession[bytes]:
        del orig_host, orig_port
        place = self._jump.find(dest_host) if dest_port == VM_SSH_PORT else None
        if place is None or self._connection is None:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "No route to host")
        # The library takes a coroutine here as well, as its own `True` does; its types do not say.
        return self._connection.forward_connection(*place)  # type: ignore[return-value]


class Jump:
    """One hypervisor's sshd."""

    def __init__(self, host: RehearsedHost, keys: KeyRing, find_vm: FindVm) -> None:
        self.host = host
        self.live: set[asyncssh.SSHServerConnection] = set()
        self._find_vm = find_vm
        self.ssh = SshDoor(
            Door(host.address),
            lambda: _JumpServer(self),
            [keys.jump_host_key],
            allow_only(keys.jump_key),
        )

    @property
    def door(self) -> Door:
        return self.ssh.door

    def find(self, link_local: str) -> tuple[str, int] | None:
        return self._find_vm(self.host, link_local)

    async def serve(self) -> None:
        """Until cancelled."""
        try:
            await self.ssh.serve()
        finally:
            await closed(self.live)
