"""The faults that can be switched on, by name: what each does, and what a daemon should say.

The table is the documentation; the control page shows it. `on` is a VM, a hypervisor, a zone or
nothing (the cloud). A fault with `is_passing` is an event: it happens and needs no end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from stackward.model.diagnosis import DiagnosisCode
from stackward.rehearsal.clock import world_now
from stackward.rehearsal.doors import Door, Passage
from stackward.rehearsal.inventory import Job
from stackward.rehearsal.machine import Affliction
from stackward.rehearsal.stage import NotHere, Stage

_SKEW = timedelta(minutes=10)
_SLOW_SECONDS = 8.0
_OUT_OF_MEMORY = 137  # SIGKILL, as the kernel's OOM killer sends it


class Kind(StrEnum):
    """What a fault is switched on for."""

    VM = "vm"
    HOST = "host"
    ZONE = "zone"
    CLOUD = "cloud"


Change = Callable[[Stage, str], None]


def _nothing(_stage: Stage, _on: str) -> None:
    """A passing event has no end."""


def _for_good(_stage: Stage, _on: str) -> bool:
    """Most faults last until somebody ends them."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault. `expected` is what the daemon should find; "" nothing, or not by that name.

    `lasts` tells whether one that was switched on is still at work: it may end by itself.
    """

    name: str
    kind: Kind
    does: str
    expected: str
    begin: Change
    end: Change = _nothing
    lasts: Callable[[Stage, str], bool] = _for_good

    @property
    def is_passing(self) -> bool:
        return self.end is _nothing


# --- inside a VM ----------------------------------------------------------------------------------


def _crash(affliction: Affliction) -> Change:
    def begin(stage: Stage, on: str) -> None:
        machine = stage.machine(on)
        machine.afflictions.add(affliction)
        machine.kill_jvm(_OUT_OF_MEMORY)

    return begin


def _lift(affliction: Affliction) -> Change:
    return lambda stage, on: stage.machine(on).lift(affliction)


def _stop_by_person(stage: Stage, on: str) -> None:
    stage.machine(on).unit.stop()


def _start_by_person(stage: Stage, on: str) -> None:
    unit = stage.machine(on).unit
    unit.reset_failed()
    unit.start()


def _lose_management(stage: Stage, on: str) -> None:
    stage.guest(on).point_at_management(is_reachable=False)
    stage.machine(on).lose_management()


def _find_management(stage: Stage, on: str) -> None:
    stage.guest(on).point_at_management(is_reachable=True)
    stage.machine(on).lift(Affliction.NO_MANAGEMENT)


def _skew(offset: timedelta) -> Change:
    def begin(stage: Stage, on: str) -> None:
        stage.machine(on).clock_offset = offset

    return begin


def _vm_door(stage: Stage, on: str) -> Door:
    ssh = stage.guest(on).ssh
    if ssh is None:
        raise NotHere(f"{on} has no sshd in this rehearsal")
    return ssh.door


def _other_host_key(stage: Stage, on: str) -> None:
    _vm_door(stage, on)
    ssh = stage.guest(on).ssh
    if ssh is not None:
        ssh.show_other_keys(stage.keys.other_host_keys())


def _same_host_key(stage: Stage, on: str) -> None:
    ssh = stage.guest(on).ssh
    if ssh is not None:
        ssh.show_other_keys(stage.keys.template_keys(stage.vm(on).template_id))


# --- around a VM ----------------------------------------------------------------------------------


def _foreign_job(stage: Stage, on: str) -> None:
    vm = stage.vm(on)
    world = stage.world
    world.submit(
        Job(
            id=world.new_id(),
            command="org.apache.cloudstack.api.command.admin.systemvm.MigrateSystemVMCmd",
            vm=vm,
            created_at=world_now(),
            begin=lambda: None,
            finish=lambda: {"success": True},
            duration=None,
        )
    )


def _end_foreign_job(stage: Stage, on: str) -> None:
    for job in tuple(stage.vm(on).jobs):
        if job.duration is None:
            stage.world.finish(job)


def _vm_stops(stage: Stage, on: str) -> None:
    stage.world.log.found_off(stage.vm(on))
    stage.world.switch_off(stage.vm(on))


def _turn_jump(passage: Passage) -> Change:
    return lambda stage, on: stage.jump(on).door.turn(passage)


def _turn_vm(passage: Passage) -> Change:
    return lambda stage, on: _vm_door(stage, on).turn(passage)


def _host_resource_state(state: str) -> Change:
    def begin(stage: Stage, on: str) -> None:
        stage.host(on).resource_state = state

    return begin


def _zone_enabled(*, is_enabled: bool) -> Change:
    def begin(stage: Stage, on: str) -> None:
        zone = stage.world.zone_named(on)
        if zone is None:
            raise NotHere(f"there is no zone {on!r}")
        zone.is_enabled = is_enabled

    return begin


# --- the API --------------------------------------------------------------------------------------


def _api(passage: Passage) -> Change:
    return lambda stage, _on: stage.api_door.turn(passage)


def _manner(name: str, value: object) -> Change:
    return lambda stage, _on: setattr(stage.api.manners, name, value)


def _reboots_lie(*, do_lie: bool) -> Change:
    def begin(stage: Stage, _on: str) -> None:
        stage.world.reboots_lie = do_lie

    return begin


# --- the table ------------------------------------------------------------------------------------

_D = DiagnosisCode

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="agent-dies",
        kind=Kind.VM,
        does="The JVM dies, and again at once, until systemd gives up; a restart heals it.",
        expected=_D.AGENT_DOWN,
        begin=_crash(Affliction.CRASHES_UNTIL_FAILED),
        end=_lift(Affliction.CRASHES_UNTIL_FAILED),
        lasts=lambda stage, on: Affliction.CRASHES_UNTIL_FAILED in stage.machine(on).afflictions,
    ),
    Fault(
        name="restart-does-not-help",
        kind=Kind.VM,
        does="The JVM dies at once, however often it is started.",
        expected=f"{_D.AGENT_DOWN}, and a person after the ladder",
        begin=_crash(Affliction.CRASHES),
        end=_lift(Affliction.CRASHES),
    ),
    Fault(
        name="agent-is-killed",
        kind=Kind.VM,
        does="The JVM is killed once; systemd starts it again.",
        expected="",
        begin=lambda stage, on: stage.machine(on).kill_jvm(_OUT_OF_MEMORY),
    ),
    Fault(
        name="agent-exits-zero",
        kind=Kind.VM,
        does="The JVM ends with 0, which systemd takes for the end; a start heals it.",
        expected=_D.AGENT_DOWN,
        begin=lambda stage, on: stage.machine(on).kill_jvm(0),
    ),
    Fault(
        name="agent-hangs",
        kind=Kind.VM,
        does="The JVM stands still; CloudStack gives it up when pings are overdue.",
        expected=_D.AGENT_DISCONNECTED,
        begin=lambda stage, on: stage.machine(on).hang(),
        end=lambda stage, on: stage.machine(on).wake(),
    ),
    Fault(
        name="agent-stopped-by-person",
        kind=Kind.VM,
        does="Somebody stops cloud.service; the end of the fault starts it.",
        expected=_D.AGENT_STOPPED,
        begin=_stop_by_person,
        end=_start_by_person,
    ),
    Fault(
        name="management-unreachable",
        kind=Kind.VM,
        does="Nobody takes a connect where host= points; the agent loses its link.",
        expected=_D.MANAGEMENT_UNREACHABLE,
        begin=_lose_management,
        end=_find_management,
    ),
    Fault(
        name="never-connects",
        kind=Kind.VM,
        does="The agent has no host row and its TLS handshakes fail.",
        expected=_D.AGENT_NEVER_CONNECTED,
        begin=lambda stage, on: stage.machine(on).be_rejected(),
        end=_lift(Affliction.NO_HANDSHAKE),
    ),
    Fault(
        name="disk-full",
        kind=Kind.VM,
        does="No block of / is free.",
        expected=_D.DISK_FULL,
        begin=lambda stage, on: stage.guest(on).tree.fill_disk(is_full=True),
        end=lambda stage, on: stage.guest(on).tree.fill_disk(is_full=False),
    ),
    Fault(
        name="mount-hung",
        kind=Kind.VM,
        does="Whoever touches a secondary storage mount hangs and can be killed (SSVM).",
        expected=_D.SECONDARY_STORAGE_HUNG,
        begin=lambda stage, on: stage.guest(on).tree.hang_mounts("soft"),
        end=lambda stage, on: stage.guest(on).tree.hang_mounts(""),
    ),
    Fault(
        name="mount-hung-hard",
        kind=Kind.VM,
        does="As mount-hung, and killing the toucher does not end it (SSVM).",
        expected=_D.SECONDARY_STORAGE_HUNG,
        begin=lambda stage, on: stage.guest(on).tree.hang_mounts("hard"),
        end=lambda stage, on: stage.guest(on).tree.hang_mounts(""),
    ),
    Fault(
        name="clock-skew",
        kind=Kind.VM,
        does="The VM's clock is ten minutes ahead.",
        expected="",
        begin=_skew(_SKEW),
        end=_skew(timedelta(0)),
    ),
    Fault(
        name="log-renamed",
        kind=Kind.VM,
        does="The log is rotated by renaming, as log4j does.",
        expected="",
        begin=lambda stage, on: stage.guest(on).tree.rotate(),
    ),
    Fault(
        name="log-truncated",
        kind=Kind.VM,
        does="The log is copied and cut to nothing, as logrotate's copytruncate does.",
        expected="",
        begin=lambda stage, on: stage.guest(on).tree.copy_and_truncate(),
    ),
    Fault(
        name="vm-ssh-hangs",
        kind=Kind.VM,
        does="sshd takes connections and says nothing; those that stand go silent.",
        expected="",
        begin=_turn_vm(Passage.HUNG),
        end=_turn_vm(Passage.OPEN),
    ),
    Fault(
        name="vm-ssh-down",
        kind=Kind.VM,
        does="Nothing listens on port 3922; connections that stand break.",
        expected="",
        begin=_turn_vm(Passage.SHUT),
        end=_turn_vm(Passage.OPEN),
    ),
    Fault(
        name="host-key-changed",
        kind=Kind.VM,
        does="sshd shows host keys that are not its template's.",
        expected=_D.HOST_KEY_CHANGED,
        begin=_other_host_key,
        end=_same_host_key,
    ),
    Fault(
        name="vm-job-pending",
        kind=Kind.VM,
        does="Somebody else's async job is pending on the VM.",
        expected="hold: cloud-busy",
        begin=_foreign_job,
        end=_end_foreign_job,
    ),
    Fault(
        name="vm-stops",
        kind=Kind.VM,
        does="The VM is found off; the capacity scan starts it again.",
        expected=_D.VM_NOT_RUNNING,
        begin=_vm_stops,
    ),
    Fault(
        name="jump-down",
        kind=Kind.HOST,
        does="The hypervisor's sshd is gone, and every connection through it.",
        expected=_D.JUMP_UNREACHABLE,
        begin=_turn_jump(Passage.SHUT),
        end=_turn_jump(Passage.OPEN),
    ),
    Fault(
        name="jump-hangs",
        kind=Kind.HOST,
        does="The hypervisor's sshd takes connections and says nothing; all through it is silent.",
        expected=_D.JUMP_UNREACHABLE,
        begin=_turn_jump(Passage.HUNG),
        end=_turn_jump(Passage.OPEN),
    ),
    Fault(
        name="host-maintenance",
        kind=Kind.HOST,
        does="The hypervisor is in maintenance.",
        expected="hold: hypervisor-down",
        begin=_host_resource_state("Maintenance"),
        end=_host_resource_state("Enabled"),
    ),
    Fault(
        name="zone-disabled",
        kind=Kind.ZONE,
        does="The zone is disabled; no scan runs in it.",
        expected="hold: zone-disabled",
        begin=_zone_enabled(is_enabled=False),
        end=_zone_enabled(is_enabled=True),
    ),
    Fault(
        name="api-down",
        kind=Kind.CLOUD,
        does="The API refuses connections.",
        expected=_D.CLOUD_API_UNREACHABLE,
        begin=_api(Passage.SHUT),
        end=_api(Passage.OPEN),
    ),
    Fault(
        name="api-hangs",
        kind=Kind.CLOUD,
        does="The API takes connections and says nothing.",
        expected=_D.CLOUD_API_UNREACHABLE,
        begin=_api(Passage.HUNG),
        end=_api(Passage.OPEN),
    ),
    Fault(
        name="api-slow",
        kind=Kind.CLOUD,
        does=f"Every answer takes {_SLOW_SECONDS:.0f} seconds more.",
        expected="",
        begin=_manner("delay_seconds", _SLOW_SECONDS),
        end=_manner("delay_seconds", 0.0),
    ),
    Fault(
        name="api-html",
        kind=Kind.CLOUD,
        does="A proxy answers 503 with a page of its own.",
        expected=_D.CLOUD_API_UNREACHABLE,
        begin=_manner("is_html", value=True),
        end=_manner("is_html", value=False),
    ),
    Fault(
        name="api-half",
        kind=Kind.CLOUD,
        does="Every answer breaks off in the middle.",
        expected=_D.CLOUD_API_UNREACHABLE,
        begin=_manner("is_half", value=True),
        end=_manner("is_half", value=False),
    ),
    Fault(
        name="api-stands-down",
        kind=Kind.CLOUD,
        does="The management server prepares for a shutdown: no new jobs (503).",
        expected="",
        begin=_manner("is_standing_down", value=True),
        end=_manner("is_standing_down", value=False),
    ),
    Fault(
        name="api-loses-answer",
        kind=Kind.CLOUD,
        does="What changes something is executed, and the answer is lost.",
        expected="",
        begin=_manner("loses_answers", value=True),
        end=_manner("loses_answers", value=False),
    ),
    Fault(
        name="api-lies-reboot",
        kind=Kind.CLOUD,
        does="rebootSystemVm succeeds and reboots nothing.",
        expected="",
        begin=_reboots_lie(do_lie=True),
        end=_reboots_lie(do_lie=False),
    ),
)

BY_NAME = {fault.name: fault for fault in FAULTS}
