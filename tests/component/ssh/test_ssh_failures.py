"""Each leg that can break is named, with its machine, and is left alone for a while."""

import asyncio
from datetime import timedelta
from typing import TypeVar

import asyncssh
import pytest

from stackward.errors import (
    Garbled,
    Leg,
    RefusalKind,
    Refused,
    TimedOut,
    TransportError,
    Unreachable,
)
from stackward.transports.ssh_guests import SshGuests
from tests.component.ssh.servers import JUMP_HOST_KEY, OTHER_KEY, PATIENCE, FakeJump, FakeVm

Failure = TypeVar("Failure", bound=TransportError)
SHORT = timedelta(milliseconds=300)  # for what never comes
FAIL_FAST = {"connect_timeout": SHORT, "login_timeout": SHORT}
STAY_AWAY = {"back_off_min": timedelta(hours=1), "back_off_max": timedelta(hours=1)}


async def refusal(
    guests: SshGuests, vm: FakeVm, jump: FakeJump, kind: type[Failure], tick: int = 1
) -> Failure:
    """The failure of one question."""
    with pytest.raises(kind) as caught:
        await guests.ask(vm.target, jump.host, tick, timeout=PATIENCE)
    assert not caught.value.maybe_sent
    return caught.value


async def hang(reader, writer):
    """Accept, and say nothing until the other side has enough."""
    await reader.read()
    writer.close()


async def babble(reader, writer):
    """Something that is no sshd."""
    writer.write(b"HTTP/1.1 400 Bad Request\r\n" * 100 + b"SSH-1.5-none\r\n")
    await reader.read()
    writer.close()


async def slam(reader, writer):
    """As an sshd that is out of descriptors, or has too many unfinished logins."""
    writer.close()


async def test_a_hypervisor_that_does_not_listen_is_named(cloud):
    jump = await cloud.start_jump(FakeJump())
    jump.acceptor.close()
    await jump.acceptor.wait_closed()
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    error = await refusal(cloud.guests(), vm, jump, Unreachable)
    assert error.leg is Leg.JUMP_TCP
    assert "hypervisor kvm1 (127.0.0.1:" in str(error)


