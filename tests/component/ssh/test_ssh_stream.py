"""The short way of data through the library: it is taken, tells the same, and trusts no more."""

import asyncio
import os
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import asyncssh
import pytest
from asyncssh.encryption import get_encryption
from hypothesis import given
from hypothesis import strategies as st

from stackward.errors import Unreachable
from stackward.model.target import SshRoute
from stackward.transports.ssh_stream import MSG_CHANNEL_DATA, DataPackets, send_data_quickly
from tests.component.ssh.servers import PATIENCE, FakeJump, FakeVm

KEY, NONCE, WINDOW = os.urandom(32), os.urandom(12), 300
CHANNEL = (7).to_bytes(4, "big")


def client_of(guests, vm, host):
    return guests._pool.vm(vm.target, host).way._connection


async def said(chunks, size):
    heard = b""
    async with asyncio.timeout(PATIENCE):
        while len(heard) < size:
            heard += (await anext(chunks)).data
    return heard


async def test_the_library_still_has_the_parts_that_the_short_way_uses(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
    client = client_of(guests, vm, jump.host)
    for connection in (client, guests._pool.vm(vm.target, jump.host).jump.way._connection):
        assert connection._recv_pkthdr.__self__.taken > 0


async def test_a_stream_comes_whole_while_keys_are_changed(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    chunks = guests.follow(vm.target, jump.host, None)
    await anext(chunks)
    for connection in (*jump.connections, *vm.connections):
        connection._rekey_bytes = 40_000
    client = client_of(guests, vm, jump.host)
    first_keys = client._recv_encryption
    lines = [b"%d " % number + os.urandom(number % 997).hex().encode() for number in range(999)]
    text = b"".join(line + b"\n" for line in lines)
    for at in range(0, len(text), 50_000):
        vm.log.put_nowait(text[at : at + 50_000])
    assert await said(chunks, len(text)) == text
    assert client._recv_encryption is not first_keys
    assert client._recv_pkthdr.__self__.taken > len(text) / 32768
    await chunks.aclose()


async def test_what_is_written_goes_by_the_short_way_but_for_keys_that_are_due(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
    client = client_of(guests, vm, jump.host)
    outer = guests._pool.vm(vm.target, jump.host).jump.way._connection
    channels = [*client._channels.values(), *outer._channels.values()]
    assert len(channels) == 2
    writers = [channel.write.__self__ for channel in channels]
    before = [writer.sent for writer in writers]
    for tick in range(2, 7):
        await guests.ask(vm.target, jump.host, tick, timeout=PATIENCE)
    assert [writer.sent for writer in writers] == [5 + sent for sent in before]
    # Now keys are due for each packet or two: the library exchanges them, and nothing is lost.
    keys = {id(one): one for one in (client._send_encryption, outer._send_encryption)}
    client._rekey_bytes = outer._rekey_bytes = 100
    for tick in range(7, 27):
        block = await guests.ask(vm.target, jump.host, tick, timeout=PATIENCE)
        assert block.tick == tick
        keys |= {id(one): one for one in (client._send_encryption, outer._send_encryption)}
    assert len(keys) > 4
    client._rekey_bytes = outer._rekey_bytes = 1 << 30
    client._rekey_time = outer._rekey_time = 0.0
    last = (client._send_encryption, outer._send_encryption)
    for tick in (27, 28):
        await guests.ask(vm.target, jump.host, tick, timeout=PATIENCE)
    assert client._send_encryption is not last[0]
    assert outer._send_encryption is not last[1]


async def test_more_than_the_window_takes_waits_for_it(cloud):
    async def swallow(vm, process):
        while await process.stdin.read(1 << 16):
            await asyncio.sleep(0)

    vm = await cloud.start_vm(FakeVm("s-1-VM", behaviour=swallow))
    guests = cloud.guests()
    place = guests._pool.vm(replace(vm.target, route=SshRoute.DIRECT), None)
    way = await guests._way(place, asyncio.get_running_loop().time() + PATIENCE)
    channel, _ = await way._connection.create_session(asyncssh.SSHClientSession, "x", encoding=None)
    send_data_quickly(channel)
    window = channel._send_window
    for _ in range(4):
        channel.write(bytes(window))
    assert channel.write.__self__.sent == 0  # a packet is smaller than that
    async with asyncio.timeout(PATIENCE):
        while channel.get_write_buffer_size():
            await asyncio.sleep(0.01)
    channel.write(b"short")
    assert channel.write.__self__.sent == 1


async def test_a_packet_that_was_changed_on_its_way_ends_the_connection(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    chunks = guests.follow(vm.target, jump.host, None)
    await anext(chunks)
    client_of(guests, vm, jump.host).data_received((64).to_bytes(4, "big") + bytes(64 + 16))
    with pytest.raises(Unreachable, match="MAC"):
        async with asyncio.timeout(PATIENCE):
            await anext(chunks)


class Channel:
    _recv_state = "open"

    def __init__(self):
        self._recv_window = WINDOW
        self.heard = b""

    def _accept_data(self, data):
        self._recv_window -= len(data)
        self.heard += data


class Receiver:
    """As much of a connection as is used; what is left to the library makes it stop."""

    _decompressor: Any = None
    _max_recv_pktlen = 1000
    _recv_seq = 0xFFFFFFFF

    def __init__(self, cipher=b"aes128-gcm@openssh.com"):
        self._recv_encryption: Any = get_encryption(cipher, KEY[:16], NONCE)
        self._channels = {7: Channel()}
        self._inpbuf = b""
        self.is_stopped = False

    def _recv_pkthdr(self):
        self.is_stopped = True
        return False


def packet(sender, payload):
    padding = 4 + -(5 + len(payload)) % 16
    body = bytes([padding]) + payload + bytes(padding)
    sealed, tag = sender.encrypt_packet(0, len(body).to_bytes(4, "big"), body)
    return sealed + tag


def data_payload(data, *, length=None, channel=CHANNEL):
    size = (len(data) if length is None else length).to_bytes(4, "big")
    return bytes([MSG_CHANNEL_DATA]) + channel + size + data


@given(
    st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=6),
    st.lists(st.integers(0, 500), max_size=6),
)
def test_packets_come_out_alike_in_whatever_pieces_they_came(texts, cuts):
    sender: Any = get_encryption(b"aes128-gcm@openssh.com", KEY[:16], NONCE)
    stream = b"".join(packet(sender, data_payload(text)) for text in texts)
    receiver = Receiver()
    packets = DataPackets(receiver)
    ends = sorted({min(cut, len(stream)) for cut in cuts} | {len(stream)})
    for begin, end in zip([0, *ends], ends, strict=False):
        receiver._inpbuf += stream[begin:end]
        assert packets.read() is False
    assert receiver._channels[7].heard == b"".join(texts)
    assert (receiver._inpbuf, receiver.is_stopped) == (b"", False)
    assert receiver._recv_seq == len(texts) - 1
    assert receiver._recv_encryption._cipher._iv == sender._cipher._iv


def read_all(packets, receiver):
    """As the library does."""
    while receiver._inpbuf and packets.read():
        pass


@pytest.mark.parametrize(
    "payload",
    [
        bytes([MSG_CHANNEL_DATA]),
        bytes([MSG_CHANNEL_DATA + 2]) + CHANNEL,
        data_payload(b""),
        data_payload(b"text", length=3),
        data_payload(b"text", length=5),
        data_payload(b"text", channel=bytes(4)),
        data_payload(bytes(WINDOW + 1)),
    ],
)
def test_what_is_no_proper_data_is_left_to_the_library_as_it_came(payload):
    sender = get_encryption(b"aes128-gcm@openssh.com", KEY[:16], NONCE)
    good, odd = packet(sender, data_payload(b"good")), packet(sender, payload)
    receiver = Receiver()
    packets = DataPackets(receiver)
    receiver._inpbuf = good + odd + b"rest"
    read_all(packets, receiver)
    assert receiver._channels[7].heard == b"good"
    assert (receiver._inpbuf, receiver.is_stopped, packets.taken) == (odd + b"rest", True, 1)


def test_each_channel_has_a_window_of_its_own_and_no_more_than_that():
    sender: Any = get_encryption(b"aes128-gcm@openssh.com", KEY[:16], NONCE)
    receiver = Receiver()
    receiver._channels[8] = Channel()
    sent = [(7, b"a"), (8, bytes(WINDOW - 1)), (7, b"b"), (7, b"c"), (8, b"d"), (7, bytes(WINDOW))]
    stream = [
        packet(sender, data_payload(data, channel=channel.to_bytes(4, "big")))
        for channel, data in sent
    ]
    packets = DataPackets(receiver)
    receiver._inpbuf = b"".join(stream)
    read_all(packets, receiver)
    assert receiver._channels[7].heard == b"abc"
    assert receiver._channels[8].heard == bytes(WINDOW - 1) + b"d"
    assert (receiver._inpbuf, receiver.is_stopped, packets.taken) == (stream[-1], True, 5)


def test_packets_fill_a_window_together_and_the_next_is_left_to_the_library():
    sender: Any = get_encryption(b"aes128-gcm@openssh.com", KEY[:16], NONCE)
    receiver = Receiver()
    *fit, last = [packet(sender, data_payload(bytes(size))) for size in (WINDOW - 2, 2, 1)]
    receiver._inpbuf = b"".join(fit) + last
    DataPackets(receiver).read()
    assert receiver._channels[7].heard == bytes(WINDOW)
    assert (receiver._inpbuf, receiver.is_stopped) == (last, True)


@pytest.mark.parametrize("at", [0, 4, 30, -1])
def test_a_changed_byte_is_left_to_the_library_as_it_came(at):
    sender = get_encryption(b"aes128-gcm@openssh.com", KEY[:16], NONCE)
    changed = bytearray(packet(sender, data_payload(b"some words that matter")))
    changed[at] ^= 4
    receiver = Receiver()
    receiver._inpbuf = bytes(changed)
    nonce = receiver._recv_encryption._cipher._iv
    DataPackets(receiver).read()
    assert (receiver._inpbuf, receiver.is_stopped) == (bytes(changed), True)
    assert receiver._channels[7].heard == b""
    assert receiver._recv_encryption._cipher._iv == nonce


def test_a_closed_channel_another_cipher_and_compression_go_the_librarys_way():
    closed, other, packed = Receiver(), Receiver(), Receiver()
    closed._channels[7]._recv_state = "closed"
    other._recv_encryption = SimpleNamespace()
    packed._decompressor = SimpleNamespace()
    for receiver in (closed, other, packed):
        sender = get_encryption(b"aes128-gcm@openssh.com", KEY[:16], NONCE)
        receiver._inpbuf = came = packet(sender, data_payload(b"text"))
        DataPackets(receiver).read()
        assert (receiver._inpbuf, receiver.is_stopped) == (came, True)
        assert receiver._channels[7].heard == b""
