"""Real OpenSSH on loopback: one jump, and system VMs behind it on addresses of their own.

A VM is one sshd on 127.x.y.z:3922 whose sessions carry STACKWARD_ROOT, so that what runs in them
sees a folder as its machine, and PATH, where a stand-in `systemctl` may come first. HOME is an
empty folder: root's own .bashrc is not to run. Everything lives in one folder and ends with the
lab; only processes that it started are ever signalled.
"""

import contextlib
import os
import pwd
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncssh

from stackward.model.identity import HostId, Hypervisor, TargetId, TemplateId, VmRole, ZoneId
from stackward.model.target import AgentState, CloudState, HypervisorHost, SshRoute, Target
from stackward.transports.ssh_settings import SshSettings

SSHD = Path("/usr/sbin/sshd")
VM_PORT = 3922
HOST_KEY_TYPES = {"rsa": "ssh-rsa", "ecdsa": "ecdsa-sha2-nistp256", "ed25519": "ssh-ed25519"}
START_SECONDS = 20.0
USER = pwd.getpwuid(os.geteuid()).pw_name

COMMON = """\
PidFile none
UsePAM no
StrictModes no
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
PubkeyAuthentication yes
PermitRootLogin yes
PrintMotd no
"""


class LabError(RuntimeError):
    """The lab itself does not work."""


def free_place(port: int) -> str:
    """A loopback address on which nobody listens at this port."""
    for _ in range(200):
        address = ".".join(["127", *(str(random.randint(11, 240)) for _ in range(3))])
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return address
    raise LabError(f"no free loopback address for port {port}")


def descendants(pid: int) -> list[int]:
    """This process and everything below it, top first, as /proc tells now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            children.setdefault(int(parent), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        found.append(one := todo.pop())
        todo += children.get(one, [])
    return found


@dataclass
class Sshd:
    """One sshd with all its sessions. `lines` are the rest of its configuration."""

    name: str
    folder: Path
    address: str
    port: int
    host_keys: tuple[Path, ...]
    accepted: tuple[asyncssh.SSHKey, ...]
    lines: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, again after `kill`; returns when it listens."""
        self.folder.mkdir(exist_ok=True)
        accepted = [key.export_public_key("openssh").decode() for key in self.accepted]
        (self.folder / "authorized_keys").write_text("".join(accepted))
        lines = [
            f"ListenAddress {self.address}:{self.port}",
            f"AuthorizedKeysFile {self.folder}/authorized_keys",
            *(f"HostKey {path}" for path in self.host_keys),
            *self.lines,
        ]
        (self.folder / "sshd_config").write_text(COMMON + "\n".join([*lines, ""]))
        self.process = subprocess.Popen(
            [SSHD, "-D", "-f", self.folder / "sshd_config", "-E", self.folder / "sshd.log"],
            stdin=subprocess.DEVNULL,
        )
        self._wait_until_it_listens(self.process)

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and process.poll() is None:
            with (
                contextlib.suppress(OSError),
                socket.create_connection((self.address, self.port), timeout=START_SECONDS),
            ):
                return
            time.sleep(0.02)
        raise LabError(f"sshd {self.name} does not listen: {self.told}")

    @property
    def told(self) -> str:
        """Its log."""
        path = self.folder / "sshd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self) -> None:
        """Freeze listener and sessions: connections stay, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill listener and sessions: connections break."""
        self._signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
            self.process = None

    def stop_listener(self) -> None:
        """Freeze the listener alone: open sessions go on."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        # Twice: what was forked while the first list was made is in the second.
        for _ in range(2):
            for pid in descendants(self.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)


@dataclass
class Jump(Sshd):
    """A hypervisor's sshd."""

    @property
    def host(self) -> HypervisorHost:
        """As CloudStack would tell it."""
        return HypervisorHost(
            id=HostId(f"id-{self.name}"),
            name=self.name,
            zone_id=ZoneId("zone-1"),
            address=self.address,
            is_up=True,
        )


