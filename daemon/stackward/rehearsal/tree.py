"""The directory tree that a rehearsed system VM is: /etc, /var, /proc and the agent's own files.

Everything in it is made from the machine's state and written atomically, so that a reader in the
middle of a change sees the old or the new. Paths inside a VM: facts on paths and logs.
"""

import itertools
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stackward.model.identity import VmRole
from stackward.rehearsal.clock import world_now
from stackward.rehearsal.inventory import SystemVm
from stackward.rehearsal.machine import GuestMachine, Link
from stackward.rehearsal.settings import Release
from stackward.rehearsal.stand_ins import FS_FORMAT, STAT, SYSTEMCTL, filled
from stackward.rehearsal.unit import UnitState

_AGENT_CONF = "usr/local/cloud/systemvm/conf"
_CGROUP = "/system.slice/cloud.service"
_LOG = "var/log/cloud.log"
_LOGS_KEPT = 4
_JVM_FILES = 12  # a real one has some hundred; nobody here reads more of them than their number
_MEMORY_KB = 1014036
# Blocks, free, available, block size, files, free files: 5 GiB and 2 TiB.
_ROOT_FS = "1283104 700000 640000 4096 327680 280000"
_FULL_FS = "1283104 0 0 4096 327680 280000"
_MOUNT_FS = "536870912 400000000 400000000 4096 134217728 130000000"
_SOCKETS_HEAD = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  "
    "timeout inode"
)
# The mount's name in a VM is made of the store's address; any uuid will do.
_STORE = "5f6e1c2d-8a9b-3c4d-9e0f-112233445566"


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where the stand-in systemctl asks."""

    host: str
    port: int
    token: str


@dataclass(slots=True)
class VmTree:
    """An `Inside` made of files. `root` is the VM's `/`, `bin` its stand-in programs."""

    vm: SystemVm
    directory: Path
    release: Release
    desk: Desk
    log_bytes_max: int

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def bin(self) -> Path:
        return self.directory / "bin"

    @property
    def _run(self) -> Path:
        return self.directory / "run"

    @property
    def log_path(self) -> Path:
        return self.root / _LOG

    # --- made once --------------------------------------------------------------------------------

    def build(self, management: str) -> None:
        """Everything that a boot does not change."""
        for name in ("etc", "var/log", "var/cache/cloud", "proc/net", _AGENT_CONF, "tmp", "root"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / "proc/sys/kernel/random").mkdir(parents=True, exist_ok=True)
        (self.root / f"sys/fs/cgroup{_CGROUP}").mkdir(parents=True, exist_ok=True)
        (self.root / "mnt/SecStorage" / _STORE).mkdir(parents=True, exist_ok=True)
        self.bin.mkdir(exist_ok=True)
        self._run.mkdir(exist_ok=True)
        (self._run / "hung").touch()
        self._write(self._run / "fs-root", _ROOT_FS)
        self._write(self._run / "fs-mount", _MOUNT_FS)
        self._write(self._run / "unit", _unit_text(UnitState()))
        self._write(
            self.root / "etc/cloudstack-release",
            f"Cloudstack Release {self.release.name} Mon 23 Jun 2025 06:50:01 AM UTC",
        )
        self.log_path.touch()
        self.point_at(management)
        self._write_program("systemctl", SYSTEMCTL)
        self._write_program("stat", STAT)

    def point_at(self, management: str) -> None:
        """What `host=` and `port=` say, in both files. Both are full of secrets, as in reality."""
        host, _, port = management.rpartition(":")
        is_store = self.vm.role is VmRole.SECONDARY_STORAGE
        number = self.vm.number
        properties = (
            "#Storing the agent.properties",
            f"guid={self.vm.name if is_store else f'Proxy.{number}'}",
            f"keystore.passphrase=Kp{number}-not-for-your-eyes",
            "workers=5",
            f"host={host}@static",
            f"port={port}",
            f"zone={self.vm.zone.number}",
            "pod=1",
            f"name={self.vm.name}",
            f"private.ip={self.vm.private}".replace(":", "\\:"),
        )
        self._write(self.root / _AGENT_CONF / "agent.properties", "\n".join(properties))
        arguments = (
            "template=domP",
            f"type={'secstorage' if is_store else 'consoleproxy'}",
            f"host={host}",
            f"port={port}",
            f"name={self.vm.name}",
            f"zone={self.vm.zone.number}",
            "pod=1",
            f"guid={self.vm.name}",
            f"eth0ip={self.vm.link_local}",
            "eth0mask=255.255.0.0",
            f"eth1ip={self.vm.private}",
            f"eth2ip={self.vm.public}",
            f"keystore_password=Ks{number}-not-for-your-eyes",
            f"vmpassword=Vp{number}-not-for-your-eyes",
            "authorized_key=bm90LWEta2V5",
        )
        self._write(self.root / "var/cache/cloud/cmdline", " ".join(arguments))

    def _write_program(self, name: str, script: str) -> None:
        text = filled(
            script,
            run=str(self._run),
            host=self.desk.host,
            port=str(self.desk.port),
            token=self.desk.token,
            vm=self.vm.name,
            format=FS_FORMAT,
            stat=shutil.which("stat") or "/usr/bin/stat",
        )
        path = self.bin / name
        path.write_text(text, encoding="utf-8")
        path.chmod(stat.S_IRWXU)

    # --- told by the machine ----------------------------------------------------------------------

    def booted(self, machine: GuestMachine) -> None:
        proc = self.root / "proc"
        for old in proc.glob("[0-9]*"):
            shutil.rmtree(old, ignore_errors=True)
        self._write(proc / "sys/kernel/random/boot_id", machine.boot_id)
        self._write(proc / "loadavg", "0.08 0.05 0.01 1/142 1024")
        self._write(
            proc / "meminfo",
            f"MemTotal:       {_MEMORY_KB:8d} kB\nMemFree:          312044 kB\n"
            "MemAvailable:     498120 kB\nBuffers:           21380 kB",
        )
        self._write_mounts()
        self.tick(machine)

    def tick(self, machine: GuestMachine) -> None:
        """Time goes by."""
        up = (world_now() - machine.booted_at).total_seconds()
        self._write(self.root / "proc/uptime", f"{up:.2f} {up * 0.9:.2f}")

    def changed(self, machine: GuestMachine) -> None:
        state = machine.unit.state
        self._write(self._run / "unit", _unit_text(state))
        self._write_processes(state)
        self._write_sockets(machine)

    def _write_processes(self, state: UnitState) -> None:
        proc = self.root / "proc"
        alive = {pid for pid in (state.main_pid, state.jvm_pid) if pid}
        for directory in proc.glob("[0-9]*"):
            if int(directory.name) not in alive:
                shutil.rmtree(directory, ignore_errors=True)
        for pid in alive - {int(directory.name) for directory in proc.glob("[0-9]*")}:
            self._write_process(proc / str(pid), pid, state)
        group = self.root / f"sys/fs/cgroup{_CGROUP}/cgroup.procs"
        if alive:
            self._write(group, "\n".join(str(pid) for pid in sorted(alive)))
        else:
            group.unlink(missing_ok=True)

    def _write_process(self, directory: Path, pid: int, state: UnitState) -> None:
        is_java = pid == state.jvm_pid
        name = "java" if is_java else "_run.sh"
        parent = state.main_pid if is_java else 1
        ticks = int(state.active_at * 100)
        (directory / "fd").mkdir(parents=True, exist_ok=True)
        for number in range(_JVM_FILES if is_java else 1):
            (directory / "fd" / str(number)).touch()
        self._write(directory / "comm", name)
        self._write(
            directory / "limits",
            "Limit                     Soft Limit           Hard Limit           Units     \n"
            "Max open files            4096                 524288               files     ",
        )
        line = "java\0-mx512m\0com.cloud.agent.AgentShell" if is_java else "/bin/bash\0./_run.sh"
        self._write(directory / "cmdline", line)
        # 22 fields to the start time, which is what is read of it.
        self._write(
            directory / "stat",
            f"{pid} ({name}) S {parent} {state.main_pid} {state.main_pid} 0 -1 4194304 2000 0 0 0 "
            f"120 30 0 0 20 0 30 0 {ticks} 3000000 60000",
        )

    def _write_sockets(self, machine: GuestMachine) -> None:
        lines = [
            _SOCKETS_HEAD,
            _socket_line(0, f"{self.vm.link_local}:3922", "0.0.0.0:0", "0A", 11001),
        ]
        if machine.link is not Link.NONE:
            local, inode = f"{self.vm.private}:45986", 20000 + self.vm.number
            state = "08" if machine.link is Link.CLOSED_THERE else "01"
            lines.append(_socket_line(1, local, machine.management, state, inode))
        self._write(self.root / "proc/net/tcp", "\n".join(lines))
        self._write(self.root / "proc/net/tcp6", _SOCKETS_HEAD)

    def _write_mounts(self) -> None:
        lines = [
            "/dev/vda5 / ext4 rw,relatime,errors=remount-ro 0 0",
            "proc /proc proc rw,nosuid 0 0",
        ]
        if self.vm.role is VmRole.SECONDARY_STORAGE:
            lines.append(
                f"192.0.2.20:/export/secondary /mnt/SecStorage/{_STORE} nfs4 "
                "rw,relatime,soft,timeo=133,retrans=2147483647 0 0"
            )
        self._write(self.root / "proc/mounts", "\n".join(lines))

    def gone_down(self) -> None:
        self._write_processes(UnitState())

    def discard(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- the log ----------------------------------------------------------------------------------

    def log(self, lines: Sequence[str]) -> None:
        """Append; the writer itself rotates by size, as log4j does."""
        text = "".join(f"{line}\n" for line in lines).encode("utf-8")
        try:
            size = self.log_path.stat().st_size
        except FileNotFoundError:
            size = 0
        if size and size + len(text) > self.log_bytes_max:
            self.rotate()
        with self.log_path.open("ab") as file:
            file.write(text)

    def rotate(self) -> None:
        """Rename: log4j 1 calls the newest cloud.log.1, log4j 2 gives it the highest number."""
        if self.release.logs_with_log4j2:
            self._rotate_upwards()
        else:
            for number in range(_LOGS_KEPT, 0, -1):
                older = self.log_path.with_name(f"cloud.log.{number}")
                if number == _LOGS_KEPT:
                    older.unlink(missing_ok=True)
                elif older.exists():
                    older.rename(self.log_path.with_name(f"cloud.log.{number + 1}"))
            self.log_path.rename(self.log_path.with_name("cloud.log.1"))
        self.log_path.touch()

    def _rotate_upwards(self) -> None:
        names = [self.log_path.with_name(f"cloud.{n}.log") for n in range(1, _LOGS_KEPT + 1)]
        free = next((name for name in names if not name.exists()), None)
        if free is None:
            names[0].unlink()
            for older, newer in itertools.pairwise(names):
                newer.rename(older)
            free = names[-1]
        self.log_path.rename(free)

    def copy_and_truncate(self) -> None:
        """Logrotate's other way: same inode, size 0."""
        shutil.copyfile(self.log_path, self.log_path.with_name("cloud.log.1"))
        with self.log_path.open("r+b") as file:
            file.truncate(0)

    # --- faults -----------------------------------------------------------------------------------

    def fill_disk(self, *, is_full: bool) -> None:
        self._write(self._run / "fs-root", _FULL_FS if is_full else _ROOT_FS)

    def hang_mounts(self, manner: str) -> None:
        """`soft`: the toucher can be killed; `hard`: it cannot; empty: they answer again."""
        (self._run / "hung").write_text(f"{manner}\n" if manner else "", encoding="utf-8")

    @staticmethod
    def _write(path: Path, text: str) -> None:
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(f"{text}\n", encoding="utf-8")
        fresh.rename(path)


def _socket_line(number: int, local: str, remote: str, state: str, inode: int) -> str:
    return (
        f"{number:4d}: {_hex_place(local)} {_hex_place(remote)} {state} 00000000:00000000 "
        f"00:00000000 00000000     0        0 {inode} 1"
    )


def _hex_place(place: str) -> str:
    """As /proc/net/tcp writes it: the address's bytes from last to first."""
    host, _, port = place.rpartition(":")
    address = "".join(f"{int(part):02X}" for part in reversed(host.split(".")))
    return f"{address}:{int(port):04X}"


def unit_properties(state: UnitState) -> dict[str, object]:
    """What `systemctl show cloud` tells, in its own order and form."""
    is_there = state.active in ("active", "deactivating")
    values: dict[str, object] = {
        "Type": "simple",
        "Restart": "on-failure",
        "NotifyAccess": "none",
        "RestartUSec": "100ms",
        "TimeoutStopUSec": "1min 30s",
        "MainPID": state.main_pid,
        "Result": state.result,
        "NRestarts": state.restarts,
        "ExecMainStartTimestampMonotonic": int(state.active_at * 1e6),
        "ExecMainExitTimestampMonotonic": int(state.exited_at * 1e6),
        "ExecMainPID": state.exec_main_pid,
        "ExecMainCode": state.main_code,
        "ExecMainStatus": state.main_status,
        "Slice": "system.slice",
        "ControlGroup": _CGROUP if is_there else "",
        "Id": "cloud.service",
        "Names": "cloud.service",
        "Description": "CloudStack Agent service",
        "LoadState": "loaded",
        "ActiveState": state.active,
        "FreezerState": "running",
        "SubState": state.sub,
        "FragmentPath": "/etc/systemd/system/cloud.service",
        "UnitFileState": "enabled",
        "StateChangeTimestampMonotonic": int(state.changed_at * 1e6),
        "ActiveEnterTimestampMonotonic": int(state.active_at * 1e6),
        "InactiveEnterTimestampMonotonic": int(state.inactive_at * 1e6),
        "NeedDaemonReload": "no",
        "StartLimitIntervalUSec": "10s",
        "StartLimitBurst": 5,
        "InvocationID": state.invocation_id,
    }
    if state.active == "deactivating":
        values["Job"] = 4711
    return values


def _unit_text(state: UnitState) -> str:
    return "\n".join(f"{name}={value}" for name, value in unit_properties(state).items())
