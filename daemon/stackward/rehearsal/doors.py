"""A listening socket that can be shut, or made to hang, while what stands behind it lives on.

The faults of networks and of hung machines are made here and nowhere else, so that a server behind
a door is never touched: it is the wire that is cut, or goes silent.
"""

import asyncio
import contextlib
import socket
from enum import StrEnum

_BACKLOG = 512
_CONNECT_SECONDS = 10.0


class Passage(StrEnum):
    """How a door behaves."""

    OPEN = "open"
    SHUT = "shut"  # connects are refused, and what was connected is cut
    HUNG = "hung"  # connects are taken, and nothing moves any more


class _End(asyncio.Protocol):
    """One end of a relayed connection."""

    def __init__(self, relay: "_Relay") -> None:
        self.relay = relay
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.relay.made(self)

    def data_received(self, data: bytes) -> None:
        self.relay.pass_on(self, data)

    def eof_received(self) -> bool:
        self.relay.pass_eof(self)
        return True

    def pause_writing(self) -> None:
        self.relay.hold_back(self, is_full=True)

    def resume_writing(self) -> None:
        self.relay.hold_back(self, is_full=False)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.relay.abort()


class _Relay:
    """Two ends and what moves between them."""

    def __init__(self, door: "Door") -> None:
        self._door = door
        self.near = _End(self)
        self.far = _End(self)
        self._full: set[_End] = set()
        self._early = b""

    def made(self, end: _End) -> None:
        if end is self.near:
            self._door.taken(self)
        elif self._early and end.transport is not None:
            end.transport.write(self._early)
        self.settle()

    def settle(self) -> None:
        """Read from an end when the other can take it and the door lets it through."""
        for end, other in ((self.near, self.far), (self.far, self.near)):
            if end.transport is None or end.transport.is_closing():
                continue
            has_taker = self._door.is_sink or other.transport is not None
            may = has_taker and other not in self._full and self._door.is_open
            if may:
                end.transport.resume_reading()
            else:
                end.transport.pause_reading()

    def pass_on(self, end: _End, data: bytes) -> None:
        other = self.far if end is self.near else self.near
        if other.transport is not None:
            other.transport.write(data)
        elif not self._door.is_sink and end.transport is not None:
            # Python 3.11.2 starts to read after connection_made, whatever was paused in it, and
            # takes a second pause for done. So keep what came, and pause in a way that counts.
            self._early += data
            end.transport.resume_reading()
            end.transport.pause_reading()

    def pass_eof(self, end: _End) -> None:
        other = self.far if end is self.near else self.near
        if self._door.is_sink:
            self.abort()
        elif other.transport is not None and not other.transport.is_closing():
            other.transport.write_eof()

    def hold_back(self, end: _End, *, is_full: bool) -> None:
        if is_full:
            self._full.add(end)
        else:
            self._full.discard(end)
        self.settle()

    def abort(self) -> None:
        for end in (self.near, self.far):
            if end.transport is not None:
                end.transport.abort()
        self._door.left(self)

    async def reach(self, upstream: tuple[str, int]) -> None:
        """Connect the far end."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await loop.create_connection(lambda: self.far, *upstream)
        except (OSError, TimeoutError):
            self.abort()
        if self.near.transport is None or self.near.transport.is_closing():
            self.abort()


class Door:
    """One address and port, and what it leads to (`lead_to`); before that, who comes waits.

    `is_sink`: it leads nowhere, whatever is sent is taken and dropped.
    The port is known at once, before `serve` runs. When the door is shut its socket is closed; the
    address is the rehearsal's own, so the port is still free afterwards.
    """

    def __init__(
        self,
        address: str,
        port: int = 0,
        *,
        passage: Passage = Passage.OPEN,
        is_sink: bool = False,
    ) -> None:
        self.address = address
        self.is_sink = is_sink
        self._socket = socket.create_server((address, port), backlog=_BACKLOG)
        self.port: int = self._socket.getsockname()[1]
        self._upstream: tuple[str, int] | None = None
        self.passage = Passage.OPEN
        self._server: asyncio.Server | None = None
        self._relays: set[_Relay] = set()
        self._news = asyncio.Event()
        self._waiting: list[_Relay] = []
        self.turn(passage)

    @property
    def is_open(self) -> bool:
        return self.passage is Passage.OPEN

    @property
    def place(self) -> tuple[str, int]:
        return self.address, self.port

    def lead_to(self, upstream: tuple[str, int]) -> None:
        """This stands behind the door from now on; who waited already is led on."""
        self._upstream = upstream
        self._news.set()

    def turn(self, passage: Passage) -> None:
        """From now on the door is like this."""
        self.passage = passage
        if passage is Passage.SHUT:
            self._stop_listening()
            self.cut()
        elif self._socket.fileno() < 0:
            self._socket = socket.create_server((self.address, self.port), backlog=_BACKLOG)
        for relay in tuple(self._relays):
            relay.settle()
        self._news.set()

    def cut(self) -> None:
        """Break every connection there is."""
        for relay in tuple(self._relays):
            relay.abort()

    async def serve(self) -> None:
        """Be a door until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._news.clear()
                    if self._server is None and self._socket.fileno() >= 0:
                        # Named before it serves: a door that is shut while the server starts
                        # must find the server.
                        self._server = await loop.create_server(
                            lambda: _Relay(self).near, sock=self._socket, start_serving=False
                        )
                        await self._server.start_serving()
                    if self.is_open and self._upstream is not None:
                        waiting, self._waiting = self._waiting, []
                        for relay in waiting:
                            group.create_task(relay.reach(self._upstream))
                    await self._news.wait()
        finally:
            self._stop_listening()
            self.cut()

    def close(self) -> None:
        """For a door that is never served."""
        self._stop_listening()

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        with contextlib.suppress(OSError):
            self._socket.close()

    # --- told by the relays -----------------------------------------------------------------------

    def taken(self, relay: _Relay) -> None:
        self._relays.add(relay)
        self._waiting.append(relay)
        self._news.set()

    def left(self, relay: _Relay) -> None:
        self._relays.discard(relay)
        if relay in self._waiting:
            self._waiting.remove(relay)
