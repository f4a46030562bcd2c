"""An SSH server behind a door: what hypervisors and system VMs have in common."""

import asyncio
from collections.abc import Callable, Sequence

import asyncssh

from stackward.rehearsal.doors import Door

_LOGIN_SECONDS = 120
_CLOSE_SECONDS = 3.0


class SshDoor:
    """Serves SSH at `door`; `live` are the connections that stand.

    `make_server` gives one SSHServer per connection. `listen_address` is where the server itself
    listens, behind the door.
    """

    def __init__(
        self,
        door: Door,
        make_server: Callable[[], asyncssh.SSHServer],
        host_keys: Sequence[asyncssh.SSHKey],
        allowed: asyncssh.SSHAuthorizedKeys,
    ) -> None:
        self.door = door
        self._make_server = make_server
        self._host_keys = list(host_keys)
        self._allowed = allowed
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self.is_listening = asyncio.Event()

    async def serve(self) -> None:
        """Listen and be a door until cancelled."""
        acceptor = await open_ssh_server(
            self.door.address, 0, self._make_server, self._host_keys, self._allowed
        )
        self._acceptor = acceptor
        self.is_listening.set()
        try:
            self.door.lead_to((self.door.address, acceptor.get_port()))
            await self.door.serve()
        finally:
            acceptor.close()

    def show_other_keys(self, host_keys: Sequence[asyncssh.SSHKey]) -> None:
        """New connections see other host keys; those that stand are cut."""
        self._host_keys = list(host_keys)
        if self._acceptor is not None:
            self._acceptor.update(server_host_keys=self._host_keys)
        self.door.cut()


async def open_ssh_server(
    address: str,
    port: int,
    make_server: Callable[[], asyncssh.SSHServer],
    host_keys: Sequence[asyncssh.SSHKey],
    allowed: asyncssh.SSHAuthorizedKeys,
) -> asyncssh.SSHAcceptor:
    """As sshd_config of the system VMs has it: keys only, no time-out of the server's own."""
    return await asyncssh.listen(
        address,
        port,
        server_factory=make_server,
        acceptor=_send_no_empty_packets,
        server_host_keys=list(host_keys),
        authorized_client_keys=allowed,
        password_auth=False,
        kbdint_auth=False,
        gss_host=None,
        allow_pty=False,
        line_editor=False,
        encoding=None,
        agent_forwarding=False,
        x11_forwarding=False,
        compression_algs=None,
        login_timeout=_LOGIN_SECONDS,
        backlog=512,
    )


def _send_no_empty_packets(connection: asyncssh.SSHServerConnection) -> None:
    """As OpenSSH, which puts no SSH_MSG_IGNORE before its packets as the library does."""
    send: Callable[..., None] = connection.send_packet

    def send_packet(pkttype: int, *args: bytes, handler: object = None) -> None:
        if pkttype != asyncssh.constants.MSG_IGNORE:
            send(pkttype, *args, handler=handler)

    connection.send_packet = send_packet  # type: ignore[method-assign]


async def closed(connections: set[asyncssh.SSHServerConnection]) -> None:
    """Cut these and wait, not for ever, until they know it."""
    for connection in tuple(connections):
        connection.abort()
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            for connection in tuple(connections):
                await connection.wait_closed()
    except TimeoutError:
        return
