"""Kills the daemon at its n-th call to the world: right before the call has effect, or right after.

Wrap every port in one switch; the calls are counted over all of them.
"""

import asyncio
import inspect
from enum import StrEnum
from typing import Any


class Killed(BaseException):
    """kill -9, as far as code can see it: nothing that runs afterwards belongs to the daemon."""


class Manner(StrEnum):
    """How it dies. CANCELLED is an orderly stop in mid-step."""

    BEFORE = "before"
    AFTER = "after"
    CANCELLED = "cancelled"


class KillSwitch:
    """Counts calls, and strikes at the n-th. `at` None: only counts."""

    def __init__(self, at: int | None = None, manner: Manner = Manner.BEFORE) -> None:
        self.calls: list[str] = []
        self._at = at
        self._manner = manner

    def wrap(self, port: Any) -> Any:
        return _Wrapped(port, self)

    def _strikes(self, name: str) -> bool:
        self.calls.append(name)
        return len(self.calls) == self._at

    def call(self, name: str, method: Any, args: Any, kwargs: Any) -> Any:
        strikes = self._strikes(name)
        if inspect.iscoroutinefunction(method):
            return self._call_async(strikes, method, args, kwargs)
        if strikes and self._manner is Manner.BEFORE:
            raise Killed(name)
        answer = method(*args, **kwargs)
        if strikes and self._manner is Manner.AFTER:
            raise Killed(name)
        return answer

    async def _call_async(self, strikes: bool, method: Any, args: Any, kwargs: Any) -> Any:
        if strikes and self._manner is Manner.BEFORE:
            raise Killed
        if strikes and self._manner is Manner.CANCELLED:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        answer = await method(*args, **kwargs)
        if strikes and self._manner is Manner.AFTER:
            raise Killed
        return answer


class _Wrapped:
    def __init__(self, port: Any, switch: KillSwitch) -> None:
        self._port = port
        self._switch = switch

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if not callable(method):
            return method
        return lambda *args, **kwargs: self._switch.call(name, method, args, kwargs)
