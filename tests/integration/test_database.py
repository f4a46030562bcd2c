"""The database transport on a real MariaDB."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from stackward.errors import RefusalKind, Refused, TimedOut, TransportError, Unreachable
from stackward.model.identity import Hypervisor, JobId, TargetId, VmRole
from stackward.model.target import AgentState, CloudState, Inventory, SshRoute, Target, Witness
from stackward.transports.clock import SystemClock
from stackward.transports.database import CloudStackDatabase, DatabaseSettings
from tests.integration.lab.mariadb import PASSWORD, USER, MariaDb, programs_or_skip

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

WITHIN = 30.0
SHORT = 1.0


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of a server that was filled once and stopped."""
    programs_or_skip()
    with MariaDb(tmp_path_factory.mktemp("template")) as server:
        pass
    return server.data


@pytest.fixture(scope="module")
def shared(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDb]:
    """A server that tests only read from."""
    with MariaDb(tmp_path_factory.mktemp("shared"), template=template) as server:
        yield server


@pytest.fixture
def server(template: Path, tmp_path: Path) -> Iterator[MariaDb]:
    """A server that a test may change, freeze and kill."""
    with MariaDb(tmp_path / "mariadb", template=template) as started:
        yield started


def settings_of(server: MariaDb, **changes: Any) -> DatabaseSettings:
    settings = DatabaseSettings(
        host=server.host, port=server.port, user=USER, password=lambda: PASSWORD, timeout=WITHIN
    )
    return replace(settings, **changes)


def database_of(server: MariaDb, **changes: Any) -> CloudStackDatabase:
    return CloudStackDatabase(settings_of(server, **changes), SystemClock())


async def inventory_of(server: MariaDb, **changes: Any) -> Inventory:
    database = database_of(server, **changes)
    try:
        return await database.inventory()
    finally:
        await database.close()


async def trouble_of(server: MariaDb, **changes: Any) -> TransportError:
    async with asyncio.timeout(WITHIN):
        with pytest.raises(TransportError) as caught:
            await inventory_of(server, **changes)
    return caught.value


async def targets_of(server: MariaDb) -> dict[str, Target]:
    return {target.name: target for target in (await inventory_of(server)).targets}


# --- what it tells -------------------------------------------------------------------------------


async def test_all_system_vms_are_listed_and_nothing_else(shared):
    inventory = await inventory_of(shared)
    names = [target.name for target in inventory.targets]
    assert names == ["s-1-VM", "v-2-VM", "v-3-VM", "s-4-VM", "s-5-VM"]
    assert inventory.unreadable == ()
    assert inventory.witness is Witness.DATABASE


async def test_a_vm_is_told_as_the_api_tells_it(shared):
    target = (await targets_of(shared))["s-1-VM"]
    assert target.id == TargetId("vm-s1")
    assert target.role is VmRole.SECONDARY_STORAGE
    assert (target.zone_id, target.zone_name) == ("zone-north", "north")
    assert target.cloud_state is CloudState.RUNNING
    assert target.agent_state is AgentState.UP
    assert target.hypervisor is Hypervisor.KVM
    assert (target.host_id, target.host_name) == ("host-kvm1", "kvm1")
    assert (target.route, target.control_address) == (SshRoute.JUMP, "169.254.1.10")
    assert (target.private_address, target.public_address) == ("10.0.0.5", "198.51.100.1")
    assert target.template_id == "template-kvm"
    assert target.agent_version == "4.22.0.0"
    assert target.created_at == datetime(2026, 1, 2, 10, 20, 30, tzinfo=UTC)
    assert target.disconnected_at == datetime(2026, 2, 1, 3, 4, 5, tzinfo=UTC)
    assert target.job_id is None
    assert target.witness is Witness.DATABASE


async def test_the_way_into_a_vm_on_vmware_is_its_private_address(shared):
    target = (await targets_of(shared))["v-3-VM"]
    assert (target.route, target.control_address) == (SshRoute.DIRECT, "10.9.0.5")


async def test_agents_are_found_by_name_and_zone_and_only_where_they_can_be_up(shared):
    states = {name: target.agent_state for name, target in (await targets_of(shared)).items()}
    assert states == {
        "s-1-VM": AgentState.UP,
        "v-2-VM": AgentState.ABSENT,  # its namesake is in another zone
        "v-3-VM": AgentState.DISCONNECTED,
        "s-4-VM": AgentState.NOT_TOLD,  # Stopped, and yet Up: so says 4.11
        "s-5-VM": AgentState.ABSENT,
    }


