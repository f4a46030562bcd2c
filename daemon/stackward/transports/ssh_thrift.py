# ruff: noqa: SLF001  reads the private parts of the library, as said below
"""What an SSH connection is spared: work of the library that a fleet pays with every poll.

Each of these reaches into asyncssh's own parts. Should the library one day do the thing by another
method, nothing is lost but the saving.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

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


def spare_keepalive_timers(connection: Any) -> None:
    """Let a keep-alive timer run out and look then, where the library starts a new one per packet.

    When one is sent stays as it was: so long after the last bytes were heard.
    """
    is_known = hasattr(connection, "_reset_keepalive_timer") and hasattr(
        connection, "_keepalive_timer_callback"
    )
    if not is_known:
        return
    loop = asyncio.get_running_loop()
    ask: Callable[[], None] = connection._keepalive_timer_callback
    heard_at = loop.time()

    def note() -> None:
        nonlocal heard_at
        heard_at = loop.time()

    def when_due() -> None:
        rest = heard_at + connection._keepalive_interval - loop.time()
        if rest <= 0:
            ask()
        else:
            connection._keepalive_timer = loop.call_later(rest, when_due)

    connection._reset_keepalive_timer = note
    connection._keepalive_timer_callback = when_due


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
