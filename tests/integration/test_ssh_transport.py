"""The SSH transport against real OpenSSH: a jump, VMs behind it, and what may happen to them."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from random import Random

import asyncssh
import pytest

from stackward.catalog.log_tail import LogTailSettings
from stackward.errors import Leg, RefusalKind, Refused, TimedOut, TransportError, Unreachable
from stackward.model.guest import FactBlock
from stackward.transports.clock import SystemClock
from stackward.transports.ssh_guests import SshGuests
from tests.component.ssh.servers import MemoryKeys, SilentLog
from tests.integration.lab.sshd import Jump, SshLab, VmSshd, why_no_sshd

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.skipif(why_no_sshd() is not None, reason=why_no_sshd() or ""),
]

PATIENCE = 40.0
QUICK = {
    "connect_timeout": timedelta(seconds=4),
    "login_timeout": timedelta(seconds=4),
    "jump_keepalive_interval": timedelta(milliseconds=300),
    "vm_keepalive_interval": timedelta(milliseconds=300),
    "back_off_min": timedelta(milliseconds=100),
    "back_off_max": timedelta(milliseconds=200),
}


@pytest.fixture
def lab(tmp_path):
    with SshLab(tmp_path) as running:
        yield running


@pytest.fixture
async def start(lab):
    """The transport on this lab, closed at the end."""
    started = []

    def make(**changes):
        guests = SshGuests(
            lab.settings(**changes),
            MemoryKeys(),
            SystemClock(),
            SilentLog(),
            Random(7),
            tail=LogTailSettings(path="/var/log/cloud.log"),
        )
        started.append(guests)
        return guests

    yield make
    for guests in started:
        await guests.close()


async def until_it_answers(
    guests: SshGuests, vm: VmSshd, jump: Jump, ticks: Iterator[int]
) -> FactBlock:
    """Ask until there is an answer; fails with the last error."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await guests.ask(vm.target, jump.host, next(ticks), timeout=10)
            except TransportError:
                await asyncio.sleep(0.05)


async def until_leg(
    guests: SshGuests, vm: VmSshd, jump: Jump, ticks: Iterator[int], leg: Leg
) -> tuple[TransportError, list[Leg | None]]:
    """Ask until the failure names this leg."""
    seen: list[Leg | None] = []
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await guests.ask(vm.target, jump.host, next(ticks), timeout=10)
            except TransportError as error:
                seen.append(error.leg)
                if error.leg is leg:
                    return error, seen
            await asyncio.sleep(0.05)


async def test_a_vm_behind_a_jump_answers_facts_commands_and_its_log(lab, start):
    jump = lab.start_jump()
    vm = lab.start_vm("s-1-VM")
    log = vm.root / "var/log/cloud.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"old\n")
    guests = start()
    block = await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
    reply = await guests.run(
        vm.target, jump.host, 'echo "$STACKWARD_ROOT"; echo no >&2; exit 4', timeout=PATIENCE
    )
    assert block.tick == 1
    assert block.sections
    assert reply.exit_status == 4
    assert sorted(reply.output.splitlines()) == sorted(["no", str(vm.root)])
    chunks = guests.follow(vm.target, jump.host, None)
    async with asyncio.timeout(PATIENCE):
        place = await anext(chunks)
        with log.open("ab") as writer:
            writer.write(b"new\n")
        while not (chunk := await anext(chunks)).lines:
            pass
    await chunks.aclose()
    assert (place.lines, place.end.offset) == ((), 4)
    assert chunk.lines == (b"new",)


async def test_twenty_vms_share_one_login_to_their_jump(lab, start):
    jump = lab.start_jump()
    vms = [lab.start_vm(f"s-{number}-VM") for number in range(20)]
    guests = start()
    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)) for vm in vms
        ]
    assert {task.result().tick for task in asked} == {1}
    assert jump.told.count("Accepted publickey") == 1


@pytest.mark.parametrize("algorithm", ["ssh-rsa", "ecdsa-sha2-nistp256", "ssh-ed25519"])
async def test_the_key_of_any_age_of_cloudstack_opens_vm_and_jump(lab, start, algorithm):
    lab.vm_key = lab.jump_key = asyncssh.generate_private_key(algorithm)
    jump = lab.start_jump()
    vm = lab.start_vm("s-1-VM")
    assert (await start().ask(vm.target, jump.host, 1, timeout=PATIENCE)).tick == 1


@pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="ssh-agent is not installed")
async def test_an_agent_alone_opens_vm_and_jump(lab, start, tmp_path):
    lab.jump_key = lab.vm_key
    jump = lab.start_jump()
    vm = lab.start_vm("s-1-VM")
    key, path = tmp_path / "agent-key", tmp_path / "agent"
    lab.vm_key.write_private_key(key)
    key.chmod(0o600)
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as agent:
        try:
            async with asyncio.timeout(PATIENCE):
                while not path.exists():
                    await asyncio.sleep(0.02)
            environment = {**os.environ, "SSH_AUTH_SOCK": str(path)}
            subprocess.run(["ssh-add", "-q", key], env=environment, check=True, timeout=PATIENCE)
            guests = start(vm_keys=(), jump_keys=(), agent_socket=path)
            assert (await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)).tick == 1
        finally:
            agent.kill()


async def test_a_killed_jump_is_the_fault_of_the_jump_and_heals(lab, start):
    jump = lab.start_jump()
    vms = [lab.start_vm(f"s-{number}-VM") for number in range(3)]
    guests, ticks = start(**QUICK), count(1)
    for vm in vms:
        await until_it_answers(guests, vm, jump, ticks)
    jump.kill()
    for vm in vms:
        error, seen = await until_leg(guests, vm, jump, ticks, Leg.JUMP_TCP)
        assert "hypervisor kvm1" in str(error)
        assert set(seen) == {Leg.JUMP_TCP}
    jump.start()
    for vm in vms:
        await until_it_answers(guests, vm, jump, ticks)


