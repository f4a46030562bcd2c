"""Both tails against a writer that knows what it wrote and destroyed, and links that are cut.

Whatever the timing: nothing comes twice or out of order, no line that still exists is missing, and
each line that was destroyed lies inside a gap that was told.
"""

import asyncio
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.component.log_tail.following import Following, following, following_locally
from tests.component.log_tail.oracle import GAP, MANNERS, Writer, judge, numbers_in

from stackward.model.guest import LogPosition

ROTATIONS = {"script": 12, "local": 38}
LOGS_PER_MANNER = 2
SEED = os.environ.get("STACKWARD_SEED", "20250623")
TAILS = {"script": following, "local": following_locally}


@dataclass
class Reader:
    """One log's reader. Its link is cut at any moment, and it goes on from the place it knew."""

    follow: Any
    root: Path
    dice: random.Random
    told: list[int] = field(default_factory=list)
    newest: int = 0
    place: LogPosition | None = None

    async def run(self, is_done: Callable[[], bool], rotated: Callable[[], int]) -> None:
        while not is_done():
            async with self.follow(self.root, self.place) as tail:
                taken = 0
                # The link is cut so many rotations and so many pieces later.
                rotations, pieces = rotated() + self.dice.randint(0, 3), self.dice.randint(1, 20)
                while not is_done():
                    taken = self._take(tail, taken)
                    self.place = tail.reader.position or self.place
                    pieces -= rotated() >= rotations
                    if pieces < 0 and self.place is not None:
                        break
                    try:
                        async with asyncio.timeout(0.2):
                            data = await tail.more()
                    except TimeoutError:
                        continue
                    tail.chunks += tail.reader.feed(data)
            await asyncio.sleep(self.dice.choice([0, 0, 0.1, 0.3]))

    def _take(self, tail: Following, taken: int) -> int:
        for chunk in tail.chunks[taken:]:
            if chunk.gap_bytes_min != 0:
                self.told.append(GAP)
            numbers = numbers_in(chunk.lines)
            self.told += numbers
            self.newest = max([self.newest, *numbers])
        return len(tail.chunks)


async def follow_while_it_rotates(
    root: Path, tail: str, manner: str, rotations: int, seed: str, *, deadline: float = 170
) -> Writer:
    writer = Writer(root, random.Random(f"writer {seed}"), manner, is_odd=True)
    reader = Reader(TAILS[tail], root, random.Random(f"reader {seed}"))
    writer.newest_read = lambda: reader.newest
    is_written = False

    async def write() -> None:
        nonlocal is_written
        while reader.place is None:  # it begins at the end of what is there
            await asyncio.sleep(0.01)
        writer.write(1)
        while not reader.newest:
            await asyncio.sleep(0.01)
        await writer.run(rotations)
        is_written = True

    try:
        async with asyncio.timeout(deadline), asyncio.TaskGroup() as group:
            group.create_task(write())
            await reader.run(
                lambda: is_written and reader.newest == writer.count, lambda: writer.rotations
            )
    except TimeoutError:
        raise AssertionError(f"not read to the end: {reader.newest} of {writer.count}") from None
    judge(writer, reader.told, first=reader.told[0] - 1)
    return writer


async def one_log(root: Path, tail: str, manner: str, number: int) -> int:
    seed = f"{SEED} {tail} {manner} {number}"
    try:
        return (await follow_while_it_rotates(root, tail, manner, ROTATIONS[tail], seed)).rotations
    except AssertionError as error:
        raise AssertionError(f"with the seed {seed!r}: {error}") from error


@pytest.mark.timeout(200)
@pytest.mark.parametrize("tail", TAILS)
async def test_no_line_that_still_exists_is_lost_and_none_comes_twice(tmp_path, tail):
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(one_log(tmp_path / f"{index}-{number}", tail, manner, number))
            for index, manner in enumerate(MANNERS)
            for number in range(LOGS_PER_MANNER)
        ]
    assert sum(task.result() for task in tasks) == ROTATIONS[tail] * LOGS_PER_MANNER * len(MANNERS)
