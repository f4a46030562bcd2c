"""Which ways there are: hypervisors and the VMs behind them, by identity. Opens nothing."""

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from stackward.errors import Leg, Unreachable
from stackward.model.identity import HostId, TargetId, TemplateId
from stackward.model.target import HypervisorHost, SshRoute, Target
from stackward.ports import Clock
from stackward.transports.ssh import SshWay
from stackward.transports.ssh_channels import FactChannel
from stackward.transports.ssh_limits import BackOff
from stackward.transports.ssh_places import JUMP_LEGS, VM_LEGS, Place
from stackward.transports.ssh_settings import SshSettings


class JumpIdentity(NamedTuple):
    """One hypervisor's sshd."""

    host_id: HostId
    address: str
    port: int


class VmIdentity(NamedTuple):
    """What makes a way the same way: link-local addresses repeat from host to host."""

    jump: JumpIdentity | None
    address: str
    port: int


@dataclass(slots=True, eq=False)
class Jump:
    """One hypervisor. `lock` is held while its connection is made, `turns` by each VM login.

    `left` says why it is not needed any more.
    """

    place: Place
    back_off: BackOff
    turns: asyncio.Semaphore
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    way: SshWay | None = None
    left: str = ""

    @property
    def is_open(self) -> bool:
        """True while its connection stands."""
        return self.way is not None and not self.way.is_closed

    def leave(self, reason: str) -> SshWay | None:
        """Give it up for good; returns what is closing."""
        self.left = reason
        way, self.way = self.way, None
        if way is not None:
            way.abort(reason)
        return way


@dataclass(slots=True, eq=False)
class Vm:
    """One system VM. `lock` is held while its connection is made, `asking` by the one who asks.

    `silences` counts unanswered ticks in a row. `left` says why it is not watched any more.
    `listed`: what it was made of; as long as that is the same, the way is.
    """

    identity: VmIdentity
    name: str
    place: Place
    template_id: TemplateId | None
    jump: Jump | None
    back_off: BackOff
    listed: tuple[Target, HypervisorHost | None]
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    way: SshWay | None = None
    facts: FactChannel | None = None
    silences: int = 0
    left: str = ""

    def drop(self, reason: str) -> SshWay | None:
        """Give its connection up, to be made anew; returns what is closing."""
        way, self.way, self.facts, self.silences = self.way, None, None, 0
        if way is not None:
            way.abort(reason)
        return way

    def leave(self, reason: str) -> SshWay | None:
        """Give it up for good."""
        self.left = reason
        return self.drop(reason)


class Pool:
    """All ways by identity. A VM that moved gets a new one; what is not retained is closed."""

    def __init__(self, settings: SshSettings, clock: Clock, dice: Random) -> None:
        self._settings = settings
        self._clock = clock
        self._dice = dice
        self._vms: dict[TargetId, Vm] = {}
        self._jumps: dict[JumpIdentity, Jump] = {}
        self._closed = ""

    def vm(self, target: Target, host: HypervisorHost | None) -> Vm:
        """The way to this target as it is placed now. Raises when CloudStack tells no way."""
        if self._closed:
            raise Unreachable(
                f"no way to {target.name}: {self._closed}", leg=Leg.CHANNEL, maybe_sent=False
            )
        known = self._vms.get(target.id)
        if known is not None and known.listed[0] is target and known.listed[1] is host:
            return known
        identity = self._identity(target, host)
        if known is not None:
            if known.identity == identity:
                known.template_id = target.template_id
                known.listed = (target, host)
                return known
            known.leave(f"{target.name} has moved")
        jump = self._jump(identity.jump, host)
        through = f" through {host.name}" if jump is not None and host is not None else ""
        vm = Vm(
            identity=identity,
            name=target.name,
            place=Place(
                said=f"{target.name} ({identity.address}:{identity.port}{through})",
                alias=target.name,
                address=identity.address,
                port=identity.port,
                legs=VM_LEGS,
            ),
            template_id=target.template_id,
            jump=jump,
            back_off=self._back_off(),
            listed=(target, host),
        )
        self._vms[target.id] = vm
        return vm

    def retain(self, target_ids: frozenset[TargetId]) -> list[SshWay]:
        """Leave all other VMs, and jumps without VMs; returns what is closing."""
        gone = [target_id for target_id in self._vms if target_id not in target_ids]
        closing = [
            self._vms.pop(target_id).leave("it is not watched any more") for target_id in gone
        ]
        used = {vm.identity.jump for vm in self._vms.values()}
        idle = [identity for identity in self._jumps if identity not in used]
        closing += [self._jumps.pop(identity).leave("it has no VMs to watch") for identity in idle]
        return [way for way in closing if way is not None]

    def close(self) -> list[SshWay]:
        """Leave everything for good; returns what is closing."""
        self._closed = "the daemon is stopping"
        return self.retain(frozenset())

    def _identity(self, target: Target, host: HypervisorHost | None) -> VmIdentity:
        address = target.control_address
        if target.route is SshRoute.NONE or not address:
            raise _no_way(f"CloudStack tells no SSH address of {target.name}", Leg.INNER_TCP)
        port = self._settings.port_of_vm(address)
        if target.route is SshRoute.DIRECT:
            return VmIdentity(None, address, port)
        if host is None:
            raise _no_way(f"CloudStack does not tell which host runs {target.name}", Leg.INNER_TCP)
        jump_address, jump_port = self._settings.jump_place(host)
        if not jump_address:
            raise _no_way(f"CloudStack tells no address of hypervisor {host.name}", Leg.JUMP_TCP)
        return VmIdentity(JumpIdentity(host.id, jump_address, jump_port), address, port)

    def _jump(self, identity: JumpIdentity | None, host: HypervisorHost | None) -> Jump | None:
        if identity is None or host is None:
            return None
        jump = self._jumps.get(identity)
        if jump is None:
            jump = self._jumps[identity] = Jump(
                place=Place(
                    said=f"hypervisor {host.name} ({identity.address}:{identity.port})",
                    alias=host.name,
                    address=identity.address,
                    port=identity.port,
                    legs=JUMP_LEGS,
                ),
                back_off=self._back_off(),
                turns=asyncio.Semaphore(self._settings.jump_handshakes_max),
            )
        return jump

    def _back_off(self) -> BackOff:
        return BackOff(
            self._clock,
            self._dice,
            shortest=self._settings.back_off_min,
            longest=self._settings.back_off_max,
        )


def _no_way(text: str, leg: Leg) -> Unreachable:
    return Unreachable(text, leg=leg, maybe_sent=False)