async def test_a_frozen_jump_is_found_out_and_named(lab, start):
    jump = lab.start_jump()
    vms = [lab.start_vm(f"s-{number}-VM") for number in range(3)]
    guests, ticks = start(**QUICK), count(1)
    for vm in vms:
        await until_it_answers(guests, vm, jump, ticks)
    jump.stop()
    for vm in vms:
        error, seen = await until_leg(guests, vm, jump, ticks, Leg.JUMP_TCP)
        assert "hypervisor kvm1" in str(error)
        assert Leg.INNER_TCP not in seen
    jump.cont()
    for vm in vms:
        await until_it_answers(guests, vm, jump, ticks)


async def test_a_frozen_vm_is_its_own_fault_and_its_neighbours_go_on(lab, start):
    jump = lab.start_jump()
    frozen, well = lab.start_vm("s-1-VM"), lab.start_vm("s-2-VM")
    guests, ticks = start(**QUICK), count(1)
    for vm in (frozen, well):
        await until_it_answers(guests, vm, jump, ticks)
    frozen.stop()
    with pytest.raises(TransportError) as caught:
        await guests.ask(frozen.target, jump.host, next(ticks), timeout=10)
    assert caught.value.leg is Leg.CHANNEL
    error, _ = await until_leg(guests, frozen, jump, ticks, Leg.INNER_TCP)
    assert isinstance(error, TimedOut)  # its kernel takes the connection, and nobody speaks
    assert "s-1-VM" in str(error)
    assert (await guests.ask(well.target, jump.host, next(ticks), timeout=PATIENCE)).sections
    frozen.cont()
    await until_it_answers(guests, frozen, jump, ticks)
    assert jump.told.count("Accepted publickey") == 1


async def test_a_killed_vm_is_refused_at_its_port(lab, start):
    jump = lab.start_jump()
    vm = lab.start_vm("s-1-VM")
    guests, ticks = start(**QUICK), count(1)
    await until_it_answers(guests, vm, jump, ticks)
    vm.kill()
    error, _ = await until_leg(guests, vm, jump, ticks, Leg.INNER_TCP)
    assert isinstance(error, Unreachable)
    assert "refused" in str(error).lower()
    vm.start()
    await until_it_answers(guests, vm, jump, ticks)


async def test_a_jump_that_forbids_forwarding_says_so(lab, start):
    jump = lab.start_jump(lines=("AllowTcpForwarding no",))
    vm = lab.start_vm("s-1-VM")
    with pytest.raises(Refused, match="forbids forwarding") as caught:
        await start().ask(vm.target, jump.host, 1, timeout=PATIENCE)
    assert (caught.value.leg, caught.value.kind) == (Leg.INNER_TCP, RefusalKind.NOT_ALLOWED)


async def test_a_jump_that_does_not_take_our_key_is_named(lab, start):
    jump = lab.start_jump()
    vm = lab.start_vm("s-1-VM")
    stranger = asyncssh.generate_private_key("ssh-ed25519").export_private_key("openssh")
    with pytest.raises(Refused, match="hypervisor kvm1") as caught:
        await start(jump_keys=(stranger,)).ask(vm.target, jump.host, 1, timeout=PATIENCE)
    assert (caught.value.leg, caught.value.kind) == (Leg.JUMP_AUTH, RefusalKind.AUTHENTICATION)


async def test_a_vm_that_does_not_take_our_keys_is_named(lab, start):
    jump = lab.start_jump()
    vm = lab.start_vm("s-1-VM")
    strangers = tuple(
        asyncssh.generate_private_key("ssh-ed25519").export_private_key("openssh")
        for _ in range(8)  # more than MaxAuthTries
    )
    for keys in (strangers[:1], strangers):
        with pytest.raises(Refused, match="s-1-VM") as caught:
            await start(vm_keys=keys).ask(vm.target, jump.host, 1, timeout=PATIENCE)
        expected = (Leg.INNER_AUTH, RefusalKind.AUTHENTICATION)
        assert (caught.value.leg, caught.value.kind) == expected


async def test_a_changed_hypervisor_key_is_refused(lab, start):
    jump = lab.start_jump()
    vm = lab.start_vm("s-1-VM")
    other = lab.keys_of("another")[2].with_suffix(".pub").read_text()
    (lab.folder / "known_hosts").write_text(f"[{jump.address}]:{jump.port} {other}")
    with pytest.raises(Refused) as caught:
        await start().ask(vm.target, jump.host, 1, timeout=PATIENCE)
    assert (caught.value.leg, caught.value.kind) == (Leg.JUMP_HOST_KEY, RefusalKind.HOST_KEY)


async def test_vms_of_a_template_share_a_pin_and_an_impostor_is_refused(lab, start):
    jump = lab.start_jump()
    first, second = lab.start_vm("s-1-VM"), lab.start_vm("v-2-VM")
    guests = start()
    for vm in (first, second):
        await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
    impostor = lab.start_vm("s-3-VM", template="template-2")
    impostor.template = first.template
    with pytest.raises(Refused) as caught:
        await guests.ask(impostor.target, jump.host, 1, timeout=PATIENCE)
    assert (caught.value.leg, caught.value.kind) == (Leg.INNER_HOST_KEY, RefusalKind.HOST_KEY)
