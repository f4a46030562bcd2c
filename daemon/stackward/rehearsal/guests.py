"""System VMs that can be entered: a directory tree, an agent, and an sshd in front.

A guest is what its machine writes into (`Inside`) and what a daemon comes in by. It also listens
where its agent connects to, so that a test connect from inside finds the management server, or
does not.
"""

import asyncio
import contextlib
import os
from collections.abc import Coroutine, Sequence
from datetime import timedelta

import asyncssh

from stackward.rehearsal.doors import Door, Passage
from stackward.rehearsal.inventory import SystemVm
from stackward.rehearsal.keys import KeyRing, allow_only
from stackward.rehearsal.machine import GuestMachine
from stackward.rehearsal.shell_session import ShellPlace, ShellSession
from stackward.rehearsal.ssh_doors import SshDoor, closed
from stackward.rehearsal.tree import VmTree

_SESSIONS_END_SECONDS = 5.0


class _GuestServer(asyncssh.SSHServer):
    """One connection into one VM."""

    def __init__(self, guest: "Guest") -> None:
        self._guest = guest
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._guest.live.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._connection is not None:
            self._guest.live.discard(self._connection)

    def session_requested(self) -> asyncssh.SSHServerSession[bytes]:
        return self._guest.session()


class Guest:
    """One VM's inside and its doors.

    `has_ssh` False: the tree alone, for an sshd that somebody else runs in front of it.
    """

    def __init__(
        self,
        vm: SystemVm,
        tree: VmTree,
        keys: KeyRing,
        *,
        address: str,
        ssh_port: int,
        has_ssh: bool = True,
    ) -> None:
        self.vm = vm
        self.tree = tree
        self.live: set[asyncssh.SSHServerConnection] = set()
        self.sessions: set[ShellSession] = set()
        self.management = Door(address, is_sink=True)
        self.machine: GuestMachine | None = None
        self._is_gone = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self.ssh: SshDoor | None = None
        if has_ssh:
            self.ssh = SshDoor(
                Door(address, ssh_port, passage=Passage.SHUT),
                lambda: _GuestServer(self),
                keys.template_keys(vm.template_id),
                allow_only(keys.vm_key),
            )
        self._is_listening = asyncio.Event()
        self._is_listening.set()
        tree.build(self.management_place)

    @property
    def is_listening(self) -> asyncio.Event:
        """Set once sshd is there, or at once where there is none."""
        return self._is_listening if self.ssh is None else self.ssh.is_listening

    @property
    def place(self) -> tuple[str, int] | None:
        """Where sshd listens on this machine; None: powered off, or somebody else's sshd."""
        is_on = self.machine is not None and self.machine.is_on
        return self.ssh.door.place if self.ssh is not None and is_on else None

    @property
    def management_place(self) -> str:
        """Where the agent connects to."""
        return f"{self.management.address}:{self.management.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a session inside the VM has."""
        return {
            "STACKWARD_ROOT": str(self.tree.root),
            "PATH": f"{self.tree.bin}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.tree.root / "root"),
            "USER": "root",
            "LOGNAME": "root",
            "LANG": "C",
        }

    def session(self) -> ShellSession:
        """A new session of a connection."""
        place = ShellPlace(
            environment=self.environment,
            directory=str(self.tree.root),
            clock_offset=lambda: self.machine.clock_offset if self.machine else timedelta(0),
        )
        return ShellSession(place, self.sessions, self._spawn)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        if self._group is None:
            work.close()
        else:
            self._group.create_task(work)

    # --- told by the machine ----------------------------------------------------------------------

    def booted(self, machine: GuestMachine) -> None:
        self.machine = machine
        self.tree.booted(machine)
        if self.ssh is not None:
            self.ssh.door.turn(Passage.OPEN)

    def changed(self, machine: GuestMachine) -> None:
        self.tree.changed(machine)

    def log(self, lines: Sequence[str]) -> None:
        self.tree.log(lines)

    def gone_down(self) -> None:
        """Powered off: nobody is inside any more."""
        if self.ssh is not None:
            self.ssh.door.turn(Passage.SHUT)
        for session in tuple(self.sessions):
            session.kill()
        self.tree.gone_down()

    def discard(self) -> None:
        self._is_gone.set()

    # --- faults -----------------------------------------------------------------------------------

    def point_at_management(self, *, is_reachable: bool) -> None:
        """The management server takes connects from here, or does not."""
        self.management.turn(Passage.OPEN if is_reachable else Passage.SHUT)

    # --- life -------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Be there until the VM is removed, or cancelled; then leave nothing."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                work = [group.create_task(self.management.serve())]
                if self.ssh is not None:
                    work.append(group.create_task(self.ssh.serve()))
                await self._is_gone.wait()
                for task in work:
                    task.cancel()
        finally:
            self._group = None
            await self._leave()

    async def _leave(self) -> None:
        await closed(self.live)
        for session in tuple(self.sessions):
            session.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SESSIONS_END_SECONDS):
                for session in tuple(self.sessions):
                    await session.ended.wait()
        self.tree.discard()
