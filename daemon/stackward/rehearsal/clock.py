"""The rehearsal's own time: it is a world beside the daemon's and may not share its clock."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime


def world_now() -> datetime:
    """The time in the rehearsed world, aware and in UTC."""
    return datetime.now(UTC)  # noqa: TID251  the world outside the daemon has a clock of its own


class Timers:
    """What is going to happen: actions on the running loop, all of them dropped by `close`."""

    def __init__(self) -> None:
        self._handles: set[asyncio.TimerHandle] = set()
        self._is_closed = False

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do this once, in so many seconds."""
        if self._is_closed:
            return

        def fire() -> None:
            self._handles.discard(handle)
            action()

        handle = asyncio.get_running_loop().call_later(seconds, fire)
        self._handles.add(handle)

    def every(self, seconds: float, action: Callable[[], None]) -> None:
        """Do this again and again, the first time after one interval."""

        def again() -> None:
            self.after(seconds, again)
            action()

        self.after(seconds, again)

    def close(self) -> None:
        """Nothing more happens."""
        self._is_closed = True
        for handle in self._handles:
            handle.cancel()
        self._handles.clear()
