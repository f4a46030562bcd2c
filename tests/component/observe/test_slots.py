"""Who sleeps until a slot wakes up at it, together with the others, and never a slot late."""

import asyncio
from random import Random

from stackward.observe.slots import Slots
from tests.fakes.clock import LoopClock
from tests.fakes.virtual_loop import virtually

GRAIN = 0.05


class EarlyClock(LoopClock):
    """Its sleeps end a little before their time, as those of a coarse timer may."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(max(0.0, seconds - GRAIN / 10))


async def _woken(slots: Slots, clock: LoopClock, dues: list[float]) -> list[float]:
    late: list[float] = []

    async def sleeper(due: float) -> None:
        await slots.sleep_until(slots.after(due))
        late.append(clock.monotonic() - due)

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        pacer = group.create_task(slots.run())
        async with asyncio.TaskGroup() as sleepers:
            for due in dues:
                sleepers.create_task(sleeper(due))
        pacer.cancel()
    return late


async def test_sleepers_wake_up_in_their_slot():
    for clock in (LoopClock(), EarlyClock()):
        slots, dice, now = Slots(clock, GRAIN), Random(4), clock.monotonic()
        late = await _woken(slots, clock, [now + dice.uniform(0, 10 * GRAIN) for _ in range(200)])
        assert len(late) == 200
        assert min(late) > -GRAIN / 2


@virtually
async def test_nobody_sleeps_past_the_slot():
    clock = LoopClock()
    slots, dice = Slots(clock, GRAIN), Random(5)
    late = await _woken(slots, clock, [dice.uniform(0, 10 * GRAIN) for _ in range(200)])
    assert max(late) < 1.01 * GRAIN


async def test_slots_may_be_moved_while_somebody_sleeps():
    clock = LoopClock()
    slots = Slots(clock, GRAIN)

    async def move() -> None:
        for seconds in (GRAIN / 3, GRAIN * 1.7, GRAIN / 5):
            await clock.sleep(GRAIN)
            slots.seconds = seconds

    async with asyncio.TaskGroup() as group:
        group.create_task(move())
        now = clock.monotonic()
        assert len(await _woken(slots, clock, [now + GRAIN * n / 7 for n in range(50)])) == 50


async def test_a_sleeper_that_was_cancelled_costs_the_others_nothing():
    clock = LoopClock()
    slots = Slots(clock, GRAIN)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        slot = slots.after(clock.monotonic() + GRAIN)
        tired = group.create_task(slots.sleep_until(slot))
        other = group.create_task(slots.sleep_until(slot))
        await clock.sleep(0)
        tired.cancel()
        pacer = group.create_task(slots.run())
        await other
        pacer.cancel()
    assert tired.cancelled()
