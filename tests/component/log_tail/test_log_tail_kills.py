"""kill -9 of a daemon that follows logs: a line counts once, and the counters go on.

The effect of a line is a count, saved with the place up to which lines were counted; each line's
class tells its number modulo a few dozen, so that one that counts twice is seen.
"""

import asyncio
import json
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pytest
from tests.component.log_tail.oracle import (
    GAP,
    KINDS,
    LOSSLESS,
    MANNERS,
    Writer,
    judge_gaps,
)
from tests.component.log_tail.watcher import CLASSES, Plan, target_id
from tests.fakes.clock import FixedClock

from stackward.core.state import LogMemory
from stackward.journal.store import SqliteJournal

ROTATIONS = 13
KILL_EVERY = 10  # rotations of all logs together
SEED = os.environ.get("STACKWARD_SEED", "20250623")
ROOT = Path(__file__).parents[3]


class Nursery:
    """Where the daemons come from."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lives = 0

    async def __call__(self, *words: object) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        async with asyncio.timeout(30):
            answer = await self._process.stdout.readline()
        assert answer, "the nursery ended"
        return int(answer)

    async def start(self) -> int:
        self.lives += 1
        return await self("start")


@asynccontextmanager
async def nursery(plan: Plan, *options: str) -> AsyncIterator[Nursery]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.component.log_tail.watcher",
        json.dumps(asdict(plan)),
        *options,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'daemon'}"},
    )
    assert process.stdin is not None
    try:
        yield Nursery(process)
    finally:
        process.stdin.close()
        async with asyncio.timeout(30):
            await process.wait()


class Log:
    """One VM's log, and what a daemon told of it in all its lives."""

    def __init__(self, plan: Plan, name: str, manner: str, dice: random.Random) -> None:
        self.name = name
        self.trace = plan.trace(name)
        self.writer = Writer(Path(plan.roots[name]), dice, manner, lambda: self.newest)
        self.is_written = False

    @property
    def told(self) -> list[int]:
        try:
            return [int(word) for word in self.trace.read_text().split() if word != "start"]
        except FileNotFoundError:
            return []

    @property
    def newest(self) -> int:
        return max(self.told, default=0)

    async def run(self, rotations: int) -> None:
        while not self.told:  # it begins at the end of what is there
            self.writer.write(1)
            await asyncio.sleep(0.1)
        await self.writer.run(rotations)
        self.is_written = True

    @property
    def is_read(self) -> bool:
        return self.is_written and self.newest == self.writer.count

    def judge(self, kept: LogMemory) -> None:
        told = self.told
        first = told[0]
        judge_gaps(told, first - 1)
        assert max(told) == self.writer.count
        existing = {number for number in self.writer.existing() if number >= first}
        numbers = {number for number in told if number != GAP}
        assert existing <= numbers, f"not told: {sorted(existing - numbers)[:5]}"
        at_least = Counter(number % KINDS for number in existing)
        if self.writer.manner in LOSSLESS:
            at_least = Counter(number % KINDS for number in range(first, self.writer.count + 1))
        at_most = Counter(number % KINDS for number in numbers)
        for kind in range(KINDS):
            count = kept.counts.get(CLASSES[kind], 0)
            assert at_least[kind] <= count <= at_most[kind], (
                f"of kind {kind} {at_least[kind]} to {at_most[kind]} lines, {count} counted"
            )
        if sum(kept.counts.values()) < self.writer.count - first + 1:
            assert kept.gaps


async def lives_and_deaths(
    directory: Path, tail: str, rotations: int, seed: str, *options: str
) -> int:
    """Follow the logs while they rotate, dying all the time. How often it died."""
    dice = random.Random(seed)
    names = {f"v-{number}-VM": manner for number, manner in enumerate(MANNERS, 2)}
    plan = Plan(tail, {name: str(directory / name) for name in names}, str(directory))
    logs = [Log(plan, name, manner, dice) for name, manner in names.items()]
    async with nursery(plan, *options) as nurse, asyncio.timeout(170), asyncio.TaskGroup() as group:
        pid = await nurse.start()
        writing = [group.create_task(log.run(rotations)) for log in logs]
        while not all(log.told for log in logs):
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        next_death = 0
        while not all(log.is_read for log in logs):
            rotated = sum(log.writer.rotations for log in logs)
            if rotated >= next_death and not all(task.done() for task in writing):
                next_death = rotated + KILL_EVERY
                await asyncio.sleep(dice.uniform(0, 0.3))
                assert await nurse("kill", pid) == -9
                pid = await nurse.start()
            await asyncio.sleep(0.05)
        assert await nurse("stop", pid) == 0
    journal = SqliteJournal(plan.journal, FixedClock(), read_only=True, deadline_seconds=25.0)
    kept = await journal.logs()
    await journal.close()
    for log in logs:
        try:
            log.judge(kept[target_id(log.name)])
        except AssertionError as error:
            text = f"with the seed {seed!r}, {log.writer.manner}: {error}"
            raise AssertionError(text) from error
    published = [int(line) for line in plan.published.read_text().split()]
    assert all(earlier <= later for earlier, later in pairwise(published)), "a counter fell back"
    assert sum(sum(log.counts.values()) for log in kept.values()) == published[-1]
    return nurse.lives - 1


@pytest.mark.timeout(200)
@pytest.mark.parametrize("tail", ["script", "local"])
async def test_a_line_counts_once_however_often_the_daemon_is_killed(tmp_path, tail):
    seed = f"{SEED} {tail}"
    assert await lives_and_deaths(tmp_path, tail, ROTATIONS, seed) >= 2
