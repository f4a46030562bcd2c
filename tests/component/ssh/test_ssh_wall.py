"""What a peer's bytes do to the library costs one way, not the daemon."""

import asyncio
from typing import Any

import pytest

from stackward.errors import Garbled, Leg
from stackward.transports.ssh import SshWay
from stackward.transports.ssh_channels import CommandChannel
from stackward.transports.ssh_places import VM_LEGS, Place

PLACE = Place(said="s-1-VM", alias="s-1-VM", address="192.0.2.1", port=3922, legs=VM_LEGS)


class BrokenConnection:
    """Stands where the library's own state has been broken by what came in."""

    is_aborted = False

    async def create_session(self, *_arguments: object, **_options: object) -> None:
        raise AttributeError("'NoneType' object has no attribute 'send'")

    def is_closed(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True


async def test_a_library_that_fails_while_a_channel_opens_ends_that_way_alone():
    connection: Any = BrokenConnection()
    way = SshWay(PLACE, connection, None)
    conversation = CommandChannel(PLACE.said, bytes_max=10, flood_bytes_max=10)
    with pytest.raises(Garbled, match="a channel failed") as caught:
        await way.open(conversation, "true", asyncio.get_running_loop().time() + 60)
    assert caught.value.leg is Leg.CHANNEL
    assert connection.is_aborted
    assert way.is_closed
    conversation.close()
