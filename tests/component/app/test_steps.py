"""Steps under way: each in a task, a grace at the end, and no tidying up after it."""

import asyncio
from typing import Any

from stackward.app.steps import Steps
from stackward.model.identity import IntentId
from stackward.model.outcome import Outcome, OutcomeKind
from stackward.model.plan import Step
from tests.component.act.stage import a_step
from tests.fakes.log import MemoryLog
from tests.fakes.virtual_loop import virtually


class SlowExecutor:
    """Each step takes as many seconds as its attempt says."""

    def __init__(self) -> None:
        self.ended: list[IntentId] = []
        self.cancelled: list[IntentId] = []

    async def run(self, step: Step, intent_id: IntentId) -> Outcome:
        try:
            await asyncio.sleep(step.attempt)
        except asyncio.CancelledError:
            self.cancelled.append(intent_id)
            raise
        self.ended.append(intent_id)
        return Outcome(OutcomeKind.SUCCEEDED, "proved")


def steps_in(group: asyncio.TaskGroup, executor: Any) -> Steps:
    return Steps(executor, group, MemoryLog())


@virtually
async def test_steps_run_beside_each_other():
    executor = SlowExecutor()
    async with asyncio.TaskGroup() as group:
        steps = steps_in(group, executor)
        for number in range(10):
            steps.start(a_step(attempt=5), IntentId(f"intent-{number}"))
    assert len(executor.ended) == 10
    assert asyncio.get_running_loop().time() == 5


@virtually
async def test_what_ends_within_the_grace_ends_and_the_rest_is_left_open():
    executor = SlowExecutor()
    async with asyncio.TaskGroup() as group:
        steps = steps_in(group, executor)
        steps.start(a_step(attempt=3), IntentId("quick"))
        steps.start(a_step(attempt=300), IntentId("slow"))
        await asyncio.sleep(1)
        await steps.drain(20)
        assert asyncio.get_running_loop().time() == 21
    assert (executor.ended, executor.cancelled) == (["quick"], ["slow"])


@virtually
async def test_with_nothing_under_way_the_end_takes_no_time():
    async with asyncio.TaskGroup() as group:
        await steps_in(group, SlowExecutor()).drain(20)
    assert asyncio.get_running_loop().time() == 0
