"""What the observers look at and tell, all of it faked, on the loop's time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, TypeVar

from stackward.app.bulletin import Bulletin
from stackward.core.snapshot import Snapshot, Totals
from stackward.errors import TransportError
from stackward.model.event import Event
from stackward.model.guest import FactBlock, LogChunk, LogPosition
from stackward.model.identity import TargetId
from stackward.model.plan import Plan
from stackward.model.target import HypervisorHost, Target
from stackward.observe.equipment import Equipment
from tests.builders import HOST, a_fleet, a_policy, a_state
from tests.fakes.clock import LoopClock
from tests.fakes.log import MemoryLog
from tests.fakes.switches import MemorySink

Kind = TypeVar("Kind")


class Watchtower:
    """The equipment of an observer, and the fleet that was published last."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.log = MemoryLog()
        self.sink = MemorySink()
        self.bulletin = Bulletin()
        self.equipment = Equipment(
            sink=self.sink,
            snapshots=self.bulletin,
            clock=self.clock,
            log=self.log,
            random=Random(1),
        )
        self._rounds = 0

    def publish(self, *targets: Target, host: HypervisorHost = HOST, **changes: Any) -> None:
        """A new listing and its snapshot."""
        self._rounds += 1
        now = self.clock.now()
        fleet = a_fleet(
            *(a_state(target=target) for target in targets),
            hosts={host.id: host},
            **{"inventory_at": now, **changes},
        )
        self.bulletin.publish(
            Snapshot(
                taken_at=now,
                started_at=now,
                round_number=self._rounds,
                fleet=fleet,
                policy=a_policy(),
                health={},
                diagnoses={},
                fleet_diagnoses=(),
                plan=Plan(made_at=now),
                totals=Totals(),
            )
        )

    def told(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.sink.events if isinstance(event, kind)]

    def told_of(self, target: Target) -> list[Event]:
        return [e for e in self.sink.events if getattr(e, "target_id", None) == target.id]

    def logged(self, event: str) -> list[dict[str, object]]:
        return [values for _, said, values in self.log.told if said == event]


@asynccontextmanager
async def running(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """An observer at work while the block lasts."""

    async def run() -> None:
        await work()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run())
        try:
            yield
        finally:
            task.cancel()


class Sections(dict[str, tuple[str, ...]]):
    """Crashes whoever reads it."""

    def get(self, *_: object) -> Any:
        raise ZeroDivisionError("a bug in a reader")

    __getitem__ = __contains__ = get


@dataclass
class FakeGuests:
    """Answers after `latency`; `hung` never do, `troubles` raise, `crashing` crash their reader."""

    clock: LoopClock = field(default_factory=LoopClock)
    latency: float = 0.05
    hung: set[TargetId] = field(default_factory=set)
    troubles: dict[TargetId, TransportError] = field(default_factory=dict)
    crashing: set[TargetId] = field(default_factory=set)
    asked: list[tuple[TargetId, datetime, int]] = field(default_factory=list)
    in_flight: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    retained: list[frozenset[TargetId]] = field(default_factory=list)
    logs: dict[TargetId, list[LogChunk | TransportError | float]] = field(default_factory=dict)
    followed: list[tuple[TargetId, LogPosition | None, float]] = field(default_factory=list)

    async def ask(
        self, target: Target, host: HypervisorHost | None, tick: int, *, timeout: float
    ) -> FactBlock:
        asked_at = self.clock.now()
        self.asked.append((target.id, asked_at, tick))
        keys = (f"vm {target.id}", f"host {target.host_id}", f"zone {target.zone_id}", "all")
        self.in_flight.update(keys)
        for key in keys:
            self.most[key] = max(self.most[key], self.in_flight[key])
        try:
            await asyncio.sleep(1e9 if target.id in self.hung else self.latency)
        finally:
            self.in_flight.subtract(keys)
        if target.id in self.troubles:
            raise self.troubles[target.id]
        return FactBlock(
            tick=tick,
            loop_version=1,
            sections=Sections() if target.id in self.crashing else {},
            asked_at=asked_at,
            received_at=self.clock.now(),
        )

    def asked_at(self, target: Target) -> list[datetime]:
        return [at for target_id, at, _ in self.asked if target_id == target.id]

    async def follow(
        self, target: Target, host: HypervisorHost | None, resume: LogPosition | None
    ) -> AsyncIterator[LogChunk]:
        """Plays what is in `logs`: chunks, waits in seconds, an end by trouble."""
        self.followed.append((target.id, resume, self.clock.monotonic()))
        script = self.logs.setdefault(target.id, [])
        while True:
            while not script:
                await asyncio.sleep(0.01)
            match script.pop(0):
                case LogChunk() as chunk:
                    yield chunk
                case TransportError() as trouble:
                    raise trouble
                case float(seconds):
                    await asyncio.sleep(seconds)

    async def retain(self, target_ids: frozenset[TargetId]) -> None:
        self.retained.append(target_ids)

    async def run(self, *_: object, **__: object) -> Any:
        raise AssertionError("observers run no commands")

    async def close(self) -> None:
        pass
