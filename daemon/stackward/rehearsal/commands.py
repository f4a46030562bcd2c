"""The API's commands: what each takes, and what it answers.

Answers are the object under the root key. A list without a match is `{}`; a page past the end is
the count alone. Unknown parameters are ignored, as the real server does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from stackward.rehearsal.job_commands import (
    destroy_system_vm,
    reboot_system_vm,
    start_system_vm,
    stop_system_vm,
)
from stackward.rehearsal.refusals import bad_parameter, no_such_entity
from stackward.rehearsal.rows import (
    Row,
    agent_host_row,
    host_row,
    job_row,
    template_row,
    vm_row,
    zone_row,
)
from stackward.rehearsal.world import World

Params = Mapping[str, str]
PAGE_SIZE_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command. `changes` is True when a call may change the cloud."""

    name: str
    run: Callable[[World, Params], Row]
    params: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    changes: bool = False
    since: str = ""


# --- lists ----------------------------------------------------------------------------------------


def _listed(key: str, rows: Sequence[Row], params: Params) -> Row:
    """Paging as in BaseListCmd: both or neither, at most the default page size."""
    if not rows:
        return {}
    page, size = params.get("page"), params.get("pagesize")
    if size == "-1":
        return {"count": len(rows), key: list(rows)}
    if (page is None) != (size is None):
        raise bad_parameter('"page" and "pagesize" parameters must be specified together')
    if page is None or size is None:
        return {"count": len(rows), key: list(rows[:PAGE_SIZE_MAX])}
    number, length = _number("page", page), _number("pagesize", size)
    if length > PAGE_SIZE_MAX:
        raise bad_parameter(f"Page size can not exceed max allowed value {PAGE_SIZE_MAX}")
    part = rows[(number - 1) * length : number * length]
    return {"count": len(rows), key: list(part)} if part else {"count": len(rows)}


