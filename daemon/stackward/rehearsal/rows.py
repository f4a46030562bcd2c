"""The world as the API shows it: one JSON object per thing, null fields left out.

Field names and their first releases: API/response/SystemVmResponse.java, HostResponse.java,
ZoneResponse.java, AsyncJobResponse.java.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from stackward.model.identity import VmRole
from stackward.rehearsal.inventory import Job, JobState, RehearsedHost, RehearsedZone, SystemVm
from stackward.rehearsal.settings import Release
from stackward.rehearsal.world import World

Row = dict[str, object]


def api_date(moment: datetime) -> str:
    """2021-04-29T19:00:02+0000."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")


def without_nulls(row: Mapping[str, object]) -> Row:
    """Null fields are left out of every answer."""
    return {name: value for name, value in row.items() if value is not None}


def vm_row(world: World, vm: SystemVm) -> Row:
    """One entry of listSystemVms."""
    release = world.settings.release
    is_vmware = world.settings.hypervisor.lower() == "vmware"
    row: Row = {
        "id": vm.id,
        "name": vm.name,
        "systemvmtype": system_vm_type(vm),
        "zoneid": vm.zone.id,
        "zonename": vm.zone.name,
        "dns1": "192.0.2.53",
        "gateway": "192.0.2.1",
        "podid": vm.zone.pod_id,
        "hostid": vm.host.id,
        "hostname": vm.host.name,
        "hypervisor": world.settings.hypervisor,
        "privateip": vm.private,
        "linklocalip": None if is_vmware else vm.link_local,
        "publicip": vm.public,
        "templateid": vm.template_id,
        "created": api_date(vm.created_at),
        "state": vm.state.value,
        "activeviewersessions": 0 if vm.role is VmRole.CONSOLE_PROXY else None,
    }
    if vm.state.value in ("Stopped", "Destroyed"):
        row["hostid"] = row["hostname"] = row["linklocalip"] = None
    if release.tells_agent_state and vm.agent is not None:
        lost = vm.agent.disconnected_at
        row["agentstate"] = vm.agent.status.value
        row["version"] = vm.agent.version
        row["disconnected"] = None if lost is None else api_date(lost)
    if release.is_since(4, 18):
        enabled = vm.host.resource_state == "Enabled"
        row["hostcontrolstate"] = "Enabled" if enabled else vm.host.resource_state
    if vm.jobs:
        row["jobid"] = vm.jobs[0].id
        row["jobstatus"] = int(vm.jobs[0].state)
    return without_nulls(row)


def system_vm_type(vm: SystemVm) -> str:
    """The word of `systemvmtype`."""
    return "secondarystoragevm" if vm.role is VmRole.SECONDARY_STORAGE else "consoleproxy"


def agent_type(vm: SystemVm) -> str:
    """The word of a host row's `type`."""
    return "SecondaryStorageVM" if vm.role is VmRole.SECONDARY_STORAGE else "ConsoleProxy"


def host_row(world: World, host: RehearsedHost) -> Row:
    """One hypervisor of listHosts. `lastpinged` is as useless as in reality."""
    return {
        "id": host.id,
        "name": host.name,
        "state": host.status,
        "type": "Routing",
        "zoneid": host.zone.id,
        "zonename": host.zone.name,
        "podid": host.zone.pod_id,
        "ipaddress": host.address,
        "hypervisor": world.settings.hypervisor,
        "version": world.settings.release.name,
        "resourcestate": host.resource_state,
        "lastpinged": "1970-01-20T18:24:06+0000",
        "created": api_date(host.created_at),
        **_management(world.settings.release, world),
    }


def agent_host_row(world: World, vm: SystemVm) -> Row | None:
    """The agent of a system VM as listHosts shows it; None if it never connected."""
    if vm.agent is None:
        return None
    lost = vm.agent.disconnected_at
    return without_nulls(
        {
            "id": vm.agent.id,
            "name": vm.name,
            "state": vm.agent.status.value,
            "type": agent_type(vm),
            "zoneid": vm.zone.id,
            "zonename": vm.zone.name,
            "podid": vm.zone.pod_id,
            "ipaddress": vm.private,
            "version": vm.agent.version,
            "resourcestate": "Enabled",
            "disconnected": None if lost is None else api_date(lost),
            "lastpinged": "1970-01-20T18:24:06+0000",
            "created": api_date(vm.agent.created_at),
            **_management(world.settings.release, world),
        }
    )


def _management(release: Release, world: World) -> Row:
    return {"managementserverid": world.management_id if release.is_since(4, 15) else 7700112233}


def zone_row(zone: RehearsedZone) -> Row:
    """One entry of listZones."""
    return {
        "id": zone.id,
        "name": zone.name,
        "allocationstate": "Enabled" if zone.is_enabled else "Disabled",
        "networktype": "Advanced",
        "securitygroupsenabled": False,
        "localstorageenabled": True,
        "dns1": "192.0.2.53",
        "internaldns1": "192.0.2.53",
    }


def template_row(world: World, zone: RehearsedZone) -> Row:
    """One entry of listTemplates."""
    return {
        "id": zone.template_id,
        "name": f"SystemVM Template ({world.settings.hypervisor})",
        "templatetype": "SYSTEM",
        "isready": True,
        "status": "Download Complete",
        "hypervisor": world.settings.hypervisor,
        "zoneid": zone.id,
        "zonename": zone.name,
        "created": "2024-01-01T00:00:00+0000",
    }


def job_row(world: World, job: Job) -> Row:
    """One job, flat."""
    row: Row = {
        "accountid": world.account_id,
        "userid": world.user_id,
        "cmd": job.command,
        "created": api_date(job.created_at),
        "jobid": job.id,
        "jobstatus": int(job.state),
        "jobprocstatus": 0,
        "jobresultcode": 530 if job.state is JobState.FAILED else 0,
        "jobinstancetype": "SystemVm",
        "jobinstanceid": job.vm.id,
        "completed": None if job.completed_at is None else api_date(job.completed_at),
    }
    if job.result is not None:
        row["jobresulttype"] = "object"
        row["jobresult"] = job.result
    return without_nulls(row)
