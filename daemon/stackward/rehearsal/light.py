"""System VMs for load tests: hundreds in one process, and no shell behind them.

A session understands what the daemon sends to start its two loops, swallows the scripts, and
answers ticks and signs of life as the loops would, from the machine's state. Anything else ends
with 127.
"""

import asyncio
import contextlib
import shlex
from collections.abc import Mapping, Sequence
from datetime import timedelta

import asyncssh

from stackward.catalog.fact_loop import UNIT_PROPERTIES, block_line, fact_loop_command
from stackward.catalog.log_tail import RECORD_SIGN
from stackward.rehearsal.inventory import SystemVm
from stackward.rehearsal.keys import KeyRing, allow_only
from stackward.rehearsal.machine import GuestMachine, Link
from stackward.rehearsal.settings import Release
from stackward.rehearsal.ssh_doors import closed, open_ssh_server
from stackward.rehearsal.tree import unit_properties

_UNIT_EVERY = timedelta(seconds=15)
_SLOW_EVERY = timedelta(seconds=30)
_LINE_BYTES_MAX = 64 * 1024
_FACTS_BEGIN = b"stackward_facts"
_TAIL_BEGIN = b"follow "
_MANAGEMENT = "192.0.2.10"
_MANAGEMENT_HEX = "0A0200C0:203A"
_LOG_DIGEST = "0" * 32


class LightGuest:
    """An `Inside` that remembers nothing but its machine."""

    def __init__(
        self, vm: SystemVm, keys: KeyRing, release: Release, *, address: str, ssh_port: int
    ) -> None:
        self.vm = vm
        self.live: set[asyncssh.SSHServerConnection] = set()
        self.machine: GuestMachine | None = None
        self.place: tuple[str, int] | None = None  # None until it listens
        self.is_listening = asyncio.Event()
        self.ticks = 0
        self._keys = keys
        self._release = release
        self._address = address
        self._ssh_port = ssh_port
        self._is_gone = asyncio.Event()

    @property
    def management_place(self) -> str:
        return f"{_MANAGEMENT}:8250"

    def booted(self, machine: GuestMachine) -> None:
        self.machine = machine

    def changed(self, machine: GuestMachine) -> None: ...
    def log(self, lines: Sequence[str]) -> None: ...

    def gone_down(self) -> None:
        for connection in tuple(self.live):
            connection.abort()

    def discard(self) -> None:
        self._is_gone.set()

    async def serve(self) -> None:
        """Until the VM is removed, or cancelled."""
        acceptor = await open_ssh_server(
            self._address,
            self._ssh_port,
            lambda: _LightServer(self),
            self._keys.template_keys(self.vm.template_id),
            allow_only(self._keys.vm_key),
        )
        try:
            self.place = (self._address, acceptor.get_port())
            self.is_listening.set()
            await self._is_gone.wait()
        finally:
            acceptor.close()
            await closed(self.live)

    # --- the facts --------------------------------------------------------------------------------

    def block(self, tick: int, told: dict[str, timedelta]) -> bytes:
        """The block for this tick; `told` is when this session last sent each slow section."""
        self.ticks += 1
        machine = self.machine
        assert machine is not None  # a session needs a machine that is on
        uptime = timedelta(seconds=machine.unit.uptime())
        slow: dict[str, tuple[timedelta, Sequence[str]]] = {}
        for name, every in (("unit", _UNIT_EVERY), ("rest", _SLOW_EVERY)):
            if name in told and uptime - told[name] < every:
                continue
            told[name] = uptime
            if name == "unit":
                slow["unit"] = (uptime, _unit_lines(machine))
            else:
                slow.update({key: (uptime, lines) for key, lines in self._rest().items()})
        return block_line(tick, uptime, _sections(machine, uptime), slow, {})

    def _rest(self) -> Mapping[str, Sequence[str]]:
        return {
            "conf": (
                f"release Cloudstack Release {self._release.name} Mon 23 Jun 2025 06:50:01 AM UTC",
                f"properties host={_MANAGEMENT}@static",
                "properties port=8250",
                f"cmdline host={_MANAGEMENT}",
                "cmdline port=8250",
                f"cmdline name={self.vm.name}",
            ),
            "mounts": ("/dev/vda5 / ext4 rw",),
            "disk": ("1283104 700000 640000 4096 327680 280000 /",),
            "files": ("40 4096",),
        }


