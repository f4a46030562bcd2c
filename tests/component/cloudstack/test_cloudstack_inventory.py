"""What the rows of the API mean: VMs, zones, hosts, of every version and in every state."""

from datetime import UTC, datetime

import pytest

from stackward.errors import Garbled, Refused
from stackward.model.identity import HostId, Hypervisor, JobId, TargetId, VmRole, ZoneId
from stackward.model.target import (
    AgentState,
    Capabilities,
    CloudState,
    Inventory,
    SshRoute,
    Target,
    Witness,
)
from stackward.ports import Look
from tests.component.cloudstack.raw_server import Heard, RawServer, client_of, refusal, scripted

Row = dict[str, object]

VM: Row = {
    "id": "vm-1",
    "name": "s-1-VM",
    "systemvmtype": "secondarystoragevm",
    "zoneid": "zone-1",
    "zonename": "north",
    "hostid": "host-1",
    "hostname": "kvm1",
    "hypervisor": "KVM",
    "privateip": "10.0.0.5",
    "linklocalip": "169.254.3.9",
    "publicip": "192.0.2.7",
    "templateid": "template-1",
    "created": "2021-04-29T19:00:02+0000",
    "state": "Running",
    "agentstate": "Up",
    "version": "4.22.0.0",
    "disconnected": "2021-05-01T03:00:00+0200",
}
ZONE: Row = {"id": "zone-1", "name": "north", "allocationstate": "Enabled"}
HOST: Row = {
    "id": "host-1",
    "name": "kvm1",
    "type": "Routing",
    "zoneid": "zone-1",
    "ipaddress": "192.0.2.11",
    "state": "Up",
    "resourcestate": "Enabled",
}
AGENT: Row = {
    "id": "host-9",
    "name": "s-1-VM",
    "type": "SecondaryStorageVM",
    "zoneid": "zone-1",
    "state": "Disconnected",
    "version": "4.11.1.0",
    "disconnected": "2021-05-01T01:00:00+0000",
}


def without(row: Row, *names: str) -> Row:
    return {name: value for name, value in row.items() if name not in names}


def vm(**changes: object) -> Row:
    return without({**VM, **changes}, *(name for name, value in changes.items() if value is None))


def rows(array: str, *found: object) -> Row:
    return {"count": len(found), array: list(found)} if found else {}


class Cloud:
    """Answers as a management server of one version with these rows."""

    def __init__(
        self,
        *vms: Row,
        zones: tuple[Row, ...] = (ZONE,),
        hosts: tuple[Row, ...] = (HOST,),
        agents: tuple[Row, ...] = (),
        version: str | None = None,
    ) -> None:
        self.vms, self.zones, self.hosts, self.agents = vms, zones, hosts, agents
        self.replies: dict[str, object] = {
            "listSystemVms": lambda heard: self._one(heard, "systemvm", self.vms),
            "listZones": lambda heard: self._one(heard, "zone", self.zones),
            "listHosts": self._hosts,
            "listApis": {"count": 1, "api": [{"name": "listHosts", "params": [{"name": "type"}]}]},
            "listCapabilities": {"capability": {"cloudstackversion": version} if version else {}},
        }

    def _one(self, heard: Heard, array: str, found: tuple[Row, ...]) -> object:
        wanted = heard.params.get("id")
        if wanted is None:
            return rows(array, *found)
        matching = [row for row in found if row.get("id") == wanted]
        return rows(array, *matching) if matching else refusal(heard, 431, "entity does not exist")

    def _hosts(self, heard: Heard) -> object:
        kind = heard.params.get("type")
        if kind is None:
            return self._one(heard, "host", self.hosts)
        found = [row for row in (*self.hosts, *self.agents) if row.get("type") == kind]
        return rows("host", *found)


async def inventory_of(cloud: Cloud, *, ask_capabilities: bool = False) -> Inventory:
    async with RawServer(scripted(cloud.replies)) as server, client_of(server) as client:
        if ask_capabilities:
            await client.capabilities()
        return await client.inventory()


async def target_of(row: Row) -> Target:
    inventory = await inventory_of(Cloud(row))
    assert inventory.unreadable == ()
    return inventory.targets[0]


