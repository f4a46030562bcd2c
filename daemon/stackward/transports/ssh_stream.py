# ruff: noqa: SLF001  reads the private parts of the library, as said below
"""A short way for the data of SSH channels, past the library's general one.

The library takes some forty calls for a packet, copies what came behind it twice, and makes its
cipher anew. For a log that is sent as quickly as it goes that is most of the work, so here whole
packets of data are opened in one loop and handed to their channels, whose windows and pauses
remain the library's. What is written goes out by as short a way. It knows asyncssh's private
parts, and only ssh.py asks for it.

Everything else is left to the library as it came: other packets, ciphers but AES-GCM, and all that
is wrong with a packet, which is refused there as ever.
"""

import asyncio
import os
from collections.abc import Callable
from enum import Enum
from struct import Struct
from struct import error as struct_error
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MSG_CHANNEL_DATA = 94  # RFC 4254, 5.2
LENGTH_BYTES = 4
TAG_BYTES = 16  # behind a packet of AES-GCM
# Its nonce counts in its last eight bytes, and begins anew behind the highest (RFC 5647).
COUNT_AT, COUNTS = 4, 1 << 64

# Length of the padding, type, channel, length of the data.
_HEAD = Struct("!BBII")
_DATA = Struct("!BII")
PADDING_MIN = 4


class _Stop(Enum):
    """Why the next packet is not opened with those before it."""

    LITTLE = "too little of it came"
    CHANNEL = "it is for another channel"
    OTHER = "it is of another kind, or not as it should be"


class DataPackets:
    """Takes packets of data out of what a connection receives; `taken` counts them."""

    __slots__ = ("_connection", "_decrypt", "_encryption", "_read_others", "taken")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._read_others: Callable[[], bool] = connection._recv_pkthdr
        self._encryption: Any = None
        self._decrypt: Callable[[bytes, memoryview, bytes], bytes] | None = None
        self.taken = 0

    def read(self) -> bool:
        """In the place of the library's look at the next packet; False: too little came."""
        connection = self._connection
        if connection._recv_encryption is not self._encryption:
            self._take_key(connection._recv_encryption)
        decrypt = self._decrypt
        if decrypt is None or connection._decompressor is not None:
            return self._read_others()
        came: bytes = connection._inpbuf
        channel, pieces, at, stop = self._open(came, decrypt)
        connection._inpbuf = came[at:]
        if pieces:
            self.taken += len(pieces)
            channel._accept_data(b"".join(pieces))
        if stop is _Stop.OTHER:
            return self._read_others()
        return stop is _Stop.CHANNEL

    def _open(
        self, came: bytes, decrypt: Callable[[bytes, memoryview, bytes], bytes]
    ) -> tuple[Any, list[memoryview], int, "_Stop"]:
        """Open the packets of data that came for one channel, as far as they follow each other.

        Tells the channel, its data, where the next packet begins, and why there. Nothing is changed
        for that one.
        """
        connection, cipher = self._connection, self._encryption._cipher
        nonce: bytes = cipher._iv
        fixed, count = nonce[:COUNT_AT], int.from_bytes(nonce[COUNT_AT:], "big")
        at, size, length_max = 0, len(came), connection._max_recv_pktlen
        view = memoryview(came)
        pieces: list[memoryview] = []
        channel, number, room = None, -1, 0  # its number, and what its window takes
        stop = _Stop.OTHER
        while True:
            body = at + LENGTH_BYTES
            head = came[at:body]
            length = int.from_bytes(head, "big")
            end = body + length + TAG_BYTES
            if length > length_max:
                break
            if end > size:
                stop = _Stop.LITTLE
                break
            try:
                opened = decrypt(nonce, view[body:end], head)
                padding, kind, to, length = _HEAD.unpack_from(opened)
            except (InvalidTag, struct_error):
                break
            if to != number:
                if pieces:
                    stop = _Stop.CHANNEL
                    break
                number, channel = to, connection._channels.get(to)
                if channel is not None and channel._recv_state == "open":
                    room = channel._recv_window
            data_end = _HEAD.size + length
            is_data = kind == MSG_CHANNEL_DATA and data_end + padding == len(opened)
            if not (is_data and 0 < length <= room):
                break
            pieces.append(memoryview(opened)[_HEAD.size : data_end])
            at, room, count = end, room - length, (count + 1) % COUNTS
            nonce = fixed + count.to_bytes(8, "big")
        cipher._iv = nonce
        connection._recv_seq = (connection._recv_seq + len(pieces)) & 0xFFFFFFFF
        return channel, pieces, at, stop

    def _take_key(self, encryption: Any) -> None:
        """Other keys, as after a key exchange; what is no AES-GCM goes the library's way."""
        self._encryption, self._decrypt = encryption, None
        if type(encryption).__name__ == "GCMEncryption":
            self._decrypt = AESGCM(encryption._cipher._key).decrypt


