"""The door to asyncssh, and the only place that knows it: log in, open channels, translate errors.

When to log in, and where, is decided in ssh_guests.py; what is said on a channel in
ssh_channels.py. Every failure leaves as a TransportError that names the leg and the machine.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cached_property
from random import Random

import asyncssh

from stackward.errors import (
    ConfigError,
    ConfigMistake,
    Garbled,
    Leg,
    RefusalKind,
    Refused,
    TimedOut,
    TransportError,
    Unreachable,
)
from stackward.transports.ssh_channels import Conversation
from stackward.transports.ssh_limits import Deadlines
from stackward.transports.ssh_places import JUMP_LEGS, Place, told
from stackward.transports.ssh_settings import (
    CIPHERS,
    HOST_KEY_ALGORITHMS,
    KEY_EXCHANGES,
    MACS,
    KeySource,
    SshSettings,
)
from stackward.transports.ssh_stream import send_data_quickly, take_data_quickly
from stackward.transports.ssh_thrift import (
    spare_ignored_packets,
    spare_keepalive_timers,
    spare_key_schedules,
    spare_packet_logs,
)

REKEY_SECONDS = 3600.0  # spread by a quarter: what connected together must not rekey together
# Per channel: what a peer may send beyond what is being taken. A log comes quicker through a wide
# window, as half of it must be empty before more is asked for.
WINDOW_BYTES = 128 * 1024
STREAM_WINDOW_BYTES = 1024 * 1024
# A jump's kernel gives up a connect after about 127 s; until then a late "open" may come.
LATE_OPEN_SECONDS = 150.0
STDERR_BYTES_MAX = 200


class _Greeter(asyncssh.SSHClient):
    """Notes how far a login came, which key was shown, and why the connection ended."""

    def __init__(self, deadlines: Deadlines, *, trusts_any_key: bool) -> None:
        self._deadlines = deadlines
        self._trusts_any_key = trusts_any_key
        self.on_tcp: Callable[[], None] = lambda: None
        self.on_lost: Callable[[Exception | None], None] = lambda _: None
        self.has_tcp = False
        self.is_logging_in = False
        self.shown: asyncssh.SSHKey | None = None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        spare_ignored_packets(conn)
        spare_packet_logs(conn)
        spare_keepalive_timers(conn, self._deadlines)
        take_data_quickly(conn)
        self.has_tcp = True
        self.on_tcp()

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        """Asked only about keys that are not among the trusted ones."""
        del host, addr, port
        self.shown = key
        return self._trusts_any_key

    def begin_auth(self, username: str) -> None:
        del username
        self.is_logging_in = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.on_lost(exc)


class _Session(asyncssh.SSHClientSession[bytes]):
    """Carries asyncssh's callbacks to a conversation, in its words."""

    def __init__(self, way: "SshWay", conversation: Conversation) -> None:
        self._way = way
        self._conversation = conversation
        self._end = "it was closed"
        self._stderr = b""

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        spare_packet_logs(chan)
        send_data_quickly(chan)
        self._conversation.opened(chan)

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if datatype is None:
            self._conversation.heard(data)
        else:
            self._stderr = (self._stderr + data)[:STDERR_BYTES_MAX]
            self._conversation.heard_aside(data)

    def exit_status_received(self, status: int) -> None:
        self._end = f"exit status {status}"
        self._conversation.exited(status)

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        del core_dumped, msg, lang
        self._end = f"ended by signal {signal[:20]}"
        self._conversation.exited(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None or self._way.is_closed:
            self._conversation.ended(self._way.broken(exc))
            return
        text = f"{self._way.place.said}: the channel ended, {self._end}"
        if self._stderr:
            text += f": {told(self._stderr.decode('ascii', 'replace'))}"
        self._conversation.ended(Unreachable(text, leg=Leg.CHANNEL))


class SshWay:
    """One open SSH connection, to a hypervisor or to a VM. `reason` is why it ended, or empty.

    `on_lost` is called when it ends and that was not our own wish.
    """

    def __init__(
        self, place: Place, connection: asyncssh.SSHClientConnection, jump: "SshWay | None"
    ) -> None:
        self.place = place
        self.reason = ""
        self.on_lost: Callable[[TransportError], None] = lambda _: None
        self._connection = connection
        self._jump = jump

    @cached_property
    def tunnel(self) -> "_Tunnel":
        """The way on from here, for a jump."""
        return _Tunnel(self._connection)

    @property
    def is_closed(self) -> bool:
        """True from the moment we or the other side gave it up, or its jump went away."""
        if self._jump is not None and self._jump.is_closed:
            return True
        return bool(self.reason) or self._connection.is_closed()

    def abort(self, reason: str) -> None:
        """End it now, with all its channels, without waiting for the other side."""
        self.reason = self.reason or reason
        self._connection.abort()

    async def wait_closed(self) -> None:
        """Wait for the local end of it."""
        await self._connection.wait_closed()

    def note_end(self, error: Exception | None) -> None:
        """The connection is gone."""
        if self.reason:
            return
        self.reason = told(error or "it was closed")
        self.on_lost(self.broken())

    def broken(self, error: Exception | None = None) -> TransportError:
        """What to say of a connection that ended: the jump's end explains that of its VMs."""
        if not self.reason and self._jump is not None and self._jump.is_closed:
            return self._jump.broken()
        reason = self.reason or told(error or "it was closed")
        text = f"the connection to {self.place.said} broke: {reason}"
        is_jump = self.place.legs is JUMP_LEGS
        return Unreachable(text, leg=Leg.JUMP_TCP if is_jump else Leg.CHANNEL)

    async def open(
        self, conversation: Conversation, command: str, deadline: float, *, is_stream: bool = False
    ) -> None:
        """Start a command on a channel of its own: no terminal, no environment.

        A channel that does not open in time says that the other side hangs: the whole connection
        is given up, since asyncssh cannot take back the request alone.
        """
        try:
            async with asyncio.timeout_at(deadline):
                await self._connection.create_session(
                    lambda: _Session(self, conversation),
                    command,
                    encoding=None,
                    request_pty=False,
                    window=STREAM_WINDOW_BYTES if is_stream else WINDOW_BYTES,
                )
        except TimeoutError:
            self.abort("it opened no channel in time")
            text = f"{self.place.said} opened no channel in time"
            raise TimedOut(text, leg=Leg.CHANNEL) from None
        except asyncio.CancelledError:
            self.abort("a channel was given up while it opened")
            raise
        except (asyncssh.Error, OSError) as error:
            if self.is_closed or isinstance(error, asyncssh.DisconnectError):
                raise self.broken(error) from error
            text = f"{self.place.said} refuses a channel: {told(error)}"
            raise Refused(text, kind=RefusalKind.OTHER, leg=Leg.CHANNEL) from error
        except Exception as error:
            # A wall, as round the login: what a peer's bytes did to the library costs this way.
            self.abort("the library failed while a channel opened")
            text = f"{self.place.said}: a channel failed: {type(error).__name__}: {told(error)}"
            raise Garbled(text, leg=Leg.CHANNEL) from error


class _Tunnel:
    """The way through a jump, as asyncssh wants it of a tunnel.

    It exists because asyncssh forgets a channel whose opening was cancelled: confirmed later, it
    would stay open for as long as the jump's connection.
    """

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self._connection = connection
        self._late: deque[tuple[asyncssh.SSHTCPChannel[bytes], float]] = deque(maxlen=1024)

    async def create_connection(
        self,
        session_factory: Callable[[], asyncssh.SSHTCPSession[bytes]],
        remote_host: str,
        remote_port: int,
    ) -> tuple[asyncssh.SSHTCPChannel[bytes], asyncssh.SSHTCPSession[bytes]]:
        """Open direct-tcpip to a VM."""
        self._end_late_channels()
        channel = self._connection.create_tcp_channel()
        spare_packet_logs(channel)
        send_data_quickly(channel)
        try:
            session = await channel.connect(session_factory, remote_host, remote_port, "", 0)
        except asyncio.CancelledError:
            self._late.append((channel, asyncio.get_running_loop().time()))
            raise
        return channel, session

    def close(self) -> None:
        """Nothing: the jump is shared."""

    async def wait_closed(self) -> None:
        """Nothing: the jump is shared."""

    def _end_late_channels(self) -> None:
        now = asyncio.get_running_loop().time()
        for _ in range(len(self._late)):
            channel, since = self._late.popleft()
            if not channel.is_closing():
                channel.abort()
            elif now - since < LATE_OPEN_SECONDS:
                self._late.append((channel, since))


class SshDoor:
    """Logs in. Keys are parsed and options checked once."""

    def __init__(self, settings: SshSettings, dice: Random) -> None:
        asyncssh.set_log_level(logging.WARNING)  # it tells every connection at INFO
        spare_key_schedules(asyncssh.encryption)
        self.deadlines = Deadlines()  # of questions and keep-alive, also of whoever logs in here
        self._settings = settings
        self._dice = dice
        mistakes: list[ConfigMistake] = []
        self._vm_keys = _parse_keys(settings.vm_keys, "ssh.vm_keys", mistakes)
        self._jump_keys = _parse_keys(settings.jump_keys, "ssh.jump_keys", mistakes)
        if mistakes:
            raise ConfigError(tuple(mistakes))
        try:
            self._options = asyncssh.SSHClientConnectionOptions(
                config=None,
                agent_path=None,
                client_keys=None,
                preferred_auth=("publickey",),
                encryption_algs=CIPHERS,
                kex_algs=KEY_EXCHANGES,
                mac_algs=MACS,
                compression_algs=None,
                gss_kex=False,
                gss_auth=False,
                connect_timeout=None,  # both limits are ours: see `_log_in`
                login_timeout=0,
                keepalive_count_max=settings.keepalive_count_max,
            )
        except ValueError as error:  # a user without a name, as some containers have
            mistake = ConfigMistake("(environment)", "ssh", None, str(error))
            raise ConfigError((mistake,)) from error

    async def log_in_to_jump(self, place: Place, deadline: float) -> SshWay:
        """A connection to a hypervisor whose key is known."""
        path = self._settings.known_hosts
        try:
            known_hosts = await asyncio.to_thread(asyncssh.read_known_hosts, str(path))
        except (OSError, ValueError) as error:
            # Not the host key's leg: no key was seen, so none has changed.
            text = f"{place.said} is not tried: known hosts file {path} cannot be read: {error}"
            raise Refused(
                text, kind=RefusalKind.OTHER, leg=place.legs.tcp, maybe_sent=False
            ) from error
        way, _ = await self._log_in(
            place,
            deadline,
            _Greeter(self.deadlines, trusts_any_key=False),
            keys=self._jump_keys,
            known_hosts=_matcher(known_hosts, {place.alias, place.address}),
            username=self._settings.jump_user,
            keepalive_interval=self._settings.jump_keepalive_interval.total_seconds(),
        )
        return way

    async def log_in_to_vm(
        self, place: Place, deadline: float, jump: SshWay | None, pins: frozenset[str]
    ) -> tuple[SshWay, str]:
        """A connection to a VM and the key it showed; without pins any key will do.

        With pins, only their types are negotiated: a VM has keys of several types, and one that
        is not pinned says nothing.
        """
        try:
            trusted = [asyncssh.import_public_key(pin) for pin in sorted(pins)]
        except ValueError as error:
            text = f"{place.said} is not tried: a pinned host key cannot be read: {error}"
            raise Refused(
                text, kind=RefusalKind.OTHER, leg=place.legs.tcp, maybe_sent=False
            ) from error
        way, key = await self._log_in(
            place,
            deadline,
            _Greeter(self.deadlines, trusts_any_key=not trusted),
            jump=jump,
            keys=self._vm_keys,
            known_hosts=(trusted, [], []),
            server_host_key_algs=() if trusted else HOST_KEY_ALGORITHMS,
            username=self._settings.vm_user,
            keepalive_interval=self._settings.vm_keepalive_interval.total_seconds(),
        )
        return way, key.export_public_key("openssh").decode().strip()

    async def _log_in(
        self,
        place: Place,
        deadline: float,
        greeter: _Greeter,
        *,
        keys: list[asyncssh.SSHKey],
        jump: SshWay | None = None,
        **options: object,
    ) -> tuple[SshWay, asyncssh.SSHKey]:
        loop = asyncio.get_running_loop()
        tcp_by = loop.time() + self._settings.connect_timeout.total_seconds()
        try:
            async with (
                asyncio.timeout_at(min(deadline, tcp_by)) as limit,
                self._identities(place, keys) as identities,
            ):
                greeter.on_tcp = lambda: self._give_time_to_log_in(limit, deadline)
                connection = await asyncssh.connect(
                    place.address,
                    place.port,
                    tunnel=None if jump is None else jump.tunnel,
                    config=None,
                    options=self._options,
                    client_factory=lambda: greeter,
                    client_keys=identities or None,  # an empty list would mean ~/.ssh
                    rekey_seconds=REKEY_SECONDS * self._dice.uniform(0.75, 1.25),
                    **options,
                )
        except TransportError:
            raise
        except Exception as error:
            # A wall: the library passes on whatever a peer's bytes did to it.
            if jump is not None and jump.is_closed:
                broken = jump.broken()
                broken.maybe_sent = False
                raise broken from error
            raise _failed_login(place, greeter, error) from error
        key = connection.get_server_host_key()
        if key is None:  # only with GSSAPI, which is off
            connection.abort()
            raise Garbled(f"{place.said} showed no host key", leg=place.legs.host_key)
        way = SshWay(place, connection, jump)
        greeter.on_lost = way.note_end
        return way, key

    def _give_time_to_log_in(self, limit: asyncio.Timeout, deadline: float) -> None:
        if not limit.expired():
            until = asyncio.get_running_loop().time() + self._settings.login_timeout.total_seconds()
            limit.reschedule(min(deadline, until))

    @asynccontextmanager
    async def _identities(
        self, place: Place, keys: list[asyncssh.SSHKey]
    ) -> AsyncIterator[list[asyncssh.SSHKey | asyncssh.SSHKeyPair]]:
        """Our keys, those of the agent first; the agent is needed until the login is through."""
        path = self._settings.agent_socket
        if path is None:
            yield [*keys]
            return
        try:
            agent = await asyncssh.connect_agent(str(path))
        except (OSError, ValueError) as error:
            text = f"{place.said} is not tried: SSH agent {path} does not answer: {error}"
            raise Refused(
                text, kind=RefusalKind.AUTHENTICATION, leg=place.legs.auth, maybe_sent=False
            ) from error
        async with agent:
            yield [*await agent.get_keys(), *keys]


def _matcher(
    known_hosts: asyncssh.SSHKnownHosts, names: set[str]
) -> Callable[[str, str, int | None], tuple[list[object], ...]]:
    """Look a hypervisor up by CloudStack's name and by what we connect to."""

    def match(_: str, address: str, port: int | None) -> tuple[list[object], ...]:
        found = [known_hosts.match(name, address, port) for name in sorted(names)]
        # Host keys, authorities, revoked keys; the rest is X.509, which OpenSSH does not know.
        return tuple([key for one in found for key in one[part]] for part in range(3))

    return match


def _parse_keys(
    sources: tuple[KeySource, ...], path: str, mistakes: list[ConfigMistake]
) -> list[asyncssh.SSHKey]:
    keys = []
    for number, source in enumerate(sources):
        try:
            content = source if isinstance(source, bytes) else source.read_bytes()
            keys.append(asyncssh.import_private_key(content))
        except (OSError, ValueError) as error:
            file = "(credential)" if isinstance(source, bytes) else str(source)
            hint = "an unencrypted private key in PEM or OpenSSH form"
            text = f"no usable private key: {error}"
            mistakes.append(ConfigMistake(file, f"{path}[{number}]", None, text, hint))
    return keys


def _failed_login(place: Place, greeter: _Greeter, error: Exception) -> TransportError:
    """A login that failed, in our words."""
    said, legs = place.said, place.legs
    leg = legs.auth if greeter.is_logging_in else legs.tcp
    words = told(error)
    match error:
        case TimeoutError():
            return TimedOut(f"{said} {_stage(greeter)} in time", leg=leg, maybe_sent=False)
        case asyncssh.ChannelOpenError(code=asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED):
            text = f"{said}: the hypervisor's sshd forbids forwarding to it: {words}"
            return Refused(text, kind=RefusalKind.NOT_ALLOWED, leg=leg, maybe_sent=False)
        case asyncssh.ChannelOpenError() | OSError():
            return Unreachable(f"{said} cannot be connected to: {words}", leg=leg, maybe_sent=False)
        case asyncssh.HostKeyNotVerifiable():
            return _refused_key(place, _fingerprint(greeter))
        case asyncssh.KeyExchangeFailed() if "host key" in str(error):
            return _refused_key(place, f"none of the expected types ({words})")
        case asyncssh.KeyExchangeFailed():
            text = f"{said} has no cipher in common with us: {words}"
            return Refused(text, kind=RefusalKind.OTHER, leg=leg, maybe_sent=False)
        case asyncssh.PermissionDenied():
            text = f"{said} does not accept our key"
            return Refused(text, kind=RefusalKind.AUTHENTICATION, leg=leg, maybe_sent=False)
        case asyncssh.ConnectionLost():
            text = f"{said} {_stage(greeter)}, the connection broke: {words}"
            return Unreachable(text, leg=leg, maybe_sent=False)
        case asyncssh.DisconnectError() if greeter.is_logging_in:
            text = f"{said} ended the login: {words}"
            return Refused(text, kind=RefusalKind.AUTHENTICATION, leg=leg, maybe_sent=False)
        case _:
            text = f"{said} does not speak SSH as it should: {type(error).__name__}: {words}"
            return Garbled(text, leg=leg, maybe_sent=False)


def _stage(greeter: _Greeter) -> str:
    if greeter.is_logging_in:
        return "did not let us in"
    if greeter.has_tcp:
        return "took the connection but did not agree on keys"
    return "did not take the connection"


def _refused_key(place: Place, shown: str) -> Refused:
    if place.legs is JUMP_LEGS:
        text = f"{place.said} shows a host key that is not in the known hosts file: {shown}"
    else:
        text = (
            f"{place.said} shows another host key than pinned for its template: {shown};"
            " when that is right, a person must forget the pin"
        )
    return Refused(text, kind=RefusalKind.HOST_KEY, leg=place.legs.host_key, maybe_sent=False)


def _fingerprint(greeter: _Greeter) -> str:
    key = greeter.shown
    return "none" if key is None else f"{key.get_algorithm()} {key.get_fingerprint()}"