async def test_a_row_tells_all_about_a_vm():
    target = await target_of(VM)
    assert target.id == TargetId("vm-1")
    assert target.name == "s-1-VM"
    assert target.role is VmRole.SECONDARY_STORAGE
    assert (target.zone_id, target.zone_name) == ("zone-1", "north")
    assert target.cloud_state is CloudState.RUNNING
    assert target.agent_state is AgentState.UP
    assert target.hypervisor is Hypervisor.KVM
    assert (target.host_id, target.host_name) == ("host-1", "kvm1")
    assert (target.route, target.control_address) == (SshRoute.JUMP, "169.254.3.9")
    assert (target.private_address, target.public_address) == ("10.0.0.5", "192.0.2.7")
    assert target.template_id == "template-1"
    assert target.agent_version == "4.22.0.0"
    assert target.created_at == datetime(2021, 4, 29, 19, 0, 2, tzinfo=UTC)
    assert target.disconnected_at == datetime(2021, 5, 1, 1, tzinfo=UTC)
    assert target.job_id is None
    assert target.witness is Witness.API


async def test_zones_and_hosts_come_with_their_state():
    inventory = await inventory_of(Cloud(VM))
    (zone,) = inventory.zones
    assert (zone.id, zone.name, zone.is_enabled) == ("zone-1", "north", True)
    (host,) = inventory.hosts
    assert (host.id, host.name, host.zone_id) == ("host-1", "kvm1", "zone-1")
    assert (host.address, host.is_up, host.detail) == ("192.0.2.11", True, "Up, Enabled")


@pytest.mark.parametrize(
    ("changes", "is_up"),
    [
        ({}, True),
        ({"state": "Down"}, False),
        ({"resourcestate": "Maintenance"}, False),
        ({"state": "Alert", "resourcestate": "Disabled"}, False),
        ({"state": None}, None),
        ({"resourcestate": None}, None),
    ],
)
async def test_a_host_is_up_only_when_it_is_up_and_enabled(changes, is_up):
    host = without({**HOST, **changes}, *(name for name in changes if changes[name] is None))
    inventory = await inventory_of(Cloud(hosts=(host,)))
    assert inventory.hosts[0].is_up is is_up


@pytest.mark.parametrize(
    ("word", "is_enabled"), [("Enabled", True), ("Disabled", False), ("Odd", None), (None, None)]
)
async def test_a_zone_is_enabled_only_when_it_says_so(word, is_enabled):
    zone = {**ZONE, "allocationstate": word} if word else without(ZONE, "allocationstate")
    inventory = await inventory_of(Cloud(zones=(zone,)))
    assert inventory.zones[0].is_enabled is is_enabled


@pytest.mark.parametrize(
    ("word", "route", "address"),
    [
        ("KVM", SshRoute.JUMP, "169.254.3.9"),
        ("kvm", SshRoute.JUMP, "169.254.3.9"),
        ("XenServer", SshRoute.JUMP, "169.254.3.9"),
        ("LXC", SshRoute.JUMP, "169.254.3.9"),
        ("Ovm3", SshRoute.JUMP, "169.254.3.9"),
        ("VMware", SshRoute.DIRECT, "10.0.0.5"),
        ("Hyperv", SshRoute.DIRECT, "10.0.0.5"),
        ("Hyper-V", SshRoute.DIRECT, "10.0.0.5"),
        ("Simulator", SshRoute.NONE, None),
        ("Our own brand", SshRoute.NONE, None),
    ],
)
async def test_the_way_in_follows_the_hypervisor(word, route, address):
    target = await target_of(vm(hypervisor=word))
    assert (target.route, target.control_address) == (route, address)


@pytest.mark.parametrize(("word", "gone"), [("KVM", "linklocalip"), ("VMware", "privateip")])
async def test_without_an_address_there_is_no_way_in(word, gone):
    target = await target_of(vm(hypervisor=word, **{gone: None}))
    assert (target.route, target.control_address) == (SshRoute.NONE, None)


@pytest.mark.parametrize(
    ("state", "agent", "expected"),
    [
        ("Running", "Up", AgentState.UP),
        ("Migrating", "Up", AgentState.UP),
        ("Running", "Alert", AgentState.ALERT),
        ("Running", "NewWord", AgentState.UNRECOGNISED),
        ("Running", "absent", AgentState.UNRECOGNISED),  # our word, not one of CloudStack's
        ("Stopped", "Up", AgentState.NOT_TOLD),  # before 4.15.1 it stays Up
        ("Starting", "Up", AgentState.NOT_TOLD),
        ("Stopped", "Disconnected", AgentState.DISCONNECTED),
    ],
)
async def test_an_agent_can_be_up_only_while_its_vm_runs(state, agent, expected):
    assert (await target_of(vm(state=state, agentstate=agent))).agent_state is expected