def take_data_quickly(connection: Any) -> None:
    """Take the short way on this connection, if the library has the parts that it needs."""
    try:
        connection._recv_pkthdr = DataPackets(connection).read
    except AttributeError:
        return


def send_data_quickly(channel: Any) -> None:
    """Send what is written on a channel as one packet, where nothing stands in its way.

    What does stand in the way is left to the library: data that waits already, a window or a packet
    too small, keys that are being exchanged or are due to be, compression, ciphers but AES-GCM.
    """
    if all(hasattr(channel, part) for part in WRITER_PARTS):
        channel.write = DataWriter(channel).write


WRITER_PARTS = (
    "write", "_conn", "_encoding", "_send_buf", "_send_chan", "_send_pktsize", "_send_state",
    "_send_window",
)  # fmt: skip


class DataWriter:
    """In the place of a channel's `write`; `sent` counts the packets of the short way."""

    __slots__ = ("_channel", "_now", "_write", "sent")

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._write: Callable[[bytes, int | None], None] = channel.write
        self._now = asyncio.get_running_loop().time  # the clock that the library's `time` reads too
        self.sent = 0

    def write(self, data: bytes, datatype: int | None = None) -> None:
        """As the library's."""
        channel, connection = self._channel, self._channel._conn
        if datatype is None and self._takes(data) and self._is_settled(connection):
            self.sent += 1
            channel._send_window -= len(data)
            payload = _DATA.pack(MSG_CHANNEL_DATA, channel._send_chan, len(data)) + data
            self._send(connection, payload)
        else:
            self._write(data, datatype)

    def _takes(self, data: bytes) -> bool:
        """True while the channel is open, nothing waits, and the other side takes so much."""
        channel = self._channel
        return (
            channel._send_state == "open"
            and not channel._send_buf
            and not channel._encoding
            and 0 < len(data) <= min(channel._send_window, channel._send_pktsize)
        )

    def _is_settled(self, connection: Any) -> bool:
        """True while the connection lives, with keys that need not be exchanged yet."""
        return (
            connection is not None
            and connection._transport is not None
            and connection._auth_complete
            and connection._kex_complete
            and connection._compressor is None
            and type(connection._send_encryption).__name__ == "GCMEncryption"
            and connection._rekey_bytes_sent < connection._rekey_bytes
            and (not connection._rekey_seconds or self._now() < connection._rekey_time)
        )

    def _send(self, connection: Any, payload: bytes) -> None:
        """One packet of RFC 4253, 6; with AES-GCM its length is not part of what is padded."""
        size = connection._send_blocksize
        padding = -(1 + len(payload)) % size
        if padding < PADDING_MIN:
            padding += size
        packet = b"%c%b%b" % (padding, payload, os.urandom(padding))
        head, count = len(packet).to_bytes(LENGTH_BYTES), connection._send_seq
        sealed, tag = connection._send_encryption.encrypt_packet(count, head, packet)
        connection._send(sealed + tag)
        connection._send_seq = (count + 1) & 0xFFFFFFFF
        connection._rekey_bytes_sent += len(packet)
