"""What CloudStack says: one system VM, one zone, one hypervisor host, and the whole inventory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from stackward.model.identity import (
    HostId,
    Hypervisor,
    JobId,
    ServiceId,
    TargetId,
    TemplateId,
    VmRole,
    ZoneId,
)


class CloudState(StrEnum):
    """VirtualMachine.State (api/.../com/cloud/vm/VirtualMachine.java); unknown words parse."""

    STARTING = "Starting"
    RUNNING = "Running"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    MIGRATING = "Migrating"
    DESTROYED = "Destroyed"
    EXPUNGING = "Expunging"
    ERROR = "Error"
    UNKNOWN = "Unknown"
    SHUTDOWN = "Shutdown"
    UNRECOGNISED = "unrecognised"


class AgentState(StrEnum):
    """Status of the agent's host row (api/.../com/cloud/host/Status.java); unknown words parse."""

    CREATING = "Creating"
    CONNECTING = "Connecting"
    UP = "Up"
    DOWN = "Down"
    DISCONNECTED = "Disconnected"
    ALERT = "Alert"
    REMOVED = "Removed"
    ERROR = "Error"
    REBALANCING = "Rebalancing"
    UNKNOWN = "Unknown"
    UNRECOGNISED = "unrecognised"
    ABSENT = "absent"  # asked, and there is no host row: the agent never connected
    NOT_TOLD = "not-told"  # this version or this witness does not say


class Witness(StrEnum):
    """Who told us."""

    API = "api"
    DATABASE = "database"


class SshRoute(StrEnum):
    """How sshd on 3922 is reached (docs: CloudStack facts on SSH access).

    JUMP: KVM, Xen, LXC, OVM: `control_address` is link-local, through the VM's own hypervisor.
    DIRECT: VMware, Hyper-V: `control_address` is the private address.
    NONE: no way in (simulator, or no address yet).
    """

    JUMP = "jump"
    DIRECT = "direct"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One system VM as CloudStack tells it. None means: CloudStack did not say."""

    id: TargetId
    name: str
    role: VmRole
    zone_id: ZoneId
    zone_name: str
    cloud_state: CloudState
    agent_state: AgentState
    hypervisor: Hypervisor = Hypervisor.OTHER
    host_id: HostId | None = None  # None: not placed on a host
    host_name: str | None = None
    route: SshRoute = SshRoute.NONE
    control_address: str | None = None
    private_address: str | None = None
    public_address: str | None = None
    template_id: TemplateId | None = None
    agent_version: str | None = None
    created_at: datetime | None = None
    disconnected_at: datetime | None = None  # the last loss; stays set after the agent is Up again
    job_id: JobId | None = None  # an async job is pending on this VM
    witness: Witness = Witness.API

    @property
    def service(self) -> ServiceId:
        """The service that this VM renders and that its successor takes over."""
        return ServiceId(self.zone_id, self.role)

    @property
    def is_running(self) -> bool:
        """True when CloudStack says Running."""
        return self.cloud_state is CloudState.RUNNING


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone. `is_enabled` None: not told."""

    id: ZoneId
    name: str
    is_enabled: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HypervisorHost:
    """A hypervisor host. `is_up`: status Up and resource state Enabled; None: not told."""

    id: HostId
    name: str
    zone_id: ZoneId
    address: str | None
    is_up: bool | None
    detail: str = ""  # e.g. "Up, Maintenance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All system VMs, zones and hypervisor hosts, as one witness told them at one time.

    `unreadable` names rows that could not be read. While it is not empty no step is taken:
    the picture has holes.
    """

    targets: tuple[Target, ...]
    zones: tuple[Zone, ...]
    hosts: tuple[HypervisorHost, ...]
    witness: Witness
    observed_at: datetime
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DatabaseWitness:
    """What the database says beside the API: one agent status per VM id, or why it cannot say."""

    observed_at: datetime
    agent_states: Mapping[TargetId, AgentState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the API can do for us: `listApis` and `listCapabilities`.

    `commands` maps a command name to the names of its parameters. `version` None: not told.
    """

    version: str | None
    commands: Mapping[str, frozenset[str]]
