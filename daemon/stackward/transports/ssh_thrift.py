# ruff: noqa: SLF001  reads the private parts of the library, as said below
"""What an SSH connection is spared: work of the library that a fleet pays with every poll.

Each of these reaches into asyncssh's own parts. Should the library one day do the thing by another
method, nothing is lost but the saving.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stackward.transports.ssh_limits import Deadlines

KEEPALIVE_PARTS = (
    "_reset_keepalive_timer",
    "_set_keepalive_timer",
    "_cancel_keepalive_timer",
    "_keepalive_timer_callback",
)

_MSG_IGNORE = 2  # RFC 4253, 12
_TAG_BYTES = 16


def spare_ignored_packets(connection: Any) -> None:
    """Send no SSH_MSG_IGNORE (RFC 4253, 11.2) before each packet.

    The library puts one there against an attack on CBC ciphers, which are not among ours. They
    double the packets, and through a jump make six of two.
    """
    send: Callable[..., None] = connection.send_packet

    def send_packet(pkttype: int, *args: bytes, handler: object = None) -> None:
        if pkttype != _MSG_IGNORE:
            send(pkttype, *args, handler=handler)

    connection.send_packet = send_packet


def spare_packet_logs(speaker: Any) -> None:
    """Make no line of a log for each packet: none is ever kept, and its words are made first."""
    speaker.log_sent_packet = speaker.log_received_packet = _say_nothing


def _say_nothing(*_: object) -> None:
    pass


def spare_keepalive_timers(connection: Any, deadlines: Deadlines) -> None:
    """Look when a keep-alive is due, where the library starts a new timer for each packet.

    One is sent when so long nothing was heard, as before, or up to one step of `deadlines` later.
    """
    if all(hasattr(connection, part) for part in KEEPALIVE_PARTS):
        watch = _KeepAlive(connection, deadlines)
        connection._reset_keepalive_timer = watch.note_data
        connection._set_keepalive_timer = watch.start
        connection._cancel_keepalive_timer = watch.end


class _KeepAlive:
    """In the place of the library's timer; what is done when it is due remains the library's."""

    def __init__(self, connection: Any, deadlines: Deadlines) -> None:
        self._connection = connection
        self._deadlines = deadlines
        self._now = asyncio.get_running_loop().time
        self._heard_at = self._now()
        self._is_over = False

    def start(self) -> None:
        """Count from now on."""
        self._heard_at = self._now()
        self._wait()

    def note_data(self) -> None:
        """Something was heard: this comes with every packet."""
        self._heard_at = self._now()

    def end(self) -> None:
        """The connection is gone."""
        self._is_over = True
        self._deadlines.drop(self)

    def give_up(self) -> None:
        """The time is over if nothing was heard in it."""
        if self._is_over:
            return
        if self._now() - self._heard_at >= self._connection._keepalive_interval:
            self._connection._keepalive_timer_callback()
        else:
            self._wait()

    def _wait(self) -> None:
        interval = self._connection._keepalive_interval
        if interval:
            self._deadlines.add(self, self._heard_at + interval)


def spare_key_schedules(encryption: Any) -> None:
    """Make the schedule of an AES-GCM key once (RFC 5647), not for each packet sent.

    `encryption` is the library's module of that name, which makes its ciphers from its own class.
    What is received is opened in ssh_stream.py.
    """
    theirs = getattr(encryption, "GCMCipher", None)
    if theirs is None or issubclass(theirs, _SealsWithOneSchedule):
        return
    encryption.GCMCipher = type("GCMCipher", (_SealsWithOneSchedule, theirs), {})


class _SealsWithOneSchedule:
    """A cipher's sealing half. Its nonce is four bytes that stay and a counter of packets."""

    _iv: bytes

    def __init__(self, cipher_name: str, key: bytes, iv: bytes) -> None:
        super().__init__(cipher_name, key, iv)  # type: ignore[call-arg]  # the library's class
        self._seal = AESGCM(key).encrypt

    def encrypt_and_sign(self, header: bytes, data: bytes) -> tuple[bytes, bytes]:
        """The packet with its header in clear, and its tag."""
        nonce = self._iv
        sealed = self._seal(nonce, data, header)
        count = (int.from_bytes(nonce[4:]) + 1) % 2**64
        self._iv = nonce[:4] + count.to_bytes(8)
        return header + sealed[:-_TAG_BYTES], sealed[-_TAG_BYTES:]
