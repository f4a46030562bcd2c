"""The commands that give a job: reboot, start, stop and destroy of one system VM.

Each answers with a jobid at once; what it does and refuses is in the job, as with CloudStack.
"""

from collections.abc import Callable, Mapping

from stackward.model.identity import VmRole
from stackward.model.target import CloudState
from stackward.rehearsal.clock import world_now
from stackward.rehearsal.inventory import Job, SystemVm
from stackward.rehearsal.refusals import no_such_entity
from stackward.rehearsal.rows import Row, vm_row
from stackward.rehearsal.world import World

Params = Mapping[str, str]
_ADMIN = "org.apache.cloudstack.api.command.admin.systemvm"


def _submitted(
    world: World,
    params: Params,
    name: str,
    begin: Callable[[SystemVm], str | None],
    finish: Callable[[SystemVm], None],
) -> Row:
    vm = world.vms.get(params["id"])
    if vm is None:
        raise no_such_entity("id", params["id"])
    subject = vm

    def result() -> Row:
        last = vm_row(world, subject)
        finish(subject)
        still_there = subject.id in world.vms
        return {"systemvm": vm_row(world, subject) if still_there else last}

    job = Job(
        id=world.new_id(),
        command=f"{_ADMIN}.{name[0].upper()}{name[1:]}Cmd",
        vm=subject,
        created_at=world_now(),
        begin=lambda: begin(subject),
        finish=result,
        duration=world.settings.pace.job,
    )
    world.submit(job)
    return {"jobid": job.id}


def reboot_system_vm(world: World, params: Params) -> Row:
    """Running: the guest is rebooted, and a failure to do so is swallowed. Else: it is started."""

    def begin(vm: SystemVm) -> str | None:
        if vm.state is CloudState.RUNNING:
            world.timers.after(world.settings.pace.job / 2, lambda: reboot_now(vm))
        elif vm.state is CloudState.STOPPED:
            world.start_stopped(vm)
        return None

    def reboot_now(vm: SystemVm) -> None:
        if vm.id in world.vms and vm.state is CloudState.RUNNING:
            world.reboot(vm)

    return _submitted(world, params, "rebootSystemVm", begin, lambda _vm: None)


def start_system_vm(world: World, params: Params) -> Row:
    """Stopped to Starting; Running once it has booted."""

    def begin(vm: SystemVm) -> str | None:
        if vm.state is CloudState.STOPPED:
            world.start_stopped(vm)
            return None
        return None if vm.state in (CloudState.RUNNING, CloudState.STARTING) else _cannot(vm)

    return _submitted(world, params, "startSystemVm", begin, lambda _vm: None)


def stop_system_vm(world: World, params: Params) -> Row:
    """Never from Starting; the capacity scan will start it again."""

    def begin(vm: SystemVm) -> str | None:
        if vm.state is CloudState.STARTING:
            return f"We cannot stop {vm.name} when it is in state Starting"
        if vm.state is CloudState.RUNNING:
            vm.state = CloudState.STOPPING
        return None

    def finish(vm: SystemVm) -> None:
        if vm.state is CloudState.STOPPING:
            world.switch_off(vm)

    return _submitted(world, params, "stopSystemVm", begin, finish)


def destroy_system_vm(world: World, params: Params) -> Row:
    """Expunged at once; the scan makes a new one with a new name and id."""

    def begin(vm: SystemVm) -> str | None:
        if vm.state is CloudState.STARTING:
            return f"We cannot stop {vm.name} when it is in state Starting"
        vm.state = CloudState.STOPPING
        return None

    return _submitted(world, params, "destroySystemVm", begin, world.remove)


def _cannot(vm: SystemVm) -> str:
    kind = "secondary storage VM" if vm.role is VmRole.SECONDARY_STORAGE else "console proxy"
    return f"The {kind} {vm.name} cannot be started in state {vm.state.value}"
