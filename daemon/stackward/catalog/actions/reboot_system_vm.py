"""Reboot the VM through CloudStack: `rebootSystemVm`, not forced.

Its job succeeds even when the hypervisor did not reboot anything (ManagementServerImpl.java drops
the answer), so a job's success proves nothing: the proof is a new boot_id.
"""

from datetime import timedelta

from stackward.catalog.action import Action, Means
from stackward.model.plan import ActionName

REBOOT_SYSTEM_VM = Action(
    name=ActionName.REBOOT_SYSTEM_VM,
    means=Means.API,
    is_disruptive=True,
    deadline=timedelta(seconds=30),
    settle=timedelta(seconds=10),
    # Without the last two a request whose answer was lost could not be found again.
    commands=frozenset({"rebootSystemVm", "listAsyncJobs", "queryAsyncJobResult"}),
)

_CLASS = "RebootSystemVmCmd"  # api/.../command/admin/systemvm/RebootSystemVmCmd.java


def is_reboot_job(command: str) -> bool:
    """True when a job's `cmd` (a full class name) is our command."""
    return command.rpartition(".")[2] == _CLASS
