"""One timer for many deadlines: each is kept, none before its time, who is done is left alone."""

import asyncio
from dataclasses import dataclass, field
from random import Random

from stackward.transports.ssh_limits import Deadlines

EARLY = 0.002  # a loop counts milliseconds


@dataclass(eq=False)
class Waiter:
    deadline: float = 0.0
    gave_up_at: float | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def give_up(self) -> None:
        self.gave_up_at = asyncio.get_running_loop().time()
        self.done.set()


async def test_who_waits_gives_up_at_its_deadline_in_whatever_order_they_came():
    loop, deadlines = asyncio.get_running_loop(), Deadlines()
    waits = [number / 100 for number in range(1, 31)]
    Random(3).shuffle(waits)
    waiters = [Waiter(loop.time() + wait) for wait in waits]
    for waiter in waiters:
        deadlines.add(waiter, waiter.deadline)
    dropped = waiters[::3]
    for waiter in dropped:
        deadlines.drop(waiter)
    async with asyncio.timeout(20):
        for waiter in waiters:
            if waiter not in dropped:
                await waiter.done.wait()
                assert waiter.gave_up_at is not None
                assert waiter.gave_up_at >= waiter.deadline - EARLY
    assert not any(waiter.done.is_set() for waiter in dropped)


async def test_a_timer_that_found_nobody_is_started_again_for_the_next():
    loop, deadlines = asyncio.get_running_loop(), Deadlines()
    answered, late = Waiter(), Waiter()
    deadlines.add(answered, loop.time() + 0.01)
    deadlines.drop(answered)
    await asyncio.sleep(0.05)
    deadlines.add(late, loop.time() + 0.01)
    async with asyncio.timeout(20):
        await late.done.wait()
    assert not answered.done.is_set()


async def test_one_who_waits_anew_has_its_new_deadline_alone():
    loop, deadlines = asyncio.get_running_loop(), Deadlines()
    waiter = Waiter()
    deadlines.add(waiter, loop.time() + 0.01)
    deadlines.drop(waiter)
    deadlines.add(waiter, deadline := loop.time() + 0.1)
    async with asyncio.timeout(20):
        await waiter.done.wait()
    assert waiter.gave_up_at is not None
    assert waiter.gave_up_at >= deadline - EARLY