async def test_the_agents_alone_are_told_alike(shared):
    database = database_of(shared)
    witness = await database.agents()
    inventory = await database.inventory()
    await database.close()
    assert witness.agent_states == {target.id: target.agent_state for target in inventory.targets}


async def test_work_under_way_shows_whoever_asked_for_it(shared):
    jobs = {name: target.job_id for name, target in (await targets_of(shared)).items()}
    assert jobs == {
        "s-1-VM": None,
        "v-2-VM": JobId("job-pending"),
        "v-3-VM": None,
        "s-4-VM": None,
        "s-5-VM": JobId("job-of-a-scan"),
    }


async def test_zones_and_hosts_come_with_their_state(shared):
    inventory = await inventory_of(shared)
    assert {(zone.id, zone.name, zone.is_enabled) for zone in inventory.zones} == {
        ("zone-north", "north", True),
        ("zone-south", "south", False),
    }
    assert {(host.name, host.zone_id, host.address, host.is_up) for host in inventory.hosts} == {
        ("kvm1", "zone-north", "192.0.2.11", True),
        ("kvm2", "zone-north", "192.0.2.12", False),
        ("esx1", "zone-south", "192.0.2.13", False),
    }


async def test_a_garbage_row_is_named_and_loses_no_other(server):
    server.execute(
        "UPDATE vm_instance SET uuid = NULL WHERE id = 2;"
        "UPDATE vm_instance SET created = '0000-00-00 00:00:00' WHERE id = 3;"
        "UPDATE host SET uuid = NULL WHERE id = 2;"
        "UPDATE data_center SET name = NULL WHERE id = 2;"
    )
    inventory = await inventory_of(server)
    assert [target.name for target in inventory.targets] == ["s-1-VM", "s-4-VM", "s-5-VM"]
    assert [host.name for host in inventory.hosts] == ["kvm1", "esx1"]
    assert [zone.name for zone in inventory.zones] == ["north"]
    assert len(inventory.unreadable) == 4  # v-2-VM, v-3-VM (its zone has no name), a host, a zone
    assert any("v-2-VM" in hole for hole in inventory.unreadable)


async def test_a_date_that_is_none_is_not_told(server):
    server.execute("UPDATE vm_instance SET created = '0000-00-00 00:00:00' WHERE id = 3")
    assert (await targets_of(server))["v-3-VM"].created_at is None


async def test_bytes_that_are_no_text_do_not_lose_the_row(server):
    server.execute(
        "ALTER TABLE host MODIFY name varbinary(255) NOT NULL;"
        "UPDATE host SET name = X'6b766dff' WHERE id = 1;"
    )
    inventory = await inventory_of(server)
    assert "kvm\ufffd" in {host.name for host in inventory.hosts}
    assert inventory.unreadable == ()


async def test_more_rows_than_allowed_are_a_hole(shared):
    inventory = await inventory_of(shared, rows_max=4)
    assert any("more than 4" in hole for hole in inventory.unreadable)


async def test_an_empty_cloud_is_empty(server):
    server.execute("DELETE FROM vm_instance; DELETE FROM host; DELETE FROM data_center")
    inventory = await inventory_of(server)
    assert (inventory.targets, inventory.hosts, inventory.zones) == ((), (), ())
    assert inventory.unreadable == ()


# --- manners -------------------------------------------------------------------------------------


async def test_the_session_cannot_write_even_where_the_user_could(server):
    server.execute(f"GRANT ALL ON cloud.* TO '{USER}'@'%'")
    database = database_of(server)
    with pytest.raises(Refused):
        await database._ask("DELETE FROM nics LIMIT %s")
    await database.close()
    assert server.execute("SELECT COUNT(*) FROM nics").split() == ["COUNT(*)", "7"]


async def test_the_server_itself_ends_queries_that_take_too_long(shared):
    database = database_of(shared, timeout=17.0)
    ((row,),) = await database._ask("SELECT @@max_statement_time LIMIT %s")
    await database.close()
    assert float(row[0] or 0) == 17.0


async def test_questions_share_one_connection(shared):
    database = database_of(shared)
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(database.agents())
    counted = shared.execute(
        f"SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{USER}'"
    )
    await database.close()
    assert counted.split()[-1] == "1"


# --- troubles ------------------------------------------------------------------------------------