def _sections(machine: GuestMachine, uptime: timedelta) -> dict[str, Sequence[str]]:
    pid = machine.unit.state.jvm_pid
    is_linked = machine.link in (Link.STARTUP, Link.READY)
    seconds = uptime.total_seconds()
    return {
        "clock": (f"{machine.now().timestamp():.6f}",),
        "boot": (machine.boot_id,),
        "uptime": (f"{seconds:.2f} {seconds * 0.9:.2f}",),
        "load": ("0.08 0.05 0.01 1/142 1024",),
        "memory": ("MemTotal:        1014036 kB", "MemAvailable:     498120 kB"),
        "jvm": (str(pid) if pid else "none",),
        "link": ("established", f"{_MANAGEMENT_HEX} 20001") if is_linked else ("none",),
    }


def _unit_lines(machine: GuestMachine) -> tuple[str, ...]:
    values = unit_properties(machine.unit.state)
    return tuple(f"{name}={values[name]}" for name in UNIT_PROPERTIES if name in values)


class _LightServer(asyncssh.SSHServer):
    """One connection into one light VM."""

    def __init__(self, guest: LightGuest) -> None:
        self._guest = guest
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        if self._guest.machine is None or not self._guest.machine.is_up:
            conn.abort()
            return
        self._guest.live.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._connection is not None:
            self._guest.live.discard(self._connection)

    def session_requested(self) -> asyncssh.SSHServerSession[bytes]:
        return _LightSession(self._guest)


class _LightSession(asyncssh.SSHServerSession[bytes]):
    """First a script, up to its last line; then one line at a time."""

    def __init__(self, guest: LightGuest) -> None:
        self._guest = guest
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None
        self._command = ""
        self._buffer = bytearray()
        self._told: dict[str, timedelta] | None = None  # not None: the facts are being asked
        self._mark: bytes | None = None  # not None: a log is being followed
        self._offset = 0

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        self._command = command
        return True

    def session_started(self) -> None:
        if self._command != fact_loop_command() and self._channel is not None:
            self._channel.exit(127)

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        del datatype
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest[-_LINE_BYTES_MAX:]
        for line in lines:
            self._take(bytes(line))

    def _take(self, line: bytes) -> None:
        if self._told is not None:
            if line.isdigit() and self._guest.machine is not None:
                self._say(self._guest.block(int(line), self._told))
        elif self._mark is not None:
            self._say(b"\n%s K %d\n" % (self._mark, self._offset))
        elif line == _FACTS_BEGIN:
            self._told = {}
        elif line.startswith(_TAIL_BEGIN):
            self._follow(shlex.split(line.decode("utf-8", "replace")))

    def _follow(self, words: list[str]) -> None:
        """An empty log, or the place from which to resume: nothing is ever added to it."""
        nonce, (identity, digest, count, offset) = words[2], words[8:12]
        self._mark, self._offset = RECORD_SIGN + nonce.encode(), int(offset)
        kind = "same" if identity else "start"
        place = f"{identity or '1:1'} {digest or _LOG_DIGEST} {count} {offset} 0"
        self._say(b"\n%s H %s\n" % (self._mark, f"{kind} {place}".encode()))

    def eof_received(self) -> bool:
        if self._channel is not None:
            self._channel.exit(0)
        return False

    def _say(self, data: bytes) -> None:
        if self._channel is not None:
            with contextlib.suppress(OSError):  # closing this moment
                self._channel.write(data)
