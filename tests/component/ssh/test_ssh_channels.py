"""What a peer may do on a channel: answer late, end, flood, lie; and what a slow reader does."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from stackward.catalog.log_tail import LogTailSettings
from stackward.errors import Garbled, Leg, TimedOut, Unreachable
from stackward.transports.ssh_channels import LoopKit
from tests.component.ssh.servers import KIT, PATIENCE, START, FakeJump, FakeVm, behave

SHORT = 0.5


@pytest.fixture
async def jump(cloud):
    return await cloud.start_jump(FakeJump())


async def test_a_late_answer_to_an_older_tick_is_dropped(cloud, jump):
    late = asyncio.Event()

    async def slow_once(vm, process):
        await process.stdin.readline()
        async for line in process.stdin:
            if line == b"1\n":
                await late.wait()
            process.stdout.write(line.strip() + b":answered\n")

    vm = await cloud.start_vm(FakeVm("s-1-VM", behaviour=slow_once))
    guests = cloud.guests()
    await guests.ask(vm.target, jump.host, 0, timeout=PATIENCE)
    with pytest.raises(TimedOut, match="tick 1") as caught:
        await guests.ask(vm.target, jump.host, 1, timeout=SHORT)
    assert caught.value.leg is Leg.CHANNEL
    late.set()
    assert (await guests.ask(vm.target, jump.host, 2, timeout=PATIENCE)).tick == 2
    assert vm.logins == 1


async def test_two_silent_ticks_in_a_row_make_the_connection_anew(cloud, jump):
    async def mute_at_times(vm, process):
        await process.stdin.readline()
        async for line in process.stdin:
            if line not in (b"1\n", b"2\n"):
                process.stdout.write(line.strip() + b":fine\n")

    vm = await cloud.start_vm(FakeVm("s-1-VM", behaviour=mute_at_times))
    guests = cloud.guests()
    await guests.ask(vm.target, jump.host, 0, timeout=PATIENCE)
    for tick in (1, 2):
        with pytest.raises(TimedOut):
            await guests.ask(vm.target, jump.host, tick, timeout=SHORT)
    async with asyncio.timeout(PATIENCE):
        await vm.connections[0].wait_closed()
    await asyncio.sleep(0.01)  # longer than the back-off of a millisecond
    assert (await guests.ask(vm.target, jump.host, 3, timeout=PATIENCE)).tick == 3
    assert (jump.logins, vm.logins) == (1, 2)


async def test_a_fact_loop_that_ends_is_told_with_its_last_words(cloud, jump):
    async def no_bash(vm, process):
        process.stderr.write(b"sh: bash: not found\n")
        process.exit(127)

    vm = await cloud.start_vm(FakeVm("s-1-VM", behaviour=no_bash))
    guests = cloud.guests()
    with pytest.raises(Unreachable) as caught:
        await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
    assert caught.value.leg is Leg.CHANNEL
    assert "exit status 127: sh: bash: not found" in str(caught.value)


async def test_a_fact_loop_that_ended_while_nobody_asked_is_started_again(cloud, jump):
    async def one_answer(vm, process):
        await process.stdin.readline()
        line = await process.stdin.readline()
        process.stdout.write(line.strip() + b":fine\n")
        process.exit(0)

    vm = await cloud.start_vm(FakeVm("s-1-VM", behaviour=one_answer))
    guests = cloud.guests()
    await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
    async with asyncio.timeout(PATIENCE):
        while len(vm.commands) < 2:
            try:
                await guests.ask(vm.target, jump.host, 2, timeout=PATIENCE)
            except Unreachable:
                await asyncio.sleep(0.01)
    assert vm.logins == 1


@pytest.mark.parametrize(
    ("noise", "words"),
    [(b"x" * 10_000 + b"\n", "cannot read the facts"), (b"x" * 10_000, "without a whole block")],
)
async def test_a_flood_instead_of_facts_ends_the_channel(cloud, jump, noise, words):
    async def flood(vm, process):
        await process.stdin.readline()
        try:
            while True:
                process.stdout.write(noise)
                await process.stdout.drain()
        except (BrokenPipeError, ConnectionError):
            return

    vm = await cloud.start_vm(FakeVm("s-1-VM", behaviour=flood))
    guests = cloud.guests(block_bytes_max=65536)
    with pytest.raises(Garbled, match=words) as caught:
        await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
    assert caught.value.leg is Leg.CHANNEL


async def test_a_question_waits_for_the_one_before_it(cloud, jump):
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(guests.ask(vm.target, jump.host, tick, timeout=PATIENCE))
            for tick in range(1, 6)
        ]
    assert [task.result().tick for task in asked] == [1, 2, 3, 4, 5]
    assert vm.commands == ["facts"]


async def test_a_question_given_up_disturbs_nobody(cloud, jump):
    asked = asyncio.Event()

    async def mute_at_one(vm, process):
        await process.stdin.readline()
        async for line in process.stdin:
            asked.set()
            if line != b"1\n":
                process.stdout.write(line.strip() + b":fine\n")

    vm = await cloud.start_vm(FakeVm("s-1-VM", behaviour=mute_at_one))
    guests = cloud.guests()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(guests.ask(vm.target, jump.host, 1, timeout=PATIENCE))
        await asked.wait()
        task.cancel()
    assert (await guests.ask(vm.target, jump.host, 2, timeout=PATIENCE)).tick == 2
    assert vm.logins == 1


async def test_a_command_that_hangs_may_have_been_sent(cloud, jump):
    async def hang(vm, process):
        await process.stdin.read()
        await asyncio.Event().wait()

    vm = await cloud.start_vm(FakeVm("s-1-VM", behaviour=hang))
    guests = cloud.guests()
    with pytest.raises(TimedOut) as caught:
        await guests.run(vm.target, jump.host, "restart", timeout=3)
    assert caught.value.leg is Leg.CHANNEL
    assert caught.value.maybe_sent


async def test_a_command_that_the_vm_took_with_it_may_have_been_sent(cloud, jump):
    async def die(vm, process):
        vm.connections[0].abort()

    vm = await cloud.start_vm(FakeVm("s-1-VM", behaviour=die))
    guests = cloud.guests()
    with pytest.raises(Unreachable) as caught:
        await guests.run(vm.target, jump.host, "reboot", timeout=PATIENCE)
    assert caught.value.leg is Leg.CHANNEL
    assert caught.value.maybe_sent


async def test_a_command_for_which_no_channel_opened_was_not_sent(cloud, jump):
    vm = await cloud.start_vm(FakeVm("s-1-VM", hangs_at_session=True))
    guests = cloud.guests()
    with pytest.raises(TimedOut) as caught:
        await guests.run(vm.target, jump.host, "restart", timeout=3)
    assert not caught.value.maybe_sent


async def test_the_output_of_a_command_is_cut_to_size(cloud, jump):
    async def talk(vm, process):
        process.stdout.write(b"y" * 100_000)
        process.exit(0)

    vm = await cloud.start_vm(FakeVm("s-1-VM", behaviour=talk))
    guests = cloud.guests()
    reply = await guests.run(vm.target, jump.host, "yes", timeout=PATIENCE, output_bytes_max=1000)
    assert (reply.exit_status, len(reply.output), reply.is_cut) == (0, 1000, True)


async def test_a_command_that_never_stops_talking_is_ended(cloud, jump):
    async def yes(vm, process):
        try:
            while True:
                process.stdout.write(b"y\n" * 10_000)
                await process.stdout.drain()
        except (BrokenPipeError, ConnectionError):
            return

    vm = await cloud.start_vm(FakeVm("s-1-VM", behaviour=yes))
    guests = cloud.guests(flood_bytes_max=100_000)
    with pytest.raises(Garbled, match="does not end") as caught:
        await guests.run(vm.target, jump.host, "yes", timeout=PATIENCE)
    assert caught.value.maybe_sent


async def test_a_command_whose_child_keeps_the_channel_still_has_its_reply(cloud, jump):
    async def leave_a_child(vm, process):
        process.stdout.write(b"restarted\n")
        process.channel._send_request(b"exit-status", (0).to_bytes(4, "big"))
        await asyncio.Event().wait()

    vm = await cloud.start_vm(FakeVm("s-1-VM", behaviour=leave_a_child))
    guests = cloud.guests()
    reply = await guests.run(vm.target, jump.host, "restart", timeout=PATIENCE)
    assert (reply.exit_status, reply.output) == (0, "restarted\n")


async def test_a_command_ended_by_a_signal_has_no_exit_status(cloud, jump):
    async def killed(vm, process):
        process.exit_with_signal("KILL")

    vm = await cloud.start_vm(FakeVm("s-1-VM", behaviour=killed))
    guests = cloud.guests()
    reply = await guests.run(vm.target, jump.host, "restart", timeout=PATIENCE)
    assert reply.exit_status is None


async def test_a_log_is_followed_from_where_it_was_left(cloud, jump):
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    resume = START.at(100)
    chunks = guests.follow(vm.target, jump.host, resume)
    async with asyncio.timeout(PATIENCE):
        first = await anext(chunks)
        vm.log.put_nowait(b"one\ntwo\n")
        second = await anext(chunks)
    assert (first.lines, first.end) == ((), resume)
    assert second.lines == (b"one", b"two")
    assert (second.start.offset, second.end.offset) == (100, 108)
    await chunks.aclose()


async def test_a_tail_that_ends_is_told_after_its_last_lines(cloud, jump):
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    lines: list[bytes] = []
    vm.log.put_nowait(b"last\n")
    vm.log.put_nowait(None)

    async def read_on() -> None:
        async for chunk in guests.follow(vm.target, jump.host, None):
            lines.extend(chunk.lines)

    with pytest.raises(Unreachable) as caught:
        await asyncio.wait_for(read_on(), PATIENCE)
    assert caught.value.leg is Leg.CHANNEL
    assert lines == [b"last"]


async def test_a_slow_reader_holds_the_tail_back_and_loses_nothing(cloud, jump):
    sent = 0
    line = b"x" * 999 + b"\n"
    total = 4000

    async def gush(vm, process):
        nonlocal sent
        await process.stdin.readline()
        process.channel.set_write_buffer_limits(high=4096)
        process.stdout.write(b"here\n")
        for _ in range(total):
            process.stdout.write(line)
            await process.stdout.drain()
            sent += 1
        await process.stdin.read()

    vm = await cloud.start_vm(FakeVm("s-1-VM", behaviour=gush))
    guests = cloud.guests(tail_bytes_max=65536)
    chunks = guests.follow(vm.target, jump.host, None)
    await anext(chunks)
    before = -1
    async with asyncio.timeout(PATIENCE):
        while sent != before:  # until it is held back
            before = sent
            await asyncio.sleep(0.2)
    assert sent < total / 2
    taken = 0
    async with asyncio.timeout(PATIENCE):
        while taken < total:
            taken += len((await anext(chunks)).lines)
    assert taken == total
    await chunks.aclose()


async def test_the_tail_is_told_that_we_are_here_even_while_nobody_reads(cloud, jump):
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests(tail=LogTailSettings(dead_man=timedelta(milliseconds=30)))
    chunks = guests.follow(vm.target, jump.host, None)
    async with asyncio.timeout(PATIENCE):
        await anext(chunks)
        while vm.signs_of_life < 3:
            vm.heard_life.clear()
            await vm.heard_life.wait()
    await chunks.aclose()


async def test_a_tail_that_finds_no_place_in_time_is_told(cloud, jump):
    async def mute(vm, process):
        await process.stdin.read()

    vm = await cloud.start_vm(FakeVm("s-1-VM", behaviour=mute))
    guests = cloud.guests(follow_timeout=timedelta(seconds=3))
    with pytest.raises(TimedOut, match="did not find its place") as caught:
        await anext(guests.follow(vm.target, jump.host, None))
    assert caught.value.leg is Leg.CHANNEL


async def test_a_tail_that_cannot_be_read_is_garbled(cloud, jump):
    class Deaf:
        def feed(self, data):
            raise ValueError("what is this")

    kit: LoopKit = replace(KIT, read_tail=lambda *_: Deaf())
    vm = await cloud.start_vm(FakeVm("s-1-VM", behaviour=behave))
    guests = cloud.guests(kit=kit)
    with pytest.raises(Garbled, match="what is this"):
        await anext(guests.follow(vm.target, jump.host, None))


async def test_the_loss_of_a_vm_ends_its_tail_at_once(cloud, jump):
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    chunks = guests.follow(vm.target, jump.host, None)
    await anext(chunks)
    vm.connections[0].abort()
    with pytest.raises(Unreachable, match="connection to s-1-VM") as caught:
        async with asyncio.timeout(PATIENCE):
            await anext(chunks)
    assert caught.value.leg is Leg.CHANNEL


async def test_a_tail_whose_vm_is_not_retained_ends(cloud, jump):
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    chunks = guests.follow(vm.target, jump.host, None)
    await anext(chunks)
    await guests.retain(frozenset())
    with pytest.raises(Unreachable, match="not watched any more"):
        async with asyncio.timeout(PATIENCE):
            await anext(chunks)
