"""What is asked of CloudStack's database, and what its rows mean. Pure: SQL and readers.

The columns are those of 4.11 to 4.23. DATETIME columns are in UTC; a row that is not removed has
`removed IS NULL`. Values come as the bytes that the server sent. Connecting is in database.py.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, TypeVar

from stackward.model.identity import HostId, JobId, TargetId, TemplateId, ZoneId
from stackward.model.target import AgentState, HypervisorHost, Target, Witness, Zone
from stackward.transports.cloud_words import (
    RowUnreadableError,
    clean_text,
    read_agent_state,
    read_cloud_state,
    read_host_up,
    read_hypervisor,
    read_moment,
    read_role,
    read_zone_enabled,
    way_in,
)

Record = tuple[bytes | None, ...]
T = TypeVar("T")

_DATE_FORMAT: Final = "%Y-%m-%d %H:%M:%S"

# The agent of a system VM is a host row of the same name in the same zone; the newest counts.
_AGENT: Final = """
LEFT JOIN (
    SELECT MAX(id) AS id, name, data_center_id, type FROM host
    WHERE removed IS NULL AND type IN ('SecondaryStorageVM', 'ConsoleProxy')
    GROUP BY name, data_center_id, type) newest
  ON newest.name = v.name AND newest.data_center_id = v.data_center_id
 AND newest.type = IF(v.type = 'SecondaryStorageVm', 'SecondaryStorageVM', 'ConsoleProxy')
LEFT JOIN host a ON a.id = newest.id
"""
_SYSTEM_VMS: Final = """
WHERE v.type IN ('SecondaryStorageVm', 'ConsoleProxy') AND v.removed IS NULL
  AND dc.removed IS NULL
ORDER BY v.id LIMIT %s
"""
TARGETS_SQL: Final = f"""
SELECT v.id, v.uuid, v.name, v.type, v.state, v.hypervisor_type, v.private_ip_address, v.created,
       dc.uuid, dc.name, h.uuid, h.name, t.uuid, a.status, a.version, a.disconnected,
       COALESCE(ss.public_ip_address, cp.public_ip_address),
       (SELECT MAX(n.ip4_address) FROM nics n
        WHERE n.instance_id = v.id AND n.reserver_name = 'ControlNetworkGuru'
          AND n.removed IS NULL)
FROM vm_instance v JOIN data_center dc ON dc.id = v.data_center_id
LEFT JOIN host h ON h.id = v.host_id
LEFT JOIN vm_template t ON t.id = v.vm_template_id
LEFT JOIN secondary_storage_vm ss ON ss.id = v.id
LEFT JOIN console_proxy cp ON cp.id = v.id
{_AGENT}{_SYSTEM_VMS}"""
AGENTS_SQL: Final = f"""
SELECT v.uuid, v.state, a.status
FROM vm_instance v JOIN data_center dc ON dc.id = v.data_center_id
{_AGENT}{_SYSTEM_VMS}"""
ZONES_SQL: Final = """
SELECT uuid, name, allocation_state FROM data_center WHERE removed IS NULL ORDER BY id LIMIT %s
"""
HOSTS_SQL: Final = """
SELECT h.uuid, h.name, dc.uuid, h.private_ip_address, h.status, h.resource_state
FROM host h JOIN data_center dc ON dc.id = h.data_center_id
WHERE h.type = 'Routing' AND h.removed IS NULL AND dc.removed IS NULL ORDER BY h.id LIMIT %s
"""
# Work under way on a VM: asked for over the API, or by CloudStack's own scans and HA.
JOBS_SQL: Final = """
SELECT COALESCE(w.vm_instance_id, j.instance_id), j.uuid
FROM async_job j LEFT JOIN vm_work_job w ON w.id = j.id
WHERE j.job_status = 0 AND j.removed IS NULL
  AND (j.instance_type = 'SystemVm' OR w.vm_instance_id IS NOT NULL)