async def test_a_state_of_a_newer_version_parses():
    assert (await target_of(vm(state="BackingUp"))).cloud_state is CloudState.UNRECOGNISED


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"jobid": "job-1", "jobstatus": 0}, "job-1"),
        ({"jobid": "job-1"}, "job-1"),
        ({"jobid": "job-1", "jobstatus": "later"}, "job-1"),
        ({"jobid": "job-1", "jobstatus": 1}, None),
        ({"jobstatus": 0}, None),
    ],
)
async def test_a_pending_job_shows_on_the_vm(fields, expected):
    assert (await target_of(vm(**fields))).job_id == (JobId(expected) if expected else None)


@pytest.mark.parametrize(
    "broken",
    [
        vm(id=None, name="bad"),
        vm(id="vm-3", name="bad", zoneid=None),
        vm(id="vm-3", name="bad", state=None),
        vm(id="vm-3", name="bad", state=["Running"]),
        vm(id="vm-3", name="bad", systemvmtype="domainrouter"),
        vm(id="vm-3", name="bad", hostid={"id": "x"}),
        vm(id="vm-3", name="bad", jobid=[1]),
        vm(id="vm-3", name="bad", agentstate=True),
        vm(id="vm-3", name="bad", publicip="9" * 5000),
    ],
)
async def test_a_vm_that_cannot_be_read_is_named_and_loses_no_other(broken):
    inventory = await inventory_of(Cloud(vm(id="vm-2", name="v-2-VM"), broken, VM))
    assert {target.name for target in inventory.targets} >= {"v-2-VM", "s-1-VM"}
    (hole,) = inventory.unreadable
    assert "bad" in hole


async def test_numbers_as_ids_and_broken_dates_are_borne():
    target = await target_of(vm(zoneid=7, created="yesterday", disconnected=12))
    assert target.zone_id == "7"
    assert target.created_at is None
    assert target.disconnected_at is None


@pytest.mark.parametrize("created", ["9999-12-31T23:59:59+0000", "0001-01-01T00:00:00+0000"])
async def test_a_moment_at_the_end_of_the_calendar_is_not_told(created):
    assert (await target_of(vm(created=created))).created_at is None


# --- agents by version ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["4.13.1.0", "4.15.0.0", "4.22.0.0-SNAPSHOT", "5.0.0.0"])
async def test_from_4_13_1_on_no_agent_state_means_no_agent(version):
    cloud = Cloud(vm(agentstate=None), version=version)
    inventory = await inventory_of(cloud, ask_capabilities=True)
    assert inventory.targets[0].agent_state is AgentState.ABSENT


@pytest.mark.parametrize("version", ["4.11.1.0", "4.12.0.0", "4.13.0.0", None])
@pytest.mark.parametrize(("agents", "expected"), [((AGENT,), "Disconnected"), ((), "absent")])
async def test_before_4_13_1_the_agents_own_host_rows_are_joined(version, agents, expected):
    old = vm(agentstate=None, version=None, disconnected=None)
    cloud = Cloud(old, agents=agents, version=version)
    inventory = await inventory_of(cloud, ask_capabilities=True)
    (target,) = inventory.targets
    assert target.agent_state.value == expected
    if agents:
        assert target.agent_version == "4.11.1.0"
        assert target.disconnected_at == datetime(2021, 5, 1, 1, tzinfo=UTC)


async def test_an_agent_of_the_same_name_in_another_zone_is_another_agent():
    cloud = Cloud(vm(agentstate=None), agents=({**AGENT, "zoneid": "zone-2"},))
    assert (await inventory_of(cloud)).targets[0].agent_state is AgentState.ABSENT


async def test_where_the_agents_may_not_be_asked_for_their_state_is_not_told():
    cloud = Cloud(vm(agentstate=None), version="4.11.1.0")

    def hosts(heard):
        if heard.params["type"] == "Routing":
            return rows("host", HOST)
        return refusal(heard, 432, "not for you")

    cloud.replies["listHosts"] = hosts
    assert (await inventory_of(cloud)).targets[0].agent_state is AgentState.NOT_TOLD


async def test_one_row_with_an_agent_state_tells_that_the_server_knows_them():
    inventory = await inventory_of(Cloud(VM, vm(id="vm-2", name="v-2-VM", agentstate=None)))
    assert [target.agent_state for target in inventory.targets] == [
        AgentState.UP,
        AgentState.ABSENT,
    ]


@pytest.mark.parametrize("name", [["s-1-VM"], {"name": "s-1-VM"}])
async def test_before_4_13_1_a_vm_whose_name_cannot_be_read_is_a_hole(name):
    old = (vm(agentstate=None), vm(id="vm-2", name=name, agentstate=None))
    inventory = await inventory_of(Cloud(*old, agents=(AGENT,), version="4.11.1.0"))
    assert [target.name for target in inventory.targets] == ["s-1-VM"]
    assert len(inventory.unreadable) == 1