async def test_a_hypervisor_with_an_unknown_key_is_refused(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    (cloud.folder / "known_hosts").write_text("")
    error = await refusal(guests, vm, jump, Refused)
    assert (error.leg, error.kind) == (Leg.JUMP_HOST_KEY, RefusalKind.HOST_KEY)
    assert JUMP_HOST_KEY.get_fingerprint() in str(error)
    assert jump.logins == 0


async def test_a_hypervisor_with_a_changed_key_is_refused(cloud):
    jump = await cloud.start_jump(FakeJump())
    cloud.know(jump, key=OTHER_KEY)
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    error = await refusal(cloud.guests(), vm, jump, Refused)
    assert (error.leg, error.kind) == (Leg.JUMP_HOST_KEY, RefusalKind.HOST_KEY)


async def test_without_a_known_hosts_file_no_hypervisor_is_tried(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    (cloud.folder / "known_hosts").unlink()
    error = await refusal(guests, vm, jump, Refused)
    assert error.leg is Leg.JUMP_TCP  # no key was seen, so none has changed
    assert jump.attempts == 0


async def test_a_hypervisor_key_added_later_is_taken_without_a_restart(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    (cloud.folder / "known_hosts").write_text("")
    await refusal(guests, vm, jump, Refused)
    cloud.know(jump)
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
                break
            except Refused:  # a back-off of a millisecond
                await asyncio.sleep(0.01)


async def test_a_hypervisor_may_be_known_by_its_address(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    public = jump.host_key.export_public_key("openssh").decode()
    (cloud.folder / "known_hosts").write_text(f"[127.0.0.1]:{jump.port} {public}")
    await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)


async def test_a_hypervisor_may_be_known_by_the_name_that_the_operator_gave(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests(jump_addresses={"kvm1": "localhost"})
    public = jump.host_key.export_public_key("openssh").decode()
    (cloud.folder / "known_hosts").write_text(f"[localhost]:{jump.port} {public}")
    await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)


async def test_a_revoked_hypervisor_key_is_refused_although_it_is_known(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    public = jump.host_key.export_public_key("openssh").decode()
    place = f"[127.0.0.1]:{jump.port}"
    (cloud.folder / "known_hosts").write_text(f"{place} {public}@revoked {place} {public}")
    error = await refusal(guests, vm, jump, Refused)
    assert error.leg is Leg.JUMP_HOST_KEY


async def test_a_hypervisor_that_does_not_take_our_key_is_named(cloud):
    jump = await cloud.start_jump(FakeJump(client_key=OTHER_KEY))
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    error = await refusal(cloud.guests(), vm, jump, Refused)
    assert (error.leg, error.kind) == (Leg.JUMP_AUTH, RefusalKind.AUTHENTICATION)


async def test_a_vm_that_does_not_listen_is_named(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = FakeVm("s-1-VM")
    acceptor = await cloud.serve_vm(vm)
    acceptor.close()
    await acceptor.wait_closed()
    error = await refusal(cloud.guests(), vm, jump, Unreachable)
    assert error.leg is Leg.INNER_TCP
    assert f"s-1-VM ({vm.address}:{vm.port} through kvm1)" in str(error)


async def test_a_hypervisor_that_forbids_forwarding_is_told_from_a_vm_that_refuses(cloud):
    jump = await cloud.start_jump(FakeJump(forwards=False))
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    error = await refusal(cloud.guests(), vm, jump, Refused)
    assert (error.leg, error.kind) == (Leg.INNER_TCP, RefusalKind.NOT_ALLOWED)
    assert "forbids forwarding" in str(error)
    assert vm.logins == 0


async def test_a_vm_that_does_not_take_our_key_is_named(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM", client_key=OTHER_KEY))
    error = await refusal(cloud.guests(), vm, jump, Refused)
    assert (error.leg, error.kind) == (Leg.INNER_AUTH, RefusalKind.AUTHENTICATION)
    assert cloud.keys.pins == {}  # nothing is pinned by a login that failed


@pytest.mark.parametrize(
    ("serve", "kind"), [(hang, TimedOut), (babble, Garbled), (slam, Unreachable)]
)
async def test_a_vm_that_does_not_speak_ssh_is_named(cloud, serve, kind):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_raw_vm(FakeVm("s-1-VM"), serve)
    guests = cloud.guests(login_timeout=SHORT)
    error = await refusal(guests, vm, jump, kind)
    assert error.leg is Leg.INNER_TCP


async def test_a_vm_that_hangs_in_the_login_is_named(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM", hangs_in_login=True))
    guests = cloud.guests(login_timeout=timedelta(seconds=2))
    error = await refusal(guests, vm, jump, TimedOut)
    assert error.leg is Leg.INNER_AUTH


async def test_a_vm_that_hangs_after_the_login_is_named_and_its_connection_given_up(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM", hangs_at_session=True))
    guests = cloud.guests()
    with pytest.raises(TimedOut) as caught:
        await guests.ask(vm.target, jump.host, 1, timeout=3)
    assert caught.value.leg is Leg.CHANNEL
    assert vm.logins == 1
    async with asyncio.timeout(PATIENCE):
        await vm.connections[0].wait_closed()


async def test_an_opening_that_comes_too_late_leaves_nothing_open_on_the_jump(cloud):
    jump = await cloud.start_jump(FakeJump(hangs_at_forward=True))
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    other = await cloud.start_vm(FakeVm("s-2-VM"))
    guests = cloud.guests(connect_timeout=timedelta(seconds=1))
    error = await refusal(guests, vm, jump, TimedOut)
    assert error.leg is Leg.INNER_TCP
    jump.hangs_at_forward = False
    jump.may_forward.set()
    async with asyncio.timeout(PATIENCE):
        while not vm.connections:  # now the late one has come through
            await asyncio.sleep(0.01)
    await guests.ask(other.target, jump.host, 1, timeout=PATIENCE)
    async with asyncio.timeout(PATIENCE):
        await vm.connections[0].wait_closed()
    await guests.ask(other.target, jump.host, 2, timeout=PATIENCE)
    assert (jump.logins, other.logins) == (1, 1)


async def test_the_deadline_of_a_question_holds_in_the_login_too(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_raw_vm(FakeVm("s-1-VM"), hang)
    guests = cloud.guests()
    with pytest.raises(TimedOut) as caught:
        await guests.ask(vm.target, jump.host, 1, timeout=1)
    assert caught.value.leg is Leg.INNER_TCP


async def test_while_backed_off_the_failure_is_told_again_and_nothing_is_tried(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM", client_key=OTHER_KEY))
    guests = cloud.guests(**STAY_AWAY)
    first = await refusal(guests, vm, jump, Refused)
    again = await refusal(guests, vm, jump, Refused)
    assert len(vm.connections) == 1
    assert (again.leg, again.kind) == (first.leg, first.kind)
    assert str(again) == str(first)
    assert again.__notes__[0].startswith("not tried again before")
    with pytest.raises(Refused) as caught:
        await guests.run(vm.target, jump.host, "restart", timeout=PATIENCE)
    assert not caught.value.maybe_sent


async def test_a_jump_that_fails_costs_one_attempt_however_many_vms_ask(cloud):
    jump = await cloud.start_jump(FakeJump(client_key=OTHER_KEY))
    vms = [await cloud.start_vm(FakeVm(f"s-{number}-VM")) for number in range(10)]
    guests = cloud.guests(**STAY_AWAY)
    async with asyncio.TaskGroup() as group:
        for vm in vms:
            group.create_task(refusal(guests, vm, jump, Refused))
    for vm in vms:
        assert (await refusal(guests, vm, jump, Refused)).leg is Leg.JUMP_AUTH
    assert jump.attempts == 1


async def test_a_jump_that_hangs_costs_one_attempt_however_many_vms_ask(cloud):
    vm = await cloud.start_raw_vm(FakeVm("kvm1"), hang)  # a hypervisor that hangs
    cloud.jump_ports["kvm1"] = vm.port
    host = FakeJump().host
    attempts = []
    vms = [FakeVm(f"s-{number}-VM", address="127.77.9.9") for number in range(10)]
    guests = cloud.guests(jump_addresses={"kvm1": vm.address}, login_timeout=SHORT, **STAY_AWAY)

    async def ask(vm: FakeVm) -> None:
        with pytest.raises(TimedOut) as caught:
            await guests.ask(vm.target, host, 1, timeout=PATIENCE)
        attempts.append(not hasattr(caught.value, "__notes__"))
        assert caught.value.leg is Leg.JUMP_TCP

    async with asyncio.TaskGroup() as group:
        for one in vms:
            group.create_task(ask(one))
    assert attempts.count(True) == 1


async def test_whoever_waits_for_a_login_through_a_hanging_jump_blames_the_jump(cloud):
    hanging = await cloud.start_raw_vm(FakeVm("kvm1"), hang)  # a hypervisor that hangs
    cloud.jump_ports["kvm1"] = hanging.port
    host = FakeJump().host
    vm = FakeVm("s-1-VM", address="127.77.9.9")
    guests = cloud.guests(
        jump_addresses={"kvm1": hanging.address}, login_timeout=timedelta(seconds=2)
    )

    async def log_in() -> None:
        with pytest.raises(TimedOut, match="did not agree on keys"):
            await guests.run(vm.target, host, "restart", timeout=PATIENCE)

    async with asyncio.TaskGroup() as group:
        group.create_task(log_in())
        await asyncio.sleep(0)  # it is at the door first
        with pytest.raises(TimedOut, match="another login to s-1-VM") as caught:
            await guests.ask(vm.target, host, 1, timeout=0.3)
    assert caught.value.leg is Leg.JUMP_TCP


async def test_the_loss_of_a_jump_is_told_as_that_to_every_vm_behind_it(cloud):
    jump = await cloud.start_jump(FakeJump())
    asked: asyncio.Queue[bytes] = asyncio.Queue()

    async def mute(vm, process):
        async for line in process.stdin:
            if line != b"begin\n":
                asked.put_nowait(line)

    vms = [await cloud.start_vm(FakeVm(f"s-{number}-VM", behaviour=mute)) for number in range(3)]
    guests = cloud.guests(**STAY_AWAY)

    async def ask(vm: FakeVm) -> None:
        with pytest.raises(Unreachable, match="hypervisor kvm1") as caught:
            await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
        assert caught.value.leg is Leg.JUMP_TCP

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        for vm in vms:
            group.create_task(ask(vm))
        for _ in vms:
            await asked.get()
        jump.connections[0].abort()
    error = await refusal(guests, vms[0], jump, Unreachable)  # the jump is left alone now
    assert error.leg is Leg.JUMP_TCP
    assert jump.attempts == 1


async def test_a_vm_that_went_away_is_connected_to_again(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
    vm.connections[0].abort()
    async with asyncio.timeout(PATIENCE):
        while vm.logins < 2:
            try:
                await guests.ask(vm.target, jump.host, 2, timeout=PATIENCE)
            except Unreachable:
                await asyncio.sleep(0.01)
    assert jump.logins == 1


async def test_a_way_that_works_again_forgets_how_often_it_failed(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM", client_key=OTHER_KEY))
    guests = cloud.guests()
    await refusal(guests, vm, jump, Refused)
    vm.client_key = asyncssh.import_private_key(cloud.settings().vm_keys[0])
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
                break
            except Refused:
                await asyncio.sleep(0.01)
    await guests.ask(vm.target, jump.host, 2, timeout=PATIENCE)
