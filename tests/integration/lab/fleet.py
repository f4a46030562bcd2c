"""A rehearsal cloud beside a test that may block, and a fleet of it behind real OpenSSH.

The cloud lives on a loop and a thread of its own. In the fleet the rehearsal gives what real parts
cannot give here (CloudStack's API, the agents, systemd); everything on the way into a VM is
OpenSSH and bash.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from stackward.rehearsal.guests import Guest
from stackward.rehearsal.inventory import SystemVm
from stackward.rehearsal.ledger import LedgerLine
from stackward.rehearsal.server import Rehearsal
from stackward.rehearsal.settings import QUICK, GuestKind, Pace, RehearsalSettings
from tests.integration.lab.sshd import USER, Jump, SshLab, VmSshd

T = TypeVar("T")

START_SECONDS = 60.0
POLL_SECONDS = 1.5

# What differs from the rehearsal's quick configuration: the daemon acts, and twenty VMs on a busy
# machine are asked a little less often than two.
HASTE: dict[str, Any] = {
    "mode": "act",
    "thresholds": {"boot_grace_seconds": 0},
    "limits": {"zone_disruptive_max": 100},
    "timing": {"stop_grace_seconds": 2},
    "ssh": {
        "poll_interval_seconds": POLL_SECONDS,
        "poll_timeout_seconds": 4.0,
        "back_off_seconds_max": 2.0,
    },
    "facts": {
        "unit_interval_seconds": POLL_SECONDS,
        "slow_interval_seconds": 3.0,
        "disk_interval_seconds": 5.0,
    },
}


def merged(told: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """`told` with `more` laid over it, section by section."""
    result = dict(told)
    for key, value in more.items():
        known = result.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            result[key] = merged(known, value)
        else:
            result[key] = value
    return result


class LiveCloud:
    """A rehearsal on asyncio's own loop in a thread. As a context it begins and ends."""

    def __init__(self, settings: RehearsalSettings) -> None:
        self.settings = settings
        self._thread = threading.Thread(target=self._live, name="rehearsal")
        self._is_up = threading.Event()
        self._trouble: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None
        self._cloud: Rehearsal | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._is_up.wait(START_SECONDS)
        if self._cloud is None:
            self._end()
            raise RuntimeError("the rehearsal did not start") from self._trouble
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
        assert self._trouble is None, self._trouble

    def _end(self) -> None:
        if self._loop is not None and self._over is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(START_SECONDS)
        assert not self._thread.is_alive(), "the rehearsal does not end"

    def _live(self) -> None:
        try:
            asyncio.run(self._rehearse())
        except BaseException as trouble:  # told to the test's own thread
            self._trouble = trouble
        finally:
            self._is_up.set()

    async def _rehearse(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with Rehearsal(self.settings) as cloud:
            self._cloud = cloud
            self._is_up.set()
            await self._over.wait()

    def do(self, work: Callable[[Rehearsal], T]) -> T:
        """Run `work` on the cloud's own thread and return what it returns."""
        assert self._loop is not None

        async def there() -> T:
            assert self._cloud is not None
            return work(self._cloud)

        return asyncio.run_coroutine_threadsafe(there(), self._loop).result(START_SECONDS)

    def inject(self, fault: str, on: str = "") -> None:
        self.do(lambda cloud: cloud.inject(fault, on))

    def clear(self, fault: str, on: str = "") -> None:
        self.do(lambda cloud: cloud.clear(fault, on))

    def ledger(self) -> tuple[LedgerLine, ...]:
        """Every request that was to change something."""
        return self.do(lambda cloud: cloud.ledger())

    def vms(self) -> list[SystemVm]:
        return self.do(lambda cloud: list(cloud.world.vms.values()))

    def daemon_config(self, **more: Any) -> dict[str, Any]:
        """The configuration of a daemon that watches this cloud, with `more` laid over it."""
        return merged(self.do(lambda cloud: cloud.daemon_config()), {**more})


class Fleet:
    """One zone, one hypervisor with a real sshd, and behind it real ones, a VM's each.

    Half of them are SSVMs, half CPVMs; all are of one template and share its host keys.
    """

    def __init__(self, folder: Path, vms: int = 20, *, pace: Pace = QUICK) -> None:
        half = vms // 2
        self.cloud = LiveCloud(
            RehearsalSettings(
                zones=1,
                ssvms_per_zone=half,
                cpvms_per_zone=vms - half,
                pace=pace,
                guests=GuestKind.TREE,
            )
        )
        self.lab = SshLab(folder)
        self.sshds: dict[str, VmSshd] = {}
        self.jump: Jump | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.cloud)
            stack.enter_context(self.lab)
            host = self.cloud.do(lambda cloud: cloud.world.hosts[0].name)
            self.jump = self.lab.start_jump(host)
            for vm in self.cloud.vms():
                self._put_behind_sshd(vm)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _put_behind_sshd(self, vm: SystemVm) -> None:
        guest = self.cloud.do(lambda cloud: cloud.stage.guests[vm.id])
        assert isinstance(guest, Guest)
        sshd = self.lab.start_vm(
            vm.name, guest.tree.root, vm.template_id, jump=self.jump, path=str(guest.tree.bin)
        )
        self.sshds[vm.name] = sshd
        # From the jump the VM is where its sshd is; here that is a loopback address.
        self.cloud.do(lambda _: setattr(vm, "link_local", sshd.address))

    @property
    def names(self) -> list[str]:
        return sorted(self.sshds)

    def daemon_config(self) -> dict[str, Any]:
        """The configuration of a daemon that watches this fleet and acts."""
        assert self.jump is not None
        keys = self.lab.folder
        vm_key, jump_key = keys / "vm-key", keys / "jump-key"
        for path, key in ((vm_key, self.lab.vm_key), (jump_key, self.lab.jump_key)):
            path.touch(mode=0o600)
            path.write_bytes(key.export_private_key("openssh"))
        ssh = {
            "vm_keys": [{"file": str(vm_key)}],
            "jump_keys": [{"file": str(jump_key)}],
            "vm_user": USER,
            "jump_user": USER,
            "known_hosts": str(keys / "known_hosts"),
            "hypervisors": {self.jump.name: {"address": self.jump.address, "port": self.jump.port}},
        }
        return merged(self.cloud.daemon_config(**HASTE), {"ssh": ssh})
