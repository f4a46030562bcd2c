"""What a row of the CloudStack API means: rows to `model` values. Pure.

The rows are those of SystemVmResponse, HostResponse, ZoneResponse and AsyncJobResponse
(api/src/main/java/org/apache/cloudstack/api/response/). A row that cannot be read raises
`RowUnreadableError`; whoever reads a list turns that into one line of `unreadable`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from stackward.model.identity import HostId, JobId, TargetId, TemplateId, ZoneId
from stackward.model.target import HypervisorHost, Target, Zone
from stackward.ports import JobReply, JobStatus
from stackward.transports.cloud_words import (
    RowUnreadableError,
    clean_text,
    needed_text,
    read_agent_state,
    read_cloud_state,
    read_host_up,
    read_hypervisor,
    read_moment,
    read_role,
    read_zone_enabled,
    way_in,
)
from stackward.transports.cloudstack_replies import Row, quoted

_DATE_FORMAT: Final = "%Y-%m-%dT%H:%M:%S%z"
_AGENT_STATE_SINCE: Final = (4, 13, 1)
_JOB_STATUS: Final = {
    "0": JobStatus.PENDING,
    "1": JobStatus.SUCCEEDED,
    "2": JobStatus.FAILED,
    "3": JobStatus.CANCELLED,
}


def read_target(row: Row, *, is_agent_told: bool) -> Target:
    """One row of listSystemVms. `is_agent_told` False: this server has no agent state to give."""
    cloud_state = read_cloud_state(needed_text(row.get("state"), "state"))
    hypervisor = read_hypervisor(clean_text(row.get("hypervisor"), "hypervisor"))
    private = clean_text(row.get("privateip"), "privateip")
    way = way_in(
        hypervisor, link_local=clean_text(row.get("linklocalip"), "linklocalip"), private=private
    )
    zone_id = needed_text(row.get("zoneid"), "zoneid")
    host_id = clean_text(row.get("hostid"), "hostid")
    template_id = clean_text(row.get("templateid"), "templateid")
    agent_word = clean_text(row.get("agentstate"), "agentstate")
    return Target(
        id=TargetId(needed_text(row.get("id"), "id")),
        name=needed_text(row.get("name"), "name"),
        role=read_role(needed_text(row.get("systemvmtype"), "systemvmtype")),
        zone_id=ZoneId(zone_id),
        zone_name=clean_text(row.get("zonename"), "zonename") or zone_id,
        cloud_state=cloud_state,
        agent_state=read_agent_state(agent_word, cloud_state, is_told=is_agent_told),
        hypervisor=hypervisor,
        host_id=HostId(host_id) if host_id else None,
        host_name=clean_text(row.get("hostname"), "hostname"),
        route=way.route,
        control_address=way.control_address,
        private_address=private,
        public_address=clean_text(row.get("publicip"), "publicip"),
        template_id=TemplateId(template_id) if template_id else None,
        agent_version=clean_text(row.get("version"), "version"),
        created_at=read_moment(clean_text(row.get("created"), "created"), _DATE_FORMAT),
        disconnected_at=read_moment(
            clean_text(row.get("disconnected"), "disconnected"), _DATE_FORMAT
        ),
        job_id=_pending_job(row),
    )


def _pending_job(row: Row) -> JobId | None:
    """The job pending on a VM: rows carry `jobid` only then; in doubt it is pending."""
    job_id = clean_text(row.get("jobid"), "jobid")
    status = clean_text(row.get("jobstatus"), "jobstatus")
    is_over = status is not None and _JOB_STATUS.get(status, JobStatus.PENDING) in (
        JobStatus.SUCCEEDED,
        JobStatus.FAILED,
        JobStatus.CANCELLED,
    )
    return JobId(job_id) if job_id and not is_over else None


def read_zone(row: Row) -> Zone:
    """One row of listZones."""
    zone_id = needed_text(row.get("id"), "id")
    return Zone(
        ZoneId(zone_id),
        clean_text(row.get("name"), "name") or zone_id,
        read_zone_enabled(clean_text(row.get("allocationstate"), "allocationstate")),
    )


def read_host(row: Row) -> HypervisorHost:
    """One row of listHosts of type Routing."""
    host_id = needed_text(row.get("id"), "id")
    status = clean_text(row.get("state"), "state")
    resource_state = clean_text(row.get("resourcestate"), "resourcestate")
    return HypervisorHost(
        id=HostId(host_id),
        name=clean_text(row.get("name"), "name") or host_id,
        zone_id=ZoneId(needed_text(row.get("zoneid"), "zoneid")),
        address=clean_text(row.get("ipaddress"), "ipaddress"),
        is_up=read_host_up(status, resource_state),
        detail=f"{status or 'state not told'}, {resource_state or 'resource state not told'}",
    )


def join_agents(rows: Iterable[Row], agents: Iterable[Row]) -> tuple[Row, ...]:
    """Rows of 4.11 and 4.12 as a newer server tells them: with the agent's own host row.

    The agent of a system VM has a host row of the same name in the same zone.
    """
    by_place = {(agent.get("name"), agent.get("zoneid")): agent for agent in agents}
    joined: list[Row] = []
    for row in rows:
        name, zone_id = row.get("name"), row.get("zoneid")
        is_named = isinstance(name, str) and isinstance(zone_id, str)  # else the row is unreadable
        agent = by_place.get((name, zone_id), {}) if is_named else {}
        told = {
            "agentstate": agent.get("state"),
            "disconnected": agent.get("disconnected"),
            "version": agent.get("version"),
        }
        joined.append({**row, **told})
    return tuple(joined)


def read_agent_row(row: Row) -> Row:
    """A host row of an agent, fit to be joined by name and zone."""
    return {
        "name": needed_text(row.get("name"), "name"),
        "zoneid": needed_text(row.get("zoneid"), "zoneid"),
        "state": needed_text(row.get("state"), "state"),
        "disconnected": clean_text(row.get("disconnected"), "disconnected"),
        "version": clean_text(row.get("version"), "version"),
    }


def read_job(row: Row) -> JobReply:
    """One async job, as queryAsyncJobResult and listAsyncJobs tell it."""
    status = _JOB_STATUS.get(needed_text(row.get("jobstatus"), "jobstatus"))
    if status is None:
        raise RowUnreadableError(f"jobstatus is {row.get('jobstatus')!r}")
    result = row.get("jobresult")
    words = (
        (result.get("errortext") or result.get("displaytext"))
        if isinstance(result, dict)
        else result
    )
    target_id = clean_text(row.get("jobinstanceid"), "jobinstanceid")
    return JobReply(
        job_id=JobId(needed_text(row.get("jobid"), "jobid")),
        status=status,
        command=clean_text(row.get("cmd"), "cmd") or "",
        target_id=TargetId(target_id) if target_id else None,
        created_at=read_moment(clean_text(row.get("created"), "created"), _DATE_FORMAT),
        detail=quoted(words) if isinstance(words, str) else "",
    )


def read_commands(rows: Iterable[object]) -> Mapping[str, frozenset[str]]:
    """listApis: command names with the names of their parameters.

    A row that cannot be read is left out: a command that is not there is not used.
    """
    commands: dict[str, frozenset[str]] = {}
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            continue
        params = row.get("params")
        commands[row["name"]] = frozenset(
            param["name"]
            for param in (params if isinstance(params, list) else ())
            if isinstance(param, dict) and isinstance(param.get("name"), str)
        )
    return commands


def version_key(version: str) -> tuple[int, ...]:
    """What versions sort by; empty where the text is no version."""
    parts = re.match(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", version)
    return tuple(int(part or 0) for part in parts.groups()) if parts else ()


def tells_agent_state(version: str | None) -> bool:
    """True from 4.13.1 on: there an absent `agentstate` means an absent agent."""
    return version_key(version or "") >= _AGENT_STATE_SINCE
