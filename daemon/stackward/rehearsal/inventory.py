"""The things in the rehearsed cloud. Plain and mutable: the world is their one owner."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Protocol

from stackward.model.identity import VmRole
from stackward.model.target import AgentState, CloudState


class Machine(Protocol):
    """What runs inside one system VM, as far as the cloud can move it."""

    def power_on(self) -> None: ...
    def run_since(self, moment: datetime) -> None:
        """Have been up, with the agent connected, since then: how the world begins."""
        ...

    def power_off(self) -> None:
        """A clean shutdown from inside: the agent says goodbye if it can."""
        ...

    def discard(self) -> None:
        """The VM is no more; so are its disk and its doors."""
        ...


@dataclass(slots=True, kw_only=True)
class RehearsedZone:
    """A zone. `number` is its database id."""

    number: int
    id: str
    pod_id: str
    name: str
    template_id: str
    is_enabled: bool = True


@dataclass(slots=True, kw_only=True)
class RehearsedHost:
    """A hypervisor host. `address` is where its sshd is."""

    id: str
    name: str
    zone: RehearsedZone
    address: str
    created_at: datetime
    status: str = "Up"
    resource_state: str = "Enabled"
    links_used: int = 0  # link-local addresses given out so far, never again

    @property
    def takes_vms(self) -> bool:
        return self.status == "Up" and self.resource_state == "Enabled"


@dataclass(slots=True, kw_only=True)
class AgentRow:
    """The agent's row in `host`: there is none until it has connected once."""

    id: str
    number: int
    status: AgentState
    version: str
    created_at: datetime
    disconnected_at: datetime | None = None


class JobState(IntEnum):
    """JobInfo.Status by ordinal (api/.../jobs/JobInfo.java)."""

    PENDING = 0
    SUCCEEDED = 1
    FAILED = 2


@dataclass(slots=True, kw_only=True)
class Job:
    """One async job. `begin` may refuse with a text; `finish` gives the result.

    `duration` None: it stays pending until somebody ends it.
    """

    id: str
    command: str  # full class name
    vm: "SystemVm"
    created_at: datetime
    begin: Callable[[], str | None]
    finish: Callable[[], dict[str, object]]
    duration: float | None
    state: JobState = JobState.PENDING
    result: dict[str, object] | None = None
    completed_at: datetime | None = None


@dataclass(slots=True, kw_only=True)
class SystemVm:
    """A system VM as its rows tell."""

    id: str
    number: int
    name: str
    role: VmRole
    zone: RehearsedZone
    host: RehearsedHost
    template_id: str
    created_at: datetime
    link_local: str
    private: str
    public: str
    state: CloudState
    agent: AgentRow | None = None
    jobs: deque[Job] = field(default_factory=deque)  # the pending ones, in order
    machine: Machine | None = None  # None only while it is being made
    is_link_silent: bool = False

    @property
    def body(self) -> Machine:
        """The machine; there is one from creation to removal."""
        assert self.machine is not None
        return self.machine
