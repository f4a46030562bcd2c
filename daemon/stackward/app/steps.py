"""Steps in flight: each in a task of its own, all in one group, with a grace at the end."""

import asyncio

from stackward.act.executor import Executor
from stackward.model.identity import IntentId
from stackward.model.plan import Step
from stackward.ports import Log


class Steps:
    """Starts steps and knows which are under way."""

    def __init__(self, executor: Executor, group: asyncio.TaskGroup, log: Log) -> None:
        self._executor = executor
        self._group = group
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, step: Step, intent_id: IntentId) -> None:
        """Carry a step out; its outcome comes back as an event."""
        task = self._group.create_task(self._run(step, intent_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, step: Step, intent_id: IntentId) -> None:
        await self._executor.run(step, intent_id)  # which tells the log how it ended

    async def drain(self, grace_seconds: float) -> None:
        """Wait for what is under way; then leave it open for the next start to look at."""
        if self._tasks:
            self._log.info("steps under way get their grace", steps=len(self._tasks))
            await asyncio.wait(set(self._tasks), timeout=grace_seconds)
        for task in set(self._tasks):
            task.cancel()