@dataclass
class VmSshd(Sshd):
    """A system VM's sshd. `root` is its machine, `target` what CloudStack would tell."""

    root: Path = Path("/nonexistent")
    template: str = ""
    host_id: HostId | None = None
    role: VmRole = VmRole.SECONDARY_STORAGE

    @property
    def target(self) -> Target:
        """As CloudStack would tell it."""
        return Target(
            id=TargetId(f"id-{self.name}"),
            name=self.name,
            role=self.role,
            zone_id=ZoneId("zone-1"),
            zone_name="north",
            cloud_state=CloudState.RUNNING,
            agent_state=AgentState.UP,
            hypervisor=Hypervisor.KVM,
            host_id=self.host_id,
            route=SshRoute.JUMP,
            control_address=self.address,
            template_id=TemplateId(self.template),
        )


class SshLab:
    """Jumps and VMs in one folder. As a context it ends them all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vm_key = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
        self.jump_key = asyncssh.generate_private_key("ssh-ed25519")
        self.jumps: dict[str, Jump] = {}
        self.vms: dict[str, VmSshd] = {}
        self._home = folder / "home"
        self._home.mkdir()
        (folder / "known_hosts").touch()
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for sshd in [*self.vms.values(), *self.jumps.values()]:
            sshd.kill()

    def start_jump(self, name: str = "kvm1", *, lines: tuple[str, ...] = ()) -> Jump:
        """A hypervisor whose key is known. `lines` go before ours: sshd takes the first word."""
        port = 2222
        jump = Jump(
            name=name,
            folder=self.folder / name,
            address=free_place(port),
            port=port,
            host_keys=self.keys_of(f"jump-{name}"),
            accepted=(self.jump_key,),
            lines=(*lines, f"SetEnv HOME={self._home}"),
        )
        jump.start()
        self.jumps[name] = jump
        with (self.folder / "known_hosts").open("a") as known:
            for path in jump.host_keys:
                public = path.with_suffix(".pub").read_text()
                known.write(f"[{jump.address}]:{jump.port} {public}")
        return jump

    def start_vm(
        self,
        name: str,
        root: Path | None = None,
        template: str = "template-1",
        *,
        jump: Jump | None = None,
        path: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> VmSshd:
        """A VM whose sessions see `root` as their machine and look into `path` first.

        VMs of a template share host keys. `jump` is the hypervisor that runs it (the only one).
        """
        if root is None:
            root = self.folder / f"{name}-root"
            root.mkdir()
        where = os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        words = {
            "HOME": str(self._home),
            "STACKWARD_ROOT": str(root),
            "PATH": f"{path}:{where}" if path else where,
            **(environment or {}),
        }
        jump = jump or next(iter(self.jumps.values()), None)
        vm = VmSshd(
            name=name,
            folder=self.folder / name,
            address=free_place(VM_PORT),
            port=VM_PORT,
            host_keys=self.keys_of(template),
            accepted=(self.vm_key,),
            lines=(
                "MaxSessions 1000",
                "MaxStartups 1000",
                "SetEnv " + " ".join(f'"{key}={value}"' for key, value in words.items()),
            ),
            root=root,
            template=template,
            host_id=None if jump is None else jump.host.id,
        )
        vm.start()
        self.vms[name] = vm
        return vm

    def keys_of(self, name: str) -> tuple[Path, ...]:
        """Host keys of all three types, made at the first call for this name."""
        folder = self.folder / f"keys-{name}"
        if not folder.exists():
            folder.mkdir()
            for kind, algorithm in HOST_KEY_TYPES.items():
                key = asyncssh.generate_private_key(algorithm)
                key.write_private_key(folder / kind)
                key.write_public_key(folder / f"{kind}.pub")
                (folder / kind).chmod(0o600)
        return tuple(folder / kind for kind in HOST_KEY_TYPES)

    def settings(self, **changes: Any) -> SshSettings:
        """What the transport has to be told to reach these machines."""
        usual = SshSettings(
            known_hosts=self.folder / "known_hosts",
            vm_keys=(self.vm_key.export_private_key("pkcs8-pem"),),
            jump_keys=(self.jump_key.export_private_key("openssh"),),
            vm_user=USER,
            jump_user=USER,
            jump_ports={name: jump.port for name, jump in self.jumps.items()},
        )
        return replace(usual, **changes)


def why_no_sshd() -> str | None:
    """Why there can be no lab here; None: there can."""
    return None if SSHD.exists() else f"{SSHD} is not installed (openssh-server)"