def _number(name: str, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise no_such_entity(name, text) from None
    if number < 1:
        raise bad_parameter(f"{name} can't be less than 1")
    return number


def _matches(row: Row, params: Params, fields: Mapping[str, str]) -> bool:
    """True when each parameter given equals its field."""
    return all(
        str(row.get(field, "")).lower() == params[name].lower()
        for name, field in fields.items()
        if params.get(name)
    )


def _known_zone(world: World, params: Params) -> None:
    zone_id = params.get("zoneid")
    if zone_id and all(zone.id != zone_id for zone in world.zones):
        raise no_such_entity("zoneid", zone_id)


def list_system_vms(world: World, params: Params) -> Row:
    """In order of creation; a stale id is a refusal, a filter without a match `{}`."""
    _known_zone(world, params)
    vm_id = params.get("id")
    if vm_id and vm_id not in world.vms:
        raise no_such_entity("id", vm_id)
    fields = {
        "id": "id",
        "name": "name",
        "zoneid": "zoneid",
        "podid": "podid",
        "hostid": "hostid",
        "state": "state",
        "systemvmtype": "systemvmtype",
    }
    rows = [vm_row(world, vm) for vm in world.vms.values()]
    keyword = params.get("keyword", "")
    found = [row for row in rows if _matches(row, params, fields) and keyword in str(row["name"])]
    return _listed("systemvm", found, params)


def list_hosts(world: World, params: Params) -> Row:
    """Hypervisors and the agents of system VMs: without `type` both come."""
    _known_zone(world, params)
    rows = [host_row(world, host) for host in world.hosts]
    agents = (agent_host_row(world, vm) for vm in world.vms.values())
    rows += [row for row in agents if row is not None]
    host_id = params.get("id")
    if host_id and all(row["id"] != host_id for row in rows):
        raise no_such_entity("id", host_id)
    fields = {
        "id": "id",
        "name": "name",
        "type": "type",
        "zoneid": "zoneid",
        "state": "state",
        "resourcestate": "resourcestate",
    }
    return _listed("host", [row for row in rows if _matches(row, params, fields)], params)


def list_zones(world: World, params: Params) -> Row:
    """All zones, enabled or not."""
    zone_id = params.get("id")
    if zone_id and all(zone.id != zone_id for zone in world.zones):
        raise no_such_entity("id", zone_id)
    rows = [zone_row(zone) for zone in world.zones]
    fields = {"id": "id", "name": "name"}
    return _listed("zone", [row for row in rows if _matches(row, params, fields)], params)


def list_templates(world: World, params: Params) -> Row:
    """The SYSTEM template of each zone."""
    rows = [template_row(world, zone) for zone in world.zones]
    fields = {"id": "id", "zoneid": "zoneid", "templatetype": "templatetype"}
    return _listed("template", [row for row in rows if _matches(row, params, fields)], params)


def list_capabilities(world: World, _params: Params) -> Row:
    """The version, beside much that nobody here asks for."""
    return {
        "capability": {
            "securitygroupsenabled": False,
            "dynamicrolesenabled": True,
            "cloudstackversion": world.settings.release.name,
            "userpublictemplateenabled": True,
            "projectinviterequired": False,
            "allowusercreateprojects": True,
        }
    }


def list_configurations(world: World, params: Params) -> Row:
    """The few settings that a daemon may want to know."""
    pace = world.settings.pace
    values = {
        "host": "192.0.2.10",
        "ping.interval": "60",
        "ping.timeout": "2.5",
        "default.page.size": str(PAGE_SIZE_MAX),
        "encode.api.response": "false",
        "secstorage.capacityscan.interval": str(int(pace.scan * 1000)),
        "consoleproxy.capacityscan.interval": str(int(pace.scan * 1000)),
    }
    rows: list[Row] = [
        {"name": name, "value": value, "category": "Advanced", "scope": "global"}
        for name, value in values.items()
        if params.get("name", name) == name
    ]
    return _listed("configuration", rows, params)


def list_apis(world: World, params: Params) -> Row:
    """The commands that this user may call on this release."""
    rows: list[Row] = []
    for command in commands_of(world).values():
        if params.get("name", command.name).lower() != command.name.lower():
            continue
        row: Row = {
            "name": command.name,
            "description": command.name,
            "isasync": command.changes,
            "related": "",
            "params": [
                {"name": name, "type": "string", "required": name in command.required}
                for name in command.params
            ],
        }
        if command.since:
            row["since"] = command.since
        rows.append(row)
    if not rows:
        raise bad_parameter(f"API does not exist: {params.get('name', '')}")
    return {"count": len(rows), "api": rows}


# --- async jobs -----------------------------------------------------------------------------------


def query_async_job_result(world: World, params: Params) -> Row:
    """One job, flat under the root."""
    job = world.jobs.get(params["jobid"])
    if job is None:
        raise no_such_entity("jobid", params["jobid"])
    return job_row(world, job)


def list_async_jobs(world: World, params: Params) -> Row:
    """Every job since `startdate`, pending or not."""
    since = _start_date(params["startdate"]) if params.get("startdate") else None
    rows = [
        job_row(world, job)
        for job in world.jobs.values()
        if since is None or job.created_at.replace(microsecond=0) >= since
    ]
    return _listed("asyncjobs", rows, params)


def _start_date(text: str) -> datetime:
    """`yyyy-MM-dd`, with `HH:mm:ss` after a blank or a T, with or without an offset; else UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise bad_parameter(f"Unable to parse date {text} for command ListAsyncJobsCmd") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


# --- the table ------------------------------------------------------------------------------------

_LIST = ("keyword", "page", "pagesize")
_COMMANDS = (
    Command(
        name="listSystemVms",
        run=list_system_vms,
        params=("hostid", "id", "name", "podid", "state", "systemvmtype", "zoneid", *_LIST),
    ),
    Command(
        name="listHosts",
        run=list_hosts,
        params=("details", "id", "name", "resourcestate", "state", "type", "zoneid", *_LIST),
    ),
    Command(name="listZones", run=list_zones, params=("available", "id", "name", *_LIST)),
    Command(
        name="listTemplates",
        run=list_templates,
        params=("templatefilter", "id", "zoneid", "templatetype", *_LIST),
        required=("templatefilter",),
    ),
    Command(name="listCapabilities", run=list_capabilities),
    Command(
        name="listConfigurations",
        run=list_configurations,
        params=("category", "name", "zoneid", *_LIST),
    ),
    Command(name="listApis", run=list_apis, params=("name",)),
    Command(
        name="listAsyncJobs",
        run=list_async_jobs,
        params=("account", "domainid", "listall", "startdate", *_LIST),
    ),
    Command(
        name="queryAsyncJobResult",
        run=query_async_job_result,
        params=("jobid",),
        required=("jobid",),
    ),
    Command(
        name="rebootSystemVm",
        run=reboot_system_vm,
        params=("id",),
        required=("id",),
        changes=True,
    ),
    Command(
        name="startSystemVm", run=start_system_vm, params=("id",), required=("id",), changes=True
    ),
    Command(
        name="stopSystemVm",
        run=stop_system_vm,
        params=("forced", "id"),
        required=("id",),
        changes=True,
    ),
    Command(
        name="destroySystemVm",
        run=destroy_system_vm,
        params=("id",),
        required=("id",),
        changes=True,
    ),
)


def commands_of(world: World) -> dict[str, Command]:
    """The commands that this release has, by lower-case name."""
    found = {command.name.lower(): command for command in _COMMANDS}
    if world.settings.release.has_forced_reboot:
        found["rebootsystemvm"] = Command(
            name="rebootSystemVm",
            run=reboot_system_vm,
            params=("forced", "id"),
            required=("id",),
            changes=True,
        )
    return found
