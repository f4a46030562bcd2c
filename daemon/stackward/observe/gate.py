"""A limit on how many may be inside at once. As a semaphore, but free places cost one plain call.

`asyncio.Semaphore` takes a coroutine and some calls for each; the prober passes three gates per
question, thousands of times a second.
"""

import asyncio
from collections import deque


class Gate:
    """So many places. Who comes when it is full waits in line."""

    __slots__ = ("_free", "_line")

    def __init__(self, places: int) -> None:
        self._free = places
        self._line: deque[asyncio.Future[None]] = deque()

    def try_enter(self) -> bool:
        """Go in if there is a place; nobody waits while there is one."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    async def enter(self) -> None:
        """Go in, or wait in line until somebody leaves."""
        if self.try_enter():
            return
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(called)
        try:
            await called
        except asyncio.CancelledError:
            if called.done() and not called.cancelled():
                self.leave()  # the place came in the same moment
            raise

    def leave(self) -> None:
        """Hand the place to the first in line, if any still waits."""
        while self._line:
            called = self._line.popleft()
            if not called.done():
                called.set_result(None)
                return
        self._free += 1
