"""An event loop whose time is virtual: when nothing is ready it jumps to the next timer.

Hours pass in milliseconds, `asyncio.timeout` works, and a deadlock (nothing is ready and no timer
is set) is reported instead of hanging. Threads and sockets do not mix with it.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

Answer = TypeVar("Answer")
Arguments = ParamSpec("Arguments")


class Deadlock(AssertionError):
    """Nothing is ready and no timer is set: nobody would ever wake up."""


class _Selector(selectors.DefaultSelector):
    """Never waits: it moves the loop's time on instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise Deadlock("nothing is ready and no timer is set")
        self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop. `time()` starts at zero."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def run_virtually(main: Coroutine[Any, Any, Answer]) -> Answer:
    """Run to completion on a virtual loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtually(
    test: Callable[Arguments, Coroutine[Any, Any, Answer]],
) -> Callable[Arguments, Answer]:
    """Decorate a test so that all of it happens on virtual time."""

    @functools.wraps(test)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        return run_virtually(test(*args, **kwargs))

    return run
