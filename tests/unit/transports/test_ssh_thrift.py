"""What asyncssh is spared changes no byte that it sends."""

from random import Random
from types import SimpleNamespace

import asyncssh
import pytest
from asyncssh.crypto import GCMCipher

from stackward.transports.ssh_thrift import KEEPALIVE_PARTS, spare_key_schedules


def ours():
    module = SimpleNamespace(GCMCipher=GCMCipher)
    spare_key_schedules(module)
    return module.GCMCipher


@pytest.mark.parametrize(("name", "key_bytes"), [("aes128-gcm", 16), ("aes256-gcm", 32)])
def test_packets_are_sealed_as_by_the_library(name, key_bytes):
    dice = Random(5)
    key = dice.randbytes(key_bytes)
    # The counter of the nonce starts anywhere, also short of its end.
    for iv in (dice.randbytes(12), dice.randbytes(4) + b"\xff" * 7 + b"\xfe"):
        plain, thrifty = GCMCipher(name, key, iv), ours()(name, key, iv)
        for size in (16, 32, 1024, 32768):
            header, data = dice.randbytes(4), dice.randbytes(size)
            assert thrifty.encrypt_and_sign(header, data) == plain.encrypt_and_sign(header, data)


def test_the_library_has_the_parts_that_are_spared():
    """Without them everything works and costs more; then this saving must be looked at again."""
    assert issubclass(vars(asyncssh.encryption)["GCMCipher"], GCMCipher)
    for part in (*KEEPALIVE_PARTS, "log_sent_packet", "log_received_packet"):
        assert callable(getattr(asyncssh.SSHClientConnection, part))


def test_a_cipher_is_replaced_once():
    module = SimpleNamespace(GCMCipher=GCMCipher)
    spare_key_schedules(module)
    first = module.GCMCipher
    spare_key_schedules(module)
    assert module.GCMCipher is first
    spare_key_schedules(SimpleNamespace())  # a library without it is left alone
