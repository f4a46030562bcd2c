"""One connection per hypervisor, one per VM, one fact channel on it."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import asyncssh
import pytest

from stackward.errors import Leg, Unreachable
from stackward.model.identity import HostId
from stackward.model.target import SshRoute
from tests.component.ssh.servers import PATIENCE, FakeJump, FakeVm


async def test_twenty_vms_that_ask_at_once_share_one_login_to_their_jump(cloud):
    jump = await cloud.start_jump(FakeJump())
    vms = [await cloud.start_vm(FakeVm(f"s-{number}-VM")) for number in range(20)]
    guests = cloud.guests()
    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)) for vm in vms
        ]
    assert [task.result().sections["echo"] for task in asked] == [("fine",)] * 20
    assert jump.logins == 1
    assert [vm.logins for vm in vms] == [1] * 20


async def test_ticks_go_down_one_channel_without_a_new_command_each(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    blocks = [await guests.ask(vm.target, jump.host, tick, timeout=PATIENCE) for tick in (5, 6, 7)]
    assert [block.tick for block in blocks] == [5, 6, 7]
    assert all(block.asked_at <= block.received_at for block in blocks)
    assert vm.commands == ["facts"]
    assert not any(vm.requests)  # no environment, no terminal
    assert vm.logins == 1


async def test_no_empty_packets_are_sent_beside_a_question(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
    heard = []
    for connection in (*jump.connections, *vm.connections):
        log_received_packet = connection.log_received_packet

        def hear(pkttype, *about, log=log_received_packet, **more):
            heard.append(pkttype)
            log(pkttype, *about, **more)

        connection.log_received_packet = hear
    for tick in (2, 3, 4):
        await guests.ask(vm.target, jump.host, tick, timeout=PATIENCE)
    assert asyncssh.constants.MSG_IGNORE not in heard


async def test_a_way_is_kept_alive_when_nothing_was_heard_and_not_while_it_is_used(cloud):
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    target = replace(vm.target, route=SshRoute.DIRECT)
    guests = cloud.guests(vm_keepalive_interval=timedelta(seconds=0.5))
    await guests.ask(target, None, 1, timeout=PATIENCE)
    (connection,) = vm.connections
    kept_alive = asyncio.Event()
    heard = []

    def hear(pkttype, *_, **__):
        heard.append(pkttype)
        if pkttype == asyncssh.constants.MSG_GLOBAL_REQUEST:
            kept_alive.set()

    connection.log_received_packet = hear
    loop = asyncio.get_running_loop()
    widest, last = 0.0, loop.time()
    for tick in range(2, 32):
        await guests.ask(target, None, tick, timeout=PATIENCE)
        widest, last = max(widest, loop.time() - last), loop.time()
        await asyncio.sleep(0.05)
    was_idle = widest > 0.4  # a busy machine
    assert was_idle or asyncssh.constants.MSG_GLOBAL_REQUEST not in heard
    async with asyncio.timeout(PATIENCE):
        await kept_alive.wait()


async def test_a_vm_that_answers_no_keep_alive_is_given_up(cloud):
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    target = replace(vm.target, route=SshRoute.DIRECT)
    guests = cloud.guests(vm_keepalive_interval=timedelta(seconds=0.1), keepalive_count_max=1)
    chunks = guests.follow(target, None, None)
    await anext(chunks)
    (connection,) = vm.connections
    connection.process_packet = lambda *_: True  # it hears and does nothing
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(Unreachable, match="keepalive"):
            await anext(chunks)


async def test_facts_command_and_tail_share_the_connection_of_their_vm(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
    reply = await guests.run(vm.target, jump.host, "restart it", timeout=PATIENCE)
    chunks = guests.follow(vm.target, jump.host, None)
    await anext(chunks)
    await chunks.aclose()
    assert (reply.exit_status, reply.is_cut) == (3, False)
    assert sorted(reply.output.splitlines()) == ["and complained", "ran restart it"]
    assert vm.logins == 1


async def test_a_vm_on_vmware_is_reached_without_a_jump(cloud):
    vm = await cloud.start_vm(FakeVm("v-2-VM"))
    guests = cloud.guests()
    target = replace(vm.target, route=SshRoute.DIRECT, host_id=None)
    assert (await guests.ask(target, None, 1, timeout=PATIENCE)).tick == 1


async def test_a_vm_that_moved_to_another_host_gets_a_new_connection(cloud):
    here = await cloud.start_jump(FakeJump())
    there = await cloud.start_jump(FakeJump(name="kvm2", host_id=HostId("host-2")))
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    await guests.ask(vm.target, here.host, 1, timeout=PATIENCE)
    vm.host_id = there.host_id
    await guests.ask(vm.target, there.host, 2, timeout=PATIENCE)
    assert (here.logins, there.logins, vm.logins) == (1, 1, 2)


async def test_the_same_control_address_on_two_hosts_is_two_vms(cloud):
    here = await cloud.start_jump(FakeJump())
    there = await cloud.start_jump(FakeJump(name="kvm2", host_id=HostId("host-2")))
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    other = replace(vm.target, id="id-other", name="s-9-VM", host_id=there.host_id)
    await guests.ask(vm.target, here.host, 1, timeout=PATIENCE)
    await guests.ask(other, there.host, 1, timeout=PATIENCE)
    assert vm.logins == 2


async def test_what_is_not_retained_is_closed_with_its_jump(cloud):
    here = await cloud.start_jump(FakeJump())
    there = await cloud.start_jump(FakeJump(name="kvm2", host_id=HostId("host-2")))
    kept = await cloud.start_vm(FakeVm("s-1-VM"))
    gone = await cloud.start_vm(FakeVm("s-2-VM", host_id=there.host_id))
    guests = cloud.guests()
    await guests.ask(kept.target, here.host, 1, timeout=PATIENCE)
    await guests.ask(gone.target, there.host, 1, timeout=PATIENCE)
    await guests.retain(frozenset({kept.target.id}))
    async with asyncio.timeout(PATIENCE):
        await gone.connections[0].wait_closed()
        await there.connections[0].wait_closed()
    await guests.ask(kept.target, here.host, 2, timeout=PATIENCE)
    assert (here.logins, kept.logins) == (1, 1)


async def test_a_closed_transport_answers_nothing_and_says_so(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
    await guests.close()
    with pytest.raises(Unreachable, match="stopping"):
        await guests.ask(vm.target, jump.host, 2, timeout=PATIENCE)
    async with asyncio.timeout(PATIENCE):
        await jump.connections[0].wait_closed()


@pytest.mark.parametrize(
    ("changes", "has_host", "leg", "words"),
    [
        ({"route": SshRoute.NONE}, True, Leg.INNER_TCP, "no SSH address of s-1-VM"),
        ({"control_address": None}, True, Leg.INNER_TCP, "no SSH address of s-1-VM"),
        ({}, False, Leg.INNER_TCP, "which host runs s-1-VM"),
    ],
)
async def test_a_way_that_cloudstack_does_not_tell_is_named(cloud, changes, has_host, leg, words):
    guests = cloud.guests()
    target = replace(FakeVm("s-1-VM", address="127.77.9.9").target, **changes)
    host = FakeJump().host if has_host else None
    with pytest.raises(Unreachable, match=words) as caught:
        await guests.ask(target, host, 1, timeout=PATIENCE)
    assert caught.value.leg is leg
    assert not caught.value.maybe_sent


async def test_a_host_without_address_is_named(cloud):
    guests = cloud.guests()
    host = replace(FakeJump().host, address=None)
    with pytest.raises(Unreachable, match="no address of hypervisor kvm1") as caught:
        await guests.ask(FakeVm("s-1-VM", address="127.77.9.9").target, host, 1, timeout=PATIENCE)
    assert caught.value.leg is Leg.JUMP_TCP


async def test_the_address_of_a_host_can_be_told_by_the_operator(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests(jump_addresses={"kvm1": "127.0.0.1"})
    host = replace(jump.host, address="192.0.2.1")
    assert (await guests.ask(vm.target, host, 1, timeout=PATIENCE)).tick == 1
