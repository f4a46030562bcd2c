# ruff: noqa: SLF001  the one place that reads the library's private parts, as said below
"""A short way for the data of SSH channels, past the library's general one.

The library takes some forty calls for a packet, copies what came behind it twice, and makes its
cipher anew. For a log that is sent as quickly as it goes that is most of the work, so here whole
packets of data are opened in one loop and handed to their channels, whose windows and pauses
remain the library's. It knows asyncssh's private parts, and only ssh.py asks for it.

Everything else is left to the library as it came: other packets, ciphers but AES-GCM, and all that
is wrong with a packet, which is refused there as ever.
"""

from collections.abc import Callable
from struct import Struct
from struct import error as struct_error
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MSG_CHANNEL_DATA = 94  # RFC 4254, 5.2
LENGTH_BYTES = 4
TAG_BYTES = 16  # behind a packet of AES-GCM, whose nonce counts in its last eight bytes (RFC 5647)
COUNT_AT, COUNTS = 4, 1 << 64

# Length of the padding, type, channel, length of the data.
_HEAD = Struct("!BBII")


class DataPackets:
    """Takes packets of data out of what a connection receives; `taken` counts them."""

    __slots__ = (
        "_bytes", "_channel", "_connection", "_decrypt", "_encryption", "_pieces", "_read_others",
        "taken",
    )  # fmt: skip

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._read_others: Callable[[], bool] = connection._recv_pkthdr
        self._encryption: object = None
        self._decrypt: Callable[[bytes, memoryview, bytes], bytes] | None = None
        self._channel: Any = None
        self._pieces: list[memoryview] = []  # data for this channel that was not delivered yet
        self._bytes = 0
        self.taken = 0

    def read(self) -> bool:
        """In the place of the library's look at the next packet; False: too little came."""
        connection = self._connection
        if connection._recv_encryption is not self._encryption:
            self._take_key(connection._recv_encryption)
        if self._decrypt is None or connection._decompressor is not None:
            return self._read_others()
        came: bytes = connection._inpbuf
        at, size = 0, len(came)
        view, length_max = memoryview(came), connection._max_recv_pktlen
        is_data = True
        while size - at > LENGTH_BYTES:
            head = came[at : at + LENGTH_BYTES]
            length = int.from_bytes(head, "big")
            end = at + LENGTH_BYTES + length + TAG_BYTES
            if end > size and length <= length_max:
                break
            is_data = length <= length_max and self._open(head, view[at + LENGTH_BYTES : end])
            if not is_data:
                break
            at = end
        connection._inpbuf = came[at:]
        self._deliver()
        self._channel = None  # it may be closed by now, and need not be kept
        return False if is_data else self._read_others()

    def _open(self, head: bytes, sealed: memoryview) -> bool:
        """Open a packet and keep its data; False: it is another kind, or not as it should be.

        Until it is certain what it is, nothing is changed.
        """
        connection = self._connection
        cipher, decrypt = connection._recv_encryption._cipher, self._decrypt
        nonce = cipher._iv
        try:
            opened = decrypt(nonce, sealed, head)  # type: ignore[misc]  # `read` has looked
            padding, kind, number, length = _HEAD.unpack_from(opened)
        except (InvalidTag, struct_error):
            return False
        if kind != MSG_CHANNEL_DATA or _HEAD.size + length + padding != len(opened) or not length:
            return False
        channel = connection._channels.get(number)
        if channel is not self._channel:
            self._deliver()
            self._channel = channel
        if (
            channel is None
            or channel._recv_state != "open"
            or self._bytes + length > channel._recv_window
        ):
            return False
        count = (int.from_bytes(nonce[COUNT_AT:], "big") + 1) % COUNTS
        cipher._iv = nonce[:COUNT_AT] + count.to_bytes(8, "big")
        connection._recv_seq = (connection._recv_seq + 1) & 0xFFFFFFFF
        self._pieces.append(memoryview(opened)[_HEAD.size : _HEAD.size + length])
        self._bytes += length
        self.taken += 1
        return True

    def _deliver(self) -> None:
        """Give the channel what was kept for it."""
        if self._bytes:
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._bytes = 0
            self._channel._accept_data(data)

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