async def test_an_agent_row_that_cannot_be_read_is_a_hole():
    broken = {**AGENT, "state": ["Up"]}
    inventory = await inventory_of(Cloud(vm(agentstate=None), agents=(broken,)))
    assert len(inventory.unreadable) == 1


# --- one VM --------------------------------------------------------------------------------------


async def look(cloud: Cloud, target_id: str = "vm-1") -> Look:
    async with RawServer(scripted(cloud.replies)) as server, client_of(server) as client:
        return await client.look(TargetId(target_id))


async def test_a_look_tells_the_vm_its_zone_and_its_host():
    seen = await look(Cloud(vm(id="vm-0", name="v-0-VM"), VM))
    assert seen.target is not None
    assert seen.target.name == "s-1-VM"
    assert seen.zone is not None
    assert seen.zone.id == ZoneId("zone-1")
    assert seen.host is not None
    assert seen.host.id == HostId("host-1")


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"count": 0},
        lambda heard: refusal(
            heard,
            431,
            "Invalid parameter id value=x due to incorrect long value format, or entity does "
            "not exist",
        ),
    ],
)
async def test_a_vm_that_is_gone_is_seen_nowhere(reply):
    cloud = Cloud()
    cloud.replies["listSystemVms"] = reply
    assert await look(cloud) == Look(target=None, zone=None, host=None)


async def test_a_vm_without_a_host_is_seen_without_one():
    seen = await look(Cloud(vm(hostid=None, hostname=None, state="Stopped")))
    assert seen.target is not None
    assert seen.host is None


async def test_a_host_or_zone_that_is_gone_is_not_told():
    seen = await look(Cloud(VM, zones=(), hosts=()))
    assert seen.target is not None
    assert (seen.zone, seen.host) == (None, None)


async def test_a_look_at_4_11_joins_the_agent_too():
    seen = await look(Cloud(vm(agentstate=None), agents=(AGENT,)))
    assert seen.target is not None
    assert seen.target.agent_state is AgentState.DISCONNECTED


@pytest.mark.parametrize(
    "row", [vm(state=None), vm(zoneid=[1]), vm(hostid={"a": 1}), {**VM, "systemvmtype": "router"}]
)
async def test_a_vm_that_cannot_be_read_is_not_looked_at_but_garbled(row):
    with pytest.raises(Garbled):
        await look(Cloud(row))


async def test_another_vm_than_the_one_asked_for_is_garbled():
    cloud = Cloud()
    cloud.replies["listSystemVms"] = rows("systemvm", vm(id="vm-2"))
    with pytest.raises(Garbled):
        await look(cloud)


async def test_a_parameter_error_is_no_missing_vm():
    cloud = Cloud()
    cloud.replies["listSystemVms"] = lambda heard: refusal(heard, 431, "missing parameter")
    with pytest.raises(Refused):
        await look(cloud)


# --- capabilities --------------------------------------------------------------------------------


async def capabilities_of(replies: Row) -> Capabilities:
    async with RawServer(scripted(replies)) as server, client_of(server) as client:
        return await client.capabilities()


async def test_commands_come_with_their_parameters_and_rows_that_cannot_be_read_stay_out():
    api = [
        {"name": "rebootSystemVm", "params": [{"name": "id"}, {"name": "forced"}, 3, {}]},
        {"name": "listZones"},
        {"name": ["odd"]},
        "odd",
    ]
    told = await capabilities_of({"listApis": {"count": 4, "api": api}})
    assert told.commands == {
        "rebootSystemVm": frozenset({"id", "forced"}),
        "listZones": frozenset(),
    }


@pytest.mark.parametrize(
    ("capabilities", "servers", "version"),
    [
        ({"capability": {"cloudstackversion": "4.22.0.0"}}, {}, "4.22.0.0"),
        ({"capability": {}}, {}, None),
        ({}, {}, None),
        ({"capability": {"cloudstackversion": 4}}, {}, None),
        (lambda heard: refusal(heard, 432, "not for you"), {}, None),
        (
            {"capability": {}},
            rows("managementserver", {"version": "4.19.1.0"}, {"version": "4.9.0.0"}, {}, 7),
            "4.9.0.0",
        ),
    ],
)
async def test_a_version_that_is_not_told_is_legal(capabilities, servers, version):
    told = await capabilities_of(
        {
            "listApis": {"count": 1, "api": [{"name": "listManagementServers"}]},
            "listCapabilities": capabilities,
            "listManagementServers": servers,
        }
    )
    assert told.version == version