async def test_a_frozen_server_ends_in_time_and_is_heard_again_when_it_thaws(server):
    database = database_of(server, timeout=SHORT)
    await database.agents()
    server.freeze()
    for _ in range(2):  # over the old connection, and over one that is only just taken
        async with asyncio.timeout(WITHIN):
            with pytest.raises(TimedOut):
                await database.agents()
    server.thaw()
    patient = database_of(server)
    assert len((await patient.agents()).agent_states) == 5
    assert len((await database_again(database)).agent_states) == 5
    await patient.close()
    await database.close()


async def database_again(database: CloudStackDatabase) -> Any:
    """Ask until it answers: a machine that is busy may need more than one short time-out."""
    async with asyncio.timeout(WITHIN):
        while True:
            try:
                return await database.agents()
            except TimedOut:
                continue


async def test_a_killed_server_is_unreachable_and_is_found_again(server):
    database = database_of(server)
    await database.inventory()
    server.kill()
    for _ in range(2):  # the connection breaks, then none can be made
        with pytest.raises(Unreachable):
            await database.inventory()
    server.start()
    assert len((await database.inventory()).targets) == 5
    await database.close()


async def test_a_connection_that_the_server_ended_is_made_anew(server):
    database = database_of(server)
    await database.agents()
    server.execute(f"KILL USER '{USER}'")
    with pytest.raises(Unreachable):
        await database.agents()
    assert len((await database.agents()).agent_states) == 5
    await database.close()


async def test_a_question_that_is_given_up_leaves_no_answer_behind_for_the_next(shared):
    database = database_of(shared)
    await database.agents()
    for _ in range(20):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await database.inventory()
        assert len((await database.agents()).agent_states) == 5
    await database.close()


async def test_a_wrong_password_is_refused(shared):
    trouble = await trouble_of(shared, password=lambda: "wrong")
    assert isinstance(trouble, Refused)
    assert trouble.kind is RefusalKind.AUTHENTICATION
    assert "wrong" not in str(trouble)


async def test_a_password_outside_latin_1_is_refused_and_not_garbled(shared):
    trouble = await trouble_of(shared, password=lambda: "пароль")
    assert isinstance(trouble, Refused)
    assert trouble.kind is RefusalKind.AUTHENTICATION


async def test_a_database_that_is_not_there_is_refused(shared):
    trouble = await trouble_of(shared, database="clouds")
    assert isinstance(trouble, Refused)


async def test_a_table_that_may_not_be_read_is_refused(server):
    server.execute(f"REVOKE SELECT ON cloud.nics FROM '{USER}'@'%'")
    trouble = await trouble_of(server)
    assert isinstance(trouble, Refused)
    assert trouble.kind is RefusalKind.NOT_ALLOWED
    assert "nics" in str(trouble)


async def test_a_table_that_is_not_there_is_refused(server):
    server.execute("DROP TABLE vm_work_job")
    assert isinstance(await trouble_of(server), Refused)


# --- TLS -----------------------------------------------------------------------------------------


def certificate_for(address: str, directory: Path) -> tuple[Path, Path]:
    """A certificate that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "database")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "cert.pem", directory / "key.pem"
    paths[0].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    paths[1].chmod(0o600)
    return paths


@pytest.fixture
def tls_server(template: Path, tmp_path: Path) -> Iterator[tuple[MariaDb, Path]]:
    server = MariaDb(tmp_path / "mariadb", template=template)
    cert, key = certificate_for(server.host, tmp_path)
    server.options = (f"--ssl-cert={cert}", f"--ssl-key={key}")
    with server:
        yield server, cert


async def test_tls_is_used_where_a_ca_file_is_given(tls_server):
    server, cert = tls_server
    database = database_of(server, ca_file=cert)
    ((row,),) = await database._ask(
        "SELECT variable_value FROM information_schema.session_status"
        " WHERE variable_name = 'Ssl_cipher' LIMIT %s"
    )
    await database.close()
    assert row[0]


async def test_a_server_of_an_unknown_authority_is_unreachable(tls_server, tmp_path):
    server, _ = tls_server
    other = tmp_path / "other"
    other.mkdir()
    stranger, _ = certificate_for(server.host, other)
    trouble = await trouble_of(server, ca_file=stranger)
    assert isinstance(trouble, Unreachable)
    assert "certificate" in str(trouble)


async def test_a_server_without_tls_gets_no_password_where_tls_is_wanted(shared, tmp_path):
    cert, _ = certificate_for(shared.host, tmp_path)
    trouble = await trouble_of(shared, ca_file=cert)
    assert isinstance(trouble, Unreachable)
    assert "no TLS" in str(trouble)
