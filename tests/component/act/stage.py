"""The stage for the tests of acting: a small cloud, a journal, a step, and the tools over them."""

import itertools
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from stackward.act.executor import Executor
from stackward.act.tools import Tools
from stackward.model.diagnosis import Diagnosis, DiagnosisCode, Subject
from stackward.model.entry import Entry, EntryKind
from stackward.model.event import StepBegun, StepFinished, StepStarted
from stackward.model.identity import IntentId
from stackward.model.outcome import Outcome
from stackward.model.plan import ActionName, Mode, Step
from tests.builders import a_position
from tests.fakes.clock import EPOCH, LoopClock
from tests.fakes.journal import CLOSING, MemoryJournal
from tests.fakes.kill import KillSwitch
from tests.fakes.log import MemoryLog
from tests.fakes.small_cloud import TARGET, SmallCloud
from tests.fakes.switches import FakePause, MemorySink


def a_step(action: ActionName = ActionName.RESTART_AGENT, **changes: Any) -> Step:
    """A step that the small cloud justifies as it begins."""
    marks = SmallCloud(MemoryJournal()).marks
    step = Step(
        target_id=TARGET.id,
        target_name=TARGET.name,
        zone_id=TARGET.zone_id,
        action=action,
        diagnosis=Diagnosis(
            code=DiagnosisCode.AGENT_DOWN,
            subject=Subject(target_id=TARGET.id),
            since=EPOCH,
            sentence="The agent is dead.",
            evidence=("unit failed",),
        ),
        rule="revive-agent",
        rung=0,
        attempt=1,
        mode=Mode.ACT,
        is_disruptive=True,
        marks=marks,
        log_position=a_position(1000),
        verify_within=timedelta(minutes=3),
        explanation="restart the agent: its unit failed",
        episode_id="episode-1",
    )
    return replace(step, **changes)


@dataclass
class Stage:
    """Everything one daemon stands on. A new daemon on the same stage: `tools()` once more."""

    journal: MemoryJournal = field(default_factory=MemoryJournal)
    log: MemoryLog = field(default_factory=MemoryLog)
    pause: FakePause = field(default_factory=FakePause)
    sink: MemorySink = field(default_factory=MemorySink)
    crashes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cloud = SmallCloud(self.journal)
        self._ids = itertools.count(1)

    async def run(self, tools: Tools, step: Step) -> Outcome:
        """One step under an id of its own."""
        return await Executor(tools).run(step, IntentId(f"intent-{next(self._ids)}"))

    def tools(self, switch: KillSwitch | None = None, **changes: Any) -> Tools:
        wrap = KillSwitch().wrap if switch is None else switch.wrap
        tools = Tools(
            api=wrap(self.cloud),
            guests=wrap(self.cloud),
            journal=wrap(self.journal),
            clock=_SleepOnly(wrap(LoopClock())),
            log=self.log,
            pause=wrap(self.pause),
            sink=wrap(self.sink),
            snapshots=wrap(self.cloud),
            read_facts=self.cloud.read_facts,
            count_crash=self.crashes.append,
        )
        return replace(tools, **changes)

    @property
    def kinds(self) -> list[EntryKind]:
        return [entry.kind for entry in self.journal.written]

    @property
    def outcomes(self) -> list[Outcome]:
        found = [entry for entry in self.journal.written if entry.kind in CLOSING]
        assert all(entry.outcome is not None for entry in found)
        return [entry.outcome for entry in found if entry.outcome is not None]

    @property
    def told(self) -> list[type]:
        return [type(event) for event in self.sink.events]

    @property
    def last(self) -> Entry:
        return self.journal.written[-1]


class _SleepOnly:
    """The clock as the kill switch should see it: telling the time is no call to the world."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped
        self._clock = LoopClock()
        self.now = self._clock.now
        self.monotonic = self._clock.monotonic

    async def sleep(self, seconds: float) -> None:
        await self._wrapped.sleep(seconds)


ALL_TOLD = [StepStarted, StepBegun, StepFinished]
