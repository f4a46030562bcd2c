"""The whole daemon with CloudStack's database beside the API: what each says when one is gone."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from stackward.model.identity import VmRole
from stackward.rehearsal.inventory import RehearsedHost, RehearsedZone, SystemVm
from stackward.rehearsal.server import Rehearsal
from stackward.rehearsal.settings import QUICK, GuestKind, RehearsalSettings
from tests.integration.lab.daemon import DaemonProcess, restart_rule
from tests.integration.lab.fleet import HASTE, LiveCloud, merged
from tests.integration.lab.mariadb import PASSWORD, TABLES, USER, MariaDb, programs_or_skip

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("daemon-with-database"),
]

VMS = 2
HELD = [("AgentDown", "restart-agent", "fleet-cause")]
STEP_KINDS = ("intent", "begun", "accepted", "outcome", "would-have")
INTERVAL = 1.0
HURRY: dict[str, Any] = {
    "ssh": {"poll_interval_seconds": INTERVAL},
    "facts": {"unit_interval_seconds": INTERVAL},
    "thresholds": {"stale_after_seconds": 8.0},
}
# A role's words in vm_instance and in host, and its own table.
KINDS = {
    VmRole.SECONDARY_STORAGE: ("SecondaryStorageVm", "SecondaryStorageVM", "secondary_storage_vm"),
    VmRole.CONSOLE_PROXY: ("ConsoleProxy", "ConsoleProxy", "console_proxy"),
}


def rows_of(cloud: Rehearsal) -> str:
    """The rehearsed cloud as rows of CloudStack's tables, and nothing else in them."""
    world = cloud.world
    return "".join(
        [
            *(f"DELETE FROM {table};" for table in TABLES),
            *(_zone_rows(zone) for zone in world.zones),
            *(_host_row(host, number) for number, host in enumerate(world.hosts, start=1)),
            *(_vm_rows(vm) for vm in world.vms.values()),
        ]
    )


def _zone_rows(zone: RehearsedZone) -> str:
    return f"""
        INSERT INTO data_center (id, uuid, name, allocation_state)
            VALUES ({zone.number}, '{zone.id}', '{zone.name}', 'Enabled');
        INSERT INTO vm_template (id, uuid, name, unique_name)
            VALUES ({zone.number}, '{zone.template_id}', 'systemvm', 'systemvm-{zone.number}');
    """


def _host_row(host: RehearsedHost, number: int) -> str:
    return f"""
        INSERT INTO host (id, uuid, name, status, type, private_ip_address, data_center_id,
                          version, resource_state, hypervisor_type)
            VALUES ({number}, '{host.id}', '{host.name}', '{host.status}', 'Routing',
                    '{host.address}', {host.zone.number}, '4.20', '{host.resource_state}', 'KVM');
    """


def _vm_rows(vm: SystemVm) -> str:
    kind, agent_kind, table = KINDS[vm.role]
    assert vm.agent is not None
    return f"""
        INSERT INTO vm_instance (id, uuid, name, instance_name, type, vm_type, state,
                                 vm_template_id, private_ip_address, data_center_id, created,
                                 hypervisor_type, host_id)
            SELECT {vm.number}, '{vm.id}', '{vm.name}', '{vm.name}', '{kind}', '{kind}',
                   '{vm.state.value}', {vm.zone.number}, '{vm.private}', {vm.zone.number},
                   '{vm.created_at:%Y-%m-%d %H:%M:%S}', 'KVM', id
            FROM host WHERE uuid = '{vm.host.id}';
        INSERT INTO {table} (id, public_ip_address) VALUES ({vm.number}, '{vm.public}');
        INSERT INTO nics (instance_id, ip4_address, network_id, reserver_name)
            VALUES ({vm.number}, '{vm.link_local}', 200, 'ControlNetworkGuru');
        INSERT INTO host (id, uuid, name, status, type, private_ip_address, data_center_id,
                          version)
            VALUES ({vm.agent.number}, '{vm.agent.id}', '{vm.name}', '{vm.agent.status.value}',
                    '{agent_kind}', '{vm.private}', {vm.zone.number}, '{vm.agent.version}');
    """


