"""The control loop with everything round it faked, and a cloud that tells it what to see."""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from stackward.app.bulletin import Bulletin
from stackward.app.control_loop import ControlLoop, Neighbours
from stackward.app.inbox import Inbox
from stackward.app.notebook import Notebook
from stackward.app.picture import Picture
from stackward.core.replay import Remembered
from stackward.core.snapshot import Snapshot, Totals
from stackward.model.event import Observed, PathTold, Sighted, SourceTold, TargetsListed
from stackward.model.guest import GuestReadings
from stackward.model.identity import IntentId, TargetId
from stackward.model.plan import Step
from stackward.model.target import Capabilities, Target
from stackward.model.verdict import Failed, Passed, ProbeName, Sign, Source, Verdict
from tests.builders import (
    API_COMMANDS,
    MARKS,
    a_policy,
    a_position,
    a_target,
    an_inventory,
    observed,
)
from tests.fakes.clock import LoopClock
from tests.fakes.journal import MemoryJournal
from tests.fakes.log import MemoryLog
from tests.fakes.switches import FakePause

EVERY_SECONDS = 5.0  # how often the cloud tells how it is


class MemoryDemotion:
    """Implements `DemotionSwitch` in memory."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def demote(self, reason: str, at: datetime) -> None:
        del at
        self.reason = reason


class Room:
    """A fleet of `targets`; those in `sick` have a dead agent."""

    def __init__(self, *targets: Target, **settings: Any) -> None:
        self.targets = list(targets or (a_target("v-2-VM"), a_target("s-1-VM")))
        self.sick: set[TargetId] = set()
        self.clock = LoopClock()
        self.log = MemoryLog()
        self.journal: MemoryJournal = settings.pop("journal", None) or MemoryJournal()
        self.pause = FakePause()
        self.demotion = MemoryDemotion()
        self.inbox = Inbox()
        self.bulletin = Bulletin()
        self.handed_out: list[tuple[Step, IntentId]] = []
        self.fed: list[str] = []
        self.is_held_back = False
        self._ids = itertools.count(1)
        self.loop = ControlLoop(
            self.inbox,
            self.bulletin,
            Picture(settings.pop("remembered", Remembered())),
            Notebook(self.journal, self.clock, self.log, positions_every=5.0),
            self._neighbours(),
            self.clock,
            self.log,
            policy=settings.pop("policy", None) or a_policy(),
            **settings,
        )

    def _neighbours(self) -> Neighbours:
        return Neighbours(
            pause=self.pause,
            demotion=self.demotion,
            capabilities=lambda: Capabilities(
                version="4.20.1.0", commands=dict.fromkeys(API_COMMANDS, frozenset[str]())
            ),
            count=Totals,
            new_intent_id=lambda: IntentId(f"intent-{next(self._ids)}"),
            start_step=lambda step, intent_id: self.handed_out.append((step, intent_id)),
            held_back_by=lambda: "the house is not ready" if self.is_held_back else "",
            feed_watchdog=self.fed.append,
        )

    @asynccontextmanager
    async def running(self, *, is_telling: bool = True):
        """The loop at work, and the cloud telling how it is."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.loop.run())]
            if is_telling:
                tasks.append(group.create_task(self._keep_telling()))
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    async def _keep_telling(self) -> None:
        while True:
            self.tell()
            await self.clock.sleep(EVERY_SECONDS)

    def tell(self) -> None:
        """One listing, and one answer of every source about every VM."""
        now = self.clock.now()
        self.inbox.put(SourceTold(source=Source.API, is_up=True, detail="", at=now))
        self.inbox.put(TargetsListed(an_inventory(*self.targets, at=now)))
        for target in self.targets:
            for event in self._answers(target, now):
                self.inbox.put(event)

    def _answers(self, target: Target, now: datetime) -> tuple[Observed | PathTold | Sighted, ...]:
        inside: Mapping[ProbeName, Verdict] = {
            ProbeName.AGENT_UNIT: Passed("active"),
            ProbeName.AGENT_PROCESS: Passed("java"),
            ProbeName.AGENT_LINK: Passed("connected"),
        }
        agent: Verdict = Passed("Up")
        if target.id in self.sick:
            inside = {
                ProbeName.AGENT_UNIT: Failed(Sign.UNIT_FAILED, "failed"),
                ProbeName.AGENT_PROCESS: Failed(Sign.JVM_MISSING, "no java"),
                ProbeName.AGENT_LINK: Failed(Sign.LINK_DOWN, "no socket"),
            }
            agent = Failed(Sign.AGENT_NOT_UP, "Alert")
        cloud = ((ProbeName.CLOUD_STATE, Passed("Running")), (ProbeName.CLOUD_AGENT, agent))
        return (
            observed(*cloud, at=now, target_id=target.id, source=Source.API),
            PathTold(target_id=target.id, leg=None, detail="", at=now),
            Sighted(target_id=target.id, sightings=(), position=a_position(), at=now),
            observed(
                *inside.items(),
                at=now,
                target_id=target.id,
                marks=MARKS,
                readings=GuestReadings(uptime_seconds=1e6),
            ),
        )

    def fall_sick(self, name: str = "v-2-VM") -> Target:
        target = next(one for one in self.targets if one.name == name)
        self.sick.add(target.id)
        return target

    @property
    def snapshot(self) -> Snapshot:
        snapshot = self.bulletin.latest()
        assert snapshot is not None
        return snapshot

    async def until(self, is_there: Callable[[], bool], seconds: float = 600.0) -> None:
        """Let time pass until it is so; TimeoutError if it never is."""
        async with asyncio.timeout(seconds):
            while not is_there():
                await self.clock.sleep(0.5)

    def told(self, event: str) -> list[dict[str, object]]:
        return [values for _, said, values in self.log.told if said == event]