ORDER BY j.id LIMIT %s
"""


def read_each(
    table: str, rows: tuple[Record, ...], read: Callable[[Record], T], holes: list[str]
) -> tuple[T, ...]:
    """Every row that can be read; in `holes` a line on each that cannot."""
    values: list[T] = []
    for index, row in enumerate(rows):
        try:
            values.append(read(row))
        except Exception as trouble:  # containment wall: one row of a listing
            first_words = b" ".join(value[:40] for value in row[:3] if value)
            title = first_words.decode("utf-8", "replace") or f"row {index}"
            holes.append(f"{table}: {title}: {trouble}")
    return tuple(values)


def _text(value: bytes | None, name: str) -> str | None:
    return clean_text(value.decode("utf-8", "replace") if value is not None else None, name)


def _needed(value: bytes | None, name: str) -> str:
    text = _text(value, name)
    if text is None:
        raise RowUnreadableError(f"{name} is missing")
    return text


def _moment(value: bytes | None, name: str) -> datetime | None:
    """A DATETIME, with or without a fraction; `0000-00-00` is none."""
    return read_moment((_text(value, name) or "")[:19], _DATE_FORMAT)


def read_zone(row: Record) -> Zone:
    """One row of `ZONES_SQL`."""
    zone_id, name, allocation = row
    return Zone(
        ZoneId(_needed(zone_id, "uuid")),
        _needed(name, "name"),
        read_zone_enabled(_text(allocation, "allocation_state")),
    )


def read_host(row: Record) -> HypervisorHost:
    """One row of `HOSTS_SQL`."""
    host_id, name, zone_id, address, status, resource_state = row
    status_word = _text(status, "status")
    resource_word = _text(resource_state, "resource_state")
    return HypervisorHost(
        id=HostId(_needed(host_id, "uuid")),
        name=_needed(name, "name"),
        zone_id=ZoneId(_needed(zone_id, "zone")),
        address=_text(address, "private_ip_address"),
        is_up=read_host_up(status_word, resource_word),
        detail=f"{status_word or 'status not told'}, {resource_word or 'resource state not told'}",
    )


def read_job(row: Record) -> tuple[str, JobId]:
    """One row of `JOBS_SQL`: the id of the VM's row, and the job that is busy with it."""
    vm_row_id, job_id = row
    return _needed(vm_row_id, "instance_id"), JobId(_needed(job_id, "uuid"))


def read_agent(row: Record) -> tuple[TargetId, AgentState]:
    """One row of `AGENTS_SQL`."""
    target_id, state, agent_word = row
    cloud_state = read_cloud_state(_needed(state, "state"))
    agent_state = read_agent_state(_text(agent_word, "agent status"), cloud_state, is_told=True)
    return TargetId(_needed(target_id, "uuid")), agent_state


def read_target(row: Record, jobs: Mapping[str, JobId]) -> Target:
    """One row of `TARGETS_SQL`, with the job that is busy with the VM."""
    (
        row_id, target_id, name, kind, state, hypervisor_type, private_ip, created,
        zone_id, zone_name, host_id, host_name, template_id, agent_word, version, disconnected,
        public_ip, control_ip,
    ) = row  # fmt: skip
    cloud_state = read_cloud_state(_needed(state, "state"))
    hypervisor = read_hypervisor(_text(hypervisor_type, "hypervisor_type"))
    private = _text(private_ip, "private_ip_address")
    way = way_in(hypervisor, link_local=_text(control_ip, "control address"), private=private)
    host = _text(host_id, "host")
    template = _text(template_id, "template")
    return Target(
        id=TargetId(_needed(target_id, "uuid")),
        name=_needed(name, "name"),
        role=read_role(_needed(kind, "type")),
        zone_id=ZoneId(_needed(zone_id, "zone")),
        zone_name=_needed(zone_name, "zone name"),
        cloud_state=cloud_state,
        agent_state=read_agent_state(_text(agent_word, "agent status"), cloud_state, is_told=True),
        hypervisor=hypervisor,
        host_id=HostId(host) if host else None,
        host_name=_text(host_name, "host name"),
        route=way.route,
        control_address=way.control_address,
        private_address=private,
        public_address=_text(public_ip, "public_ip_address"),
        template_id=TemplateId(template) if template else None,
        agent_version=_text(version, "version"),
        created_at=_moment(created, "created"),
        disconnected_at=_moment(disconnected, "disconnected"),
        job_id=jobs.get(_needed(row_id, "id")),
        witness=Witness.DATABASE,
    )