@dataclass(frozen=True)
class Scene:
    """A cloud with its database, the daemon, and where ledger and journal stood at the start."""

    cloud: LiveCloud
    server: MariaDb
    daemon: DaemonProcess
    name: str  # the VM on which this test tries things
    ledger_before: int
    journal_before: int

    def write_agents(self) -> None:
        """Let the database say of the agents what the management server knows of them."""
        agents = [(vm.name, vm.agent.status.value) for vm in self.cloud.vms() if vm.agent]
        for name, status in agents:
            self.write_agent(name, status)

    def write_agent(self, name: str, status: str) -> None:
        self.server.execute(f"UPDATE host SET status = '{status}' WHERE name = '{name}';")

    def verdicts(self, probe: str) -> list[str]:
        """What this probe says of each VM."""
        explained = [self.daemon.vm(vm["name"]) for vm in self.daemon.status()["vms"]]
        lines = [line for one in explained for line in one["explanation"]["evidence"]]
        return [line["verdict"] for line in lines if line["probe"] == probe]

    def is_up(self, source: str) -> bool:
        return bool(self.daemon.status()["sources"][source]["is_up"])

    def requests(self) -> list[tuple[str, str]]:
        return [(line.vm, line.what) for line in self.cloud.ledger()[self.ledger_before :]]

    def steps(self) -> list[dict[str, Any]]:
        return self.daemon.entries(*STEP_KINDS, after=self.journal_before)


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[LiveCloud, MariaDb, DaemonProcess]]:
    """One of each for the whole file."""
    programs_or_skip()
    folder = tmp_path_factory.mktemp("with-database")
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(PASSWORD)
    settings = RehearsalSettings(zones=1, pace=QUICK, guests=GuestKind.SHELL)
    with LiveCloud(settings) as cloud, MariaDb(folder / "mariadb") as server:
        server.execute(cloud.do(rows_of))
        config = merged(cloud.daemon_config(**HASTE), HURRY)
        config["database"] = {
            "host": server.host,
            "port": server.port,
            "user": USER,
            "password": {"file": str(password)},
            "interval_seconds": 1.0,
            "timeout_seconds": 3.0,
        }
        with DaemonProcess(folder / "daemon", config, [restart_rule()]) as daemon:
            yield cloud, server, daemon
            assert daemon.stop() == 0


@pytest.fixture
def scene(
    running: tuple[LiveCloud, MariaDb, DaemonProcess], request: pytest.FixtureRequest
) -> Iterator[Scene]:
    """Everything well, before and after."""
    cloud, server, daemon = running
    daemon.until(lambda: all_well(daemon))
    name = min(vm.name for vm in cloud.vms())
    made = Scene(cloud, server, daemon, name, len(cloud.ledger()), daemon.last_sequence())
    yield made
    server.thaw()
    cloud.clear("api-down")
    made.write_agents()
    daemon.until(lambda: all_well(daemon))
    assert not daemon.said("promise broken")


def all_well(daemon: DaemonProcess) -> bool:
    """Each VM is healthy by the word of all three: API, database and inside."""
    status, metrics = daemon.status(), daemon.metrics()
    probes = ("cloud-agent", "database-agent", "agent-unit", "agent-link")
    passed = [metrics.value("stackward_probe_success", probe=probe) for probe in probes]
    return (
        [row["health"] for row in status["vms"]] == ["healthy"] * VMS
        and passed == [VMS] * len(probes)
        and not status["causes"]
        and daemon.open_episodes() == 0
    )


