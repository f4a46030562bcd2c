"""Kill -9 the daemon again and again, and compare what was asked of the cloud with its journal."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.simulation.books import Row, faults_in_the_books, open_intents
from tests.simulation.stage import REBOOT, Stage

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("crash")]

STAGES, KILLS = 3, 51
# What it is killed right after, and how often each is chosen. Else at any time.
MOMENTS = {"intent": 2, "begun": 4, "request": 4, "accepted": 2, "proof": 3, "outcome": 1}
ANY_TIME_SHARE = 0.25
PATIENCE_SECONDS = (0.5, 6.0)
KILLING_SECONDS = 80.0
FIRST_REQUEST_SECONDS = 40.0
SETTLE_SECONDS = 60.0
STOP_AT_EVERY = 6


@pytest.fixture(autouse=True)
async def _nothing_left_open() -> AsyncIterator[None]:
    """Close what belongs to nobody: a connection that a jump was making as its daemon died.

    Left to the collector it would be told as a warning in the middle of another test.
    """
    yield
    loop: Any = asyncio.get_running_loop()
    for key in tuple(loop._selector.get_map().values()):
        for handle in filter(None, key.data):
            owner = getattr(handle._callback, "__self__", None)
            if isinstance(owner, asyncio.Transport):
                owner.abort()
    await asyncio.sleep(0.1)


def a_seed() -> int:
    """Printed when the test fails; STACKWARD_SEED plays the same weather again."""
    return int(os.environ.get("STACKWARD_SEED") or random.SystemRandom().randrange(10**6))


@asynccontextmanager
async def weather(stage: Stage) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(stage.make_weather())
        try:
            yield
        finally:
            task.cancel()
    stage.clear_up()


async def until_killed(stage: Stage, patience: float) -> None:
    """Wait for a moment to strike: any time, or right after something was written or asked for."""
    dice = stage.dice
    if not stage.requests:  # on a machine with little time left over: nothing counts before this
        await stage.wait_for(lambda _: bool(stage.requests), FIRST_REQUEST_SECONDS)
        return
    if dice.random() < ANY_TIME_SHARE:
        await asyncio.sleep(dice.uniform(0, min(3.0, patience)))
        return
    (moment,) = dice.choices(list(MOMENTS), weights=list(MOMENTS.values()))
    requests = len(stage.requests)

    def has_come(rows: list[Row]) -> bool:
        if moment == "request":
            return len(stage.requests) > requests
        return any(row.kind == ("begun" if moment == "proof" else moment) for row in rows)

    await stage.wait_for(has_come, patience)
    if moment == "proof":
        await asyncio.sleep(dice.uniform(0.1, 1.5))
    else:  # right then, or within the little time that the next thing takes
        await asyncio.sleep(dice.choice((0, 0.01, 0.1)) * dice.random())


async def kill_again_and_again(stage: Stage, kills: int) -> None:
    """Fewer seconds of patience as time runs out, but all the kills."""
    loop = asyncio.get_running_loop()
    shortest, longest = PATIENCE_SECONDS
    until = loop.time() + KILLING_SECONDS
    async with weather(stage):
        for left in range(kills, 0, -1):
            await stage.live()
            await until_killed(
                stage, min(longest, max(shortest, 1.5 * (until - loop.time()) / left))
            )
            if left % STOP_AT_EVERY == 0:  # a stop in good order leaves open what needs more time
                await stage.stop()
                await stage.live()
            await stage.kill()


async def settle(stage: Stage) -> None:
    """Let the daemon run until everything has its outcome, and then stop in good order."""
    await stage.live()
    async with asyncio.timeout(SETTLE_SECONDS):
        while open_intents(stage.rows()):
            await asyncio.sleep(0.1)
    await stage.stop()


@pytest.mark.timeout(400)
async def test_fifty_kills_and_never_more_than_one_request_per_intent():
    seed = a_seed()
    print(f"STACKWARD_SEED={seed}")
    kills: Counter[str] = Counter()
    requests = 0

    async def play(number: int) -> None:
        nonlocal requests
        async with Stage(seed + number) as stage:
            await kill_again_and_again(stage, KILLS // STAGES)
            await settle(stage)
            rows = stage.rows()
        print(number, dict(stage.kills), Counter(request.action for request in stage.requests))
        print(Counter(row.kind for row in rows), Counter(row.outcome for row in rows))
        assert faults_in_the_books(stage.requests, rows) == []
        kills.update(stage.kills)
        requests += len(stage.requests)

    async with asyncio.TaskGroup() as group:
        for number in range(STAGES):
            group.create_task(play(number))
    # The test has tested something.
    assert kills["in all"] >= 50
    assert kills["while a step was open"] >= 10
    assert requests >= STAGES


@pytest.mark.timeout(200)
async def test_a_daemon_that_sends_again_on_recovery_is_found_out():
    seed = a_seed()
    print(f"STACKWARD_SEED={seed}")
    async with Stage(seed, ladder=(REBOOT,), zones=2, is_broken=True) as stage:
        for vm in stage.vms:
            stage.cloud.inject("restart-does-not-help", vm)
        await stage.live()
        assert await stage.wait_for(lambda _: bool(stage.requests), 40.0), stage.log_tail()
        await stage.kill()
        interrupted = len(stage.requests)
        await stage.live()
        assert await stage.wait_for(lambda _: len(stage.requests) > interrupted, 40.0)
        await stage.kill()
        faults = faults_in_the_books(stage.requests, stage.rows())
    assert any(fault.endswith("was asked for 2 times") for fault in faults)
