"""What the faults and the control pages can reach of a running rehearsal."""

from dataclasses import dataclass, field

from stackward.rehearsal.api import Api
from stackward.rehearsal.doors import Door
from stackward.rehearsal.guests import Guest
from stackward.rehearsal.inventory import RehearsedHost, SystemVm
from stackward.rehearsal.jumps import Jump
from stackward.rehearsal.keys import KeyRing
from stackward.rehearsal.ledger import Ledger
from stackward.rehearsal.light import LightGuest
from stackward.rehearsal.machine import GuestMachine
from stackward.rehearsal.world import World


class NotHere(LookupError):
    """The rehearsal has no such thing, or it is not of the kind that the fault needs."""


@dataclass(slots=True, kw_only=True)
class Stage:
    """The parts of one rehearsal. `machines` and `guests` are by VM id, `jumps` by host name."""

    world: World
    api: Api
    api_door: Door
    ledger: Ledger
    keys: KeyRing
    machines: dict[str, GuestMachine] = field(default_factory=dict)
    guests: dict[str, Guest | LightGuest] = field(default_factory=dict)
    jumps: dict[str, Jump] = field(default_factory=dict)

    def vm(self, name: str) -> SystemVm:
        vm = self.world.vm_named(name)
        if vm is None:
            raise NotHere(f"there is no system VM {name!r}")
        return vm

    def machine(self, name: str) -> GuestMachine:
        return self.machines[self.vm(name).id]

    def guest(self, name: str) -> Guest:
        """A VM that has a tree."""
        guest = self.guests.get(self.vm(name).id)
        if not isinstance(guest, Guest):
            raise NotHere(f"{name} has no inside of its own in this rehearsal")
        return guest

    def host(self, name: str) -> RehearsedHost:
        host = self.world.host_named(name)
        if host is None:
            raise NotHere(f"there is no hypervisor {name!r}")
        return host

    def jump(self, name: str) -> Jump:
        host = self.host(name)
        if host.name not in self.jumps:
            raise NotHere(f"{name} is no way to anybody in this rehearsal")
        return self.jumps[host.name]