def test_the_database_is_a_witness_of_its_own(scene):
    assert scene.verdicts("database-agent") == ["passed"] * VMS
    assert scene.is_up("database")
    scene.write_agent(scene.name, "Disconnected")
    scene.daemon.until(lambda: "failed" in scene.verdicts("database-agent"))
    assert scene.verdicts("cloud-agent") == ["passed"] * VMS
    assert scene.steps() == []  # one witness alone justifies nothing


def test_without_the_api_the_fleet_is_known_from_the_database_and_everything_is_held(scene):
    daemon, name = scene.daemon, scene.name
    known = {row["id"] for row in daemon.status()["vms"]}
    scene.cloud.inject("api-down")
    daemon.until(lambda: daemon.status()["inventory_witness"] == "database")
    scene.cloud.inject("agent-dies", name)
    scene.write_agents()
    daemon.until(lambda: cause_codes(daemon) == ["CloudApiUnreachable"])
    # The cause is seen, by the word of the database that the VM runs; and nothing is done about it.
    daemon.until(lambda: held(daemon, name) == HELD)
    listed_at = daemon.status()["inventory_at"]
    for _ in range(12):
        status = daemon.status()
        assert {row["id"] for row in status["vms"]} == known
        assert held(daemon, name) == HELD
        assert daemon.ask("/api/v1/plan")["plan"]["steps"] == []
        time.sleep(0.3)
    daemon.until(lambda: daemon.status()["inventory_at"] > listed_at)
    assert scene.steps() == []
    assert scene.requests() == []
    # The API is back: what was held is due.
    scene.cloud.clear("api-down")
    daemon.until(lambda: daemon.status()["inventory_witness"] == "api")
    daemon.until(lambda: [row["kind"] for row in scene.steps()] == ["intent", "begun", "outcome"])
    assert scene.steps()[-1]["outcome"]["kind"] == "succeeded"
    assert [vm for vm, what in scene.requests() if what == "restart"] == [name]


def held(daemon: DaemonProcess, name: str) -> list[tuple[str, str, str]]:
    """Diagnosis, action and guard of what is held back on this VM."""
    holds = daemon.holds(name)
    return [(hold["diagnosis"], hold["action"], hold["reason"]["guard"]) for hold in holds]


def cause_codes(daemon: DaemonProcess) -> list[str]:
    return [cause["code"] for cause in daemon.status()["causes"]]


def test_a_frozen_database_is_told_and_delays_no_round(scene):
    daemon = scene.daemon
    scene.server.freeze()
    daemon.until(lambda: not scene.is_up("database"))
    first = daemon.status()
    answered = daemon.metrics().value("stackward_polls_total", source="ssh")
    daemon.until(lambda: daemon.status()["round"] > first["round"] + 10)
    daemon.until(lambda: daemon.metrics().value("stackward_polls_total", source="ssh") > answered)
    daemon.until(lambda: "passed" not in scene.verdicts("database-agent") or is_stale(scene))
    status = daemon.status()
    assert status["inventory_witness"] == "api"
    assert {row["verdict"] for row in status["vms"]} == {"passed"}
    assert scene.is_up("api")
    scene.server.thaw()
    daemon.until(lambda: scene.is_up("database"))
    assert scene.steps() == []


def is_stale(scene: Scene) -> bool:
    """True when what the database said is no evidence any more."""
    lines = scene.daemon.vm(scene.name)["explanation"]["evidence"]
    return any(line["probe"] == "database-agent" and line["is_stale"] for line in lines)


def test_with_both_witnesses_gone_the_insides_are_still_asked(scene):
    daemon = scene.daemon
    scene.server.freeze()
    scene.cloud.inject("api-down")
    daemon.until(lambda: not scene.is_up("api") and not scene.is_up("database"))
    first = daemon.status()["round"]
    daemon.until(lambda: daemon.status()["round"] > first + 10)
    daemon.until(lambda: cause_codes(daemon) == ["CloudApiUnreachable"])
    assert scene.verdicts("agent-link") == ["passed"] * VMS
    assert len(daemon.status()["vms"]) == VMS
    assert scene.steps() == []
