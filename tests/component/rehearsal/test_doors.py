"""The doors of the rehearsal: nothing that was sent through an open door is lost."""

import asyncio

import pytest

from stackward.rehearsal.doors import Door, _Relay


class EagerTransport(asyncio.Transport):
    """Delivers whatever comes, paused or not, as Python 3.11.2 does right after a connect."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_paused = False

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def abort(self) -> None:
        pass


@pytest.fixture
async def relay():
    door = Door("127.0.0.1")
    yield _Relay(door)
    door.close()


async def test_what_comes_before_the_far_end_stands_is_passed_on_in_order(relay):
    near, far = EagerTransport(), EagerTransport()
    relay.near.connection_made(near)
    relay.near.data_received(b"SSH-2.0-")
    relay.near.data_received(b"me\r\n")
    assert near.is_paused
    relay.far.connection_made(far)
    relay.near.data_received(b"more")
    assert far.written == b"SSH-2.0-me\r\nmore"
    assert not near.is_paused
