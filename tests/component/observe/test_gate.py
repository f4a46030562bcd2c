"""The gate: never more inside than there are places, and nobody left in line while one is free."""

import asyncio

from stackward.observe.gate import Gate
from tests.fakes.virtual_loop import virtually


@virtually
async def test_never_more_are_inside_than_there_are_places_and_all_get_in():
    gate, inside, most, done = Gate(3), 0, 0, 0

    async def visit(seconds: float) -> None:
        nonlocal inside, most, done
        if not gate.try_enter():
            await gate.enter()
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(seconds)
        inside -= 1
        done += 1
        gate.leave()

    async with asyncio.TaskGroup() as group:
        for number in range(40):
            group.create_task(visit(0.1 * (number % 7)))
    assert (most, done, inside) == (3, 40, 0)
    assert [gate.try_enter() for _ in range(4)] == [True, True, True, False]


@virtually
async def test_who_gives_up_in_line_or_at_the_door_loses_no_place():
    gate = Gate(1)
    assert gate.try_enter()
    async with asyncio.TaskGroup() as group:
        in_line = group.create_task(gate.enter())
        at_the_door = group.create_task(gate.enter())
        await asyncio.sleep(0)
        in_line.cancel()
        await asyncio.sleep(0)
        gate.leave()  # calls the second one, which gives up in this very moment
        at_the_door.cancel()
    assert [gate.try_enter(), gate.try_enter()] == [True, False]
