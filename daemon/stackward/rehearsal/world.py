"""The model of the cloud: what CloudStack knows, and what it does by itself.

No socket and no file here: the API and the control pages read and move this, the machines inside
the VMs tell it what their agents do. Behaviour follows the state machines of VirtualMachine.java
and Status.java and the capacity scans, as far as a daemon beside CloudStack can notice them.
"""

import random
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from stackward.model.identity import VmRole
from stackward.model.target import AgentState, CloudState
from stackward.rehearsal.clock import Timers, world_now
from stackward.rehearsal.inventory import (
    AgentRow,
    Job,
    JobState,
    Machine,
    RehearsedHost,
    RehearsedZone,
    SystemVm,
)
from stackward.rehearsal.management_log import ManagementLog
from stackward.rehearsal.settings import RehearsalSettings

_COUNTS_AS_RUNNING = (CloudState.RUNNING, CloudState.MIGRATING, CloudState.STARTING)
_LINKS_PER_HOST = 250 * 250


class World:
    """Zones, hosts, system VMs, agents and jobs, and the scans that keep them going.

    `make_machine` gives a new VM its inside. `address` gives loopback addresses of this rehearsal:
    block 1 for hypervisors, block 2 for the private addresses of VMs that are reached directly.
    """

    def __init__(
        self,
        settings: RehearsalSettings,
        timers: Timers,
        make_machine: Callable[["World", SystemVm], Machine],
        *,
        address: Callable[[int, int], str] = lambda _block, _index: "127.0.0.1",
        log: ManagementLog | None = None,
    ) -> None:
        self.settings = settings
        self.timers = timers
        self.dice = random.Random(settings.seed)
        self.zones: list[RehearsedZone] = []
        self.hosts: list[RehearsedHost] = []
        self.vms: dict[str, SystemVm] = {}  # by id, in order of creation
        self.jobs: dict[str, Job] = {}
        self.reboots_lie = False
        self.account_id = self.new_id()
        self.user_id = self.new_id()
        self.management_id = self.new_id()
        self.log = log or ManagementLog(None, settings.release, settings.log_bytes_max)
        self._make_machine = make_machine
        self._address = address
        self._vm_number = 0
        for number in range(1, settings.zones + 1):
            self._build_zone(number)

    # --- building -----------------------------------------------------------------------------

    def new_id(self) -> str:
        """A fresh uuid from the seeded dice."""
        return str(uuid.UUID(int=self.dice.getrandbits(128), version=4))

    def _build_zone(self, number: int) -> None:
        zone = RehearsedZone(
            number=number,
            id=self.new_id(),
            pod_id=self.new_id(),
            name=f"zone-{number}",
            template_id=self.new_id(),
        )
        self.zones.append(zone)
        for index in range(1, self.settings.hosts_per_zone + 1):
            host = RehearsedHost(
                id=self.new_id(),
                name=f"{self.settings.hypervisor.lower()}-{number}-{index}",
                zone=zone,
                address=self._address(1, len(self.hosts)),
                created_at=world_now() - timedelta(days=90),
            )
            self.hosts.append(host)

    def populate(self) -> None:
        """Give every zone its system VMs, running for days and their agents Up."""
        for zone in self.zones:
            for role in VmRole:
                for _ in range(self._wanted(role)):
                    vm = self.create_vm(zone, role, age=timedelta(days=3))
                    vm.state = CloudState.RUNNING
                    vm.agent = self._new_agent_row(vm, vm.created_at + timedelta(minutes=2))
                    vm.body.run_since(vm.created_at)

    def start_scans(self) -> None:
        """From now on the capacity scans run."""
        self.timers.every(self.settings.pace.scan, self.scan)

    def create_vm(
        self, zone: RehearsedZone, role: VmRole, *, age: timedelta = timedelta(0)
    ) -> SystemVm:
        """A new VM in the zone, Starting, on the host with the fewest."""
        self._vm_number += 1
        letter = "s" if role is VmRole.SECONDARY_STORAGE else "v"
        candidates = [host for host in self.hosts if host.zone is zone and host.takes_vms]
        host = min(candidates, key=lambda h: sum(1 for vm in self.vms.values() if vm.host is h))
        link = host.links_used
        host.links_used += 1
        assert link < _LINKS_PER_HOST
        vm = SystemVm(
            id=self.new_id(),
            number=self._vm_number,
            name=f"{letter}-{self._vm_number}-VM",
            role=role,
            zone=zone,
            host=host,
            template_id=zone.template_id,
            created_at=world_now() - age,
            # Every host gives out the same ones, in the same order: they mean nothing elsewhere.
            link_local=f"169.254.{2 + (link * 37 + 11) % 250}.{2 + (link * 91 + 7) % 250}",
            private=self._private_address(zone),
            public=f"192.0.2.{self._vm_number % 250 + 2}",
            state=CloudState.STARTING,
        )
        vm.machine = self._make_machine(self, vm)
        self.vms[vm.id] = vm
        return vm

    def _private_address(self, zone: RehearsedZone) -> str:
        if self.settings.is_direct:
            return self._address(2, self._vm_number)
        high, low = divmod(self._vm_number, 250)
        return f"10.{zone.number % 250}.{high % 250}.{low + 2}"

    def _new_agent_row(self, vm: SystemVm, created_at: datetime) -> AgentRow:
        return AgentRow(
            id=self.new_id(),
            number=100 + vm.number,
            status=AgentState.UP,
            version=self.settings.release.name,
            created_at=created_at,
        )

    # --- looking ------------------------------------------------------------------------------

    def vm_named(self, name: str) -> SystemVm | None:
        """By name or id."""
        if name in self.vms:
            return self.vms[name]
        return next((vm for vm in self.vms.values() if vm.name == name), None)

    def host_named(self, name: str) -> RehearsedHost | None:
        return next((host for host in self.hosts if name in (host.name, host.id)), None)

    def zone_named(self, name: str) -> RehearsedZone | None:
        return next((zone for zone in self.zones if name in (zone.name, zone.id)), None)

    def _of(self, zone: RehearsedZone, role: VmRole) -> Iterator[SystemVm]:
        return (vm for vm in self.vms.values() if vm.zone is zone and vm.role is role)

    def _wanted(self, role: VmRole) -> int:
        if role is VmRole.SECONDARY_STORAGE:
            return self.settings.ssvms_per_zone
        return self.settings.cpvms_per_zone

    # --- the capacity scans ---------------------------------------------------------------------

    def scan(self) -> None:
        """One round of both scans over all zones.

        A CPVM in Starting or Stopping anywhere holds the CPVM scan, an SSVM in Stopping anywhere
        the SSVM scan; so a VM stuck there is never replaced. That is how the real ones are.
        """
        for role in VmRole:
            blockers = (
                (CloudState.STOPPING,)
                if role is VmRole.SECONDARY_STORAGE
                else (CloudState.STARTING, CloudState.STOPPING)
            )
            if any(vm.role is role and vm.state in blockers for vm in self.vms.values()):
                continue
            for zone in self.zones:
                if zone.is_enabled and any(h.zone is zone and h.takes_vms for h in self.hosts):
                    self._keep_capacity(zone, role)

    def _keep_capacity(self, zone: RehearsedZone, role: VmRole) -> None:
        there = list(self._of(zone, role))
        running = sum(1 for vm in there if vm.state in _COUNTS_AS_RUNNING)
        if running >= self._wanted(role):
            self.log.scanned(zone, role)
            return
        stopped = next((vm for vm in there if vm.state is CloudState.STOPPED and not vm.jobs), None)
        if stopped is not None:
            self.log.found_stopped(stopped)
            self.start_stopped(stopped)
        elif len(there) < self._wanted(role):
            vm = self.create_vm(zone, role)
            self.log.allocates(vm)
            self._start(vm)

    def start_stopped(self, vm: SystemVm) -> None:
        """Stopped to Starting, and Running once it has booted."""
        vm.state = CloudState.STARTING
        self._start(vm)

    def _start(self, vm: SystemVm) -> None:
        vm.body.power_on()
        self.timers.after(self.settings.pace.boot, lambda: self._has_started(vm))

    def _has_started(self, vm: SystemVm) -> None:
        if vm.state is CloudState.STARTING:
            vm.state = CloudState.RUNNING
            self.log.has_started(vm)

    # --- agents: what the management server sees of them (EO/agent/manager/AgentManagerImpl) -----

    def agent_connecting(self, vm: SystemVm) -> None:
        """The agent has sent its startup command."""
        vm.is_link_silent = False
        if vm.agent is None:
            vm.agent = self._new_agent_row(vm, world_now())
        vm.agent.status = AgentState.CONNECTING
        self.log.agent_connecting(vm, vm.agent)

    def agent_ready(self, vm: SystemVm) -> None:
        """The ready command is through."""
        if vm.agent is None:
            vm.agent = self._new_agent_row(vm, world_now())
        vm.agent.status = AgentState.UP
        self.log.agent_ready(vm, vm.agent)

    def agent_said_goodbye(self, vm: SystemVm) -> None:
        """A clean stop: Disconnected at once, and no alert."""
        if vm.agent is not None:
            self.log.agent_said_goodbye(vm, vm.agent)
        self._agent_lost(vm, AgentState.DISCONNECTED)

    def agent_link_closed(self, vm: SystemVm) -> None:
        """The link closed without a word: Alert at once."""
        if vm.agent is not None:
            self.log.agent_link_closed(vm, vm.agent)
        self._agent_lost(vm, AgentState.ALERT)

    def agent_went_silent(self, vm: SystemVm) -> None:
        """The link stays up and says nothing: Disconnected when the pings are overdue."""
        vm.is_link_silent = True

        def overdue() -> None:
            if vm.is_link_silent and vm.agent is not None:
                self.log.agent_overdue(vm, vm.agent)
            if vm.is_link_silent:
                self._agent_lost(vm, AgentState.DISCONNECTED)

        self.timers.after(self.settings.pace.ping_timeout, overdue)

    def agent_spoke_again(self, vm: SystemVm) -> None:
        """Pings come again over the old link: Up."""
        vm.is_link_silent = False
        if vm.agent is not None:
            vm.agent.status = AgentState.UP

    def forget_agent(self, vm: SystemVm) -> None:
        """Its host row is gone, as if it had never connected."""
        vm.is_link_silent = False
        vm.agent = None

    def _agent_lost(self, vm: SystemVm, status: AgentState) -> None:
        vm.is_link_silent = False
        if vm.agent is None:
            return
        vm.agent.status = status
        vm.agent.disconnected_at = world_now()

    # --- jobs -----------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Queue a job behind those of its VM; one VM does one thing at a time."""
        self.jobs[job.id] = job
        job.vm.jobs.append(job)
        if job.vm.jobs[0] is job:
            self._begin(job)

    def _begin(self, job: Job) -> None:
        refusal = job.begin()
        if refusal is not None:
            self.log.job_failed(job, refusal)
            self._end(job, JobState.FAILED, {"errorcode": 530, "errortext": refusal})
            return
        if job.duration is not None:
            self.timers.after(job.duration, lambda: self.finish(job))

    def finish(self, job: Job) -> None:
        """The job has succeeded."""
        if job.state is JobState.PENDING:
            self._end(job, JobState.SUCCEEDED, job.finish())

    def _end(self, job: Job, state: JobState, result: dict[str, object]) -> None:
        job.state = state
        job.result = result
        job.completed_at = world_now()
        job.vm.jobs.remove(job)
        if job.vm.jobs:
            self._begin(job.vm.jobs[0])

    # --- moving VMs -------------------------------------------------------------------------------

    def switch_off(self, vm: SystemVm) -> None:
        """Stopping is done: the VM is Stopped."""
        row = vm.agent
        before = None if row is None else row.status
        vm.body.power_off()
        vm.state = CloudState.STOPPED
        if row is not None and before is not None:
            if self.settings.release.forgets_agent_on_stop:
                if row.status is AgentState.UP:
                    self._agent_lost(vm, AgentState.DISCONNECTED)
            else:
                row.status = before

    def remove(self, vm: SystemVm) -> None:
        """Expunge: the row, the disk and the addresses go; the id is stale from now on."""
        vm.body.power_off()
        vm.body.discard()
        vm.state = CloudState.EXPUNGING
        self.vms.pop(vm.id, None)

    def reboot(self, vm: SystemVm) -> None:
        """The guest reboots; CloudStack goes on calling it Running."""
        if self.reboots_lie:
            return
        vm.body.power_off()
        vm.body.power_on()
