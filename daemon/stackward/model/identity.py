"""Who is who: identities and the words that CloudStack uses for kinds of things."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

TargetId = NewType("TargetId", str)  # the VM's CloudStack uuid; a recreated VM has a new one
ZoneId = NewType("ZoneId", str)
HostId = NewType("HostId", str)  # uuid of a hypervisor host
TemplateId = NewType("TemplateId", str)
JobId = NewType("JobId", str)  # uuid of a CloudStack async job
IntentId = NewType("IntentId", str)  # our own: one intent, one request at most


class VmRole(StrEnum):
    """What a system VM is for."""

    SECONDARY_STORAGE = "ssvm"
    CONSOLE_PROXY = "cpvm"

    @property
    def spoken(self) -> str:
        """The role as people say it."""
        return "SSVM" if self is VmRole.SECONDARY_STORAGE else "CPVM"


@dataclass(frozen=True, slots=True, order=True)
class ServiceId:
    """What a recreated VM succeeds in: the work of one role in one zone."""

    zone_id: ZoneId
    role: VmRole


class Hypervisor(StrEnum):
    """Where the control address leads. CloudStack's own names, lower case."""

    KVM = "kvm"
    XEN = "xenserver"
    LXC = "lxc"
    OVM = "ovm3"
    VMWARE = "vmware"
    HYPERV = "hyperv"
    SIMULATOR = "simulator"
    OTHER = "other"
