"""How large the rehearsed cloud is, how fast it lives, and which CloudStack it plays."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class GuestKind(StrEnum):
    """What stands behind the doors of the system VMs."""

    SHELL = "shell"  # a directory tree, real bash, stand-ins for systemctl and the like
    LIGHT = "light"  # answers the fact channel without a shell: hundreds in one process
    TREE = "tree"  # the tree and the agent, but no SSH: somebody else's sshd stands in front
    NONE = "none"  # only what the API tells


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast the world lives, in seconds. The defaults are the real ones."""

    scan: float = 30.0  # secstorage.capacityscan.interval, consoleproxy.capacityscan.interval
    boot: float = 40.0
    agent_start: float = 8.0
    agent_retry: float = 5.0  # the agent's constant back-off
    job: float = 12.0
    ping_timeout: float = 180.0  # 150 to 210 in reality
    unit_restart: float = 0.1  # systemd's RestartSec
    unit_stop: float = 90.0  # systemd's TimeoutStopSec
    chatter: float = 20.0


QUICK = Pace(
    scan=1.0,
    boot=1.0,
    agent_start=0.5,
    agent_retry=0.5,
    job=0.6,
    ping_timeout=2.0,
    unit_restart=0.05,
    unit_stop=2.0,
    chatter=1.0,
)


@dataclass(frozen=True, slots=True)
class Release:
    """A CloudStack version and the manners that changed with it (facts by release)."""

    name: str = "4.20.1.0"

    @property
    def number(self) -> tuple[int, ...]:
        """The version as numbers."""
        return tuple(int(part) for part in self.name.split("."))

    def is_since(self, *number: int) -> bool:
        """True from this version on."""
        return self.number >= number

    @property
    def tells_agent_state(self) -> bool:
        """A VM of listSystemVms has agentstate, disconnected and version."""
        return self.is_since(4, 13, 1)

    @property
    def has_forced_reboot(self) -> bool:
        return self.is_since(4, 16)

    @property
    def forgets_agent_on_stop(self) -> bool:
        """Before this a stopped system VM kept its agent Up."""
        return self.is_since(4, 15, 1)

    @property
    def takes_iso_dates(self) -> bool:
        """`expires` may also end in Z or +00:00."""
        return self.is_since(4, 12)

    @property
    def logs_with_log4j2(self) -> bool:
        return self.is_since(4, 20)

    @property
    def names_agents_in_full(self) -> bool:
        """`agent [id: .., uuid: .., name: ..]` instead of `agent id = ..`."""
        return self.is_since(4, 20, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalSettings:
    """One rehearsed cloud."""

    seed: int = 1
    zones: int = 2
    hosts_per_zone: int = 1
    ssvms_per_zone: int = 1
    cpvms_per_zone: int = 1
    hypervisor: str = "KVM"  # as CloudStack shows it; VMware and Hyperv are reached directly
    release: Release = field(default_factory=Release)
    pace: Pace = field(default_factory=Pace)
    guests: GuestKind = GuestKind.SHELL
    log_bytes_max: int = 256 * 1024  # 10000 KB in reality
    directory: Path | None = None  # None: one of our own, removed at the end
    api_port: int = 0
    control_port: int = 0

    @property
    def is_direct(self) -> bool:
        """True when sshd listens on the private address and no jump is needed."""
        return self.hypervisor.lower() in ("vmware", "hyperv")
