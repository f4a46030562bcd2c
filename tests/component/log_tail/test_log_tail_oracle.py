"""A writer that knows what it wrote and destroyed, against the real script.

Whatever the timing: nothing comes twice or out of order, no line that still exists is missing, and
where a destroyed line is missing, a gap was told.
"""

import asyncio
import itertools
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.component.log_tail.following import Following, following

from stackward.model.guest import LogPosition

ROTATED_MAX = 9
GAP = -1


@dataclass
class Writer:
    root: Path
    dice: random.Random
    count: int = 0

    @property
    def log(self) -> Path:
        return self.root / "cloud.log"

    def write(self, lines: int) -> None:
        with self.log.open("ab", buffering=0) as log:
            for _ in range(lines):
                self.count += 1
                line = b"%08d " % self.count + b"x" * self.dice.randint(60, 300) + b"\n"
                cut = self.dice.randint(1, len(line))
                log.write(line[:cut])
                log.write(line[cut:])

    def rename_up(self) -> None:
        for n in range(ROTATED_MAX, 0, -1):
            name = self.root / f"cloud.log.{n}"
            if name.exists():
                if n == ROTATED_MAX:
                    name.unlink()
                else:
                    name.rename(self.root / f"cloud.log.{n + 1}")
        if self.log.exists():
            self.log.rename(self.root / "cloud.log.1")

    def rename_down(self) -> None:
        names = [self.root / f"cloud.{n}.log" for n in range(1, ROTATED_MAX + 1)]
        free = next((n for n, name in enumerate(names) if not name.exists()), None)
        if free is None:
            names[0].unlink()
            for older, newer in itertools.pairwise(names):
                newer.rename(older)
            free = ROTATED_MAX - 1
        self.log.rename(names[free])

    def copytruncate(self) -> None:
        self.log.rename(self.root / "moving")
        self.rename_up()
        (self.root / "moving").rename(self.log)
        shutil.copy(self.log, self.root / "cloud.log.1")
        if self.dice.random() < 0.5:
            self.write(1)  # destroyed: in the log after the copy and before the cut
        with self.log.open("r+b") as log:
            log.truncate(0)

    def existing(self) -> set[int]:
        return {
            int(line[:8]) for path in self.root.iterdir() for line in path.read_bytes().splitlines()
        }


def seen(channels: list[Following]) -> list[int]:
    """The numbers of the lines as they came, with GAP where one was told."""
    told: list[int] = []
    for channel in channels:
        for chunk in channel.chunks:
            if chunk.gap_bytes_min != 0:
                told.append(GAP)
            told += [int(line[:8]) for line in chunk.lines if len(line) >= 60]
    return told


def newest(channel: Following) -> int:
    return max((int(line[:8]) for line in channel.lines[-1:]), default=0)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("manner", "rotations"), [("rename_up", 25), ("rename_down", 25), ("copytruncate", 15)]
)
async def test_no_line_that_still_exists_is_lost_and_none_comes_twice(tmp_path, manner, rotations):
    root = tmp_path / "var"
    root.mkdir()
    writer = Writer(root, random.Random(f"{manner} 20250623"))
    rotate = getattr(writer, manner)
    writer.write(1)
    channels: list[Following] = []
    place: LogPosition | None = None
    left = rotations
    while left:
        async with following(root, place) as tail:
            channels.append(tail)
            await tail.placed()
            behind = 0
            for _ in range(min(left, writer.dice.randint(4, 8))):
                for _ in range(writer.dice.randint(1, 3)):
                    writer.write(writer.dice.randint(1, 40))
                    await asyncio.sleep(writer.dice.choice([0, 0, 0.01, 0.03]))
                if manner == "copytruncate":
                    # What began, was copied and cut between two looks leaves no trace to find.
                    await tail.until(lambda it: newest(it) == writer.count)
                    writer.write(writer.dice.randint(0, 3))
                rotate()
                left -= 1
                behind += 1
                writer.write(writer.dice.randint(1, 3))
                if manner == "copytruncate" or behind == 4:
                    # No further behind than files are kept: a link that is cut finds its place.
                    await tail.until(lambda it: newest(it) == writer.count)
                    behind = 0
            place = tail.position
        # The link is cut here; the log goes on.
        writer.write(3)
    async with following(root, place) as tail:
        channels.append(tail)
        await tail.until(lambda it: newest(it) == writer.count)
    told = seen(channels)
    lines = [number for number in told if number != GAP]
    assert lines == sorted(set(lines))
    missing = set(range(2, writer.count + 1)) - set(lines)
    assert missing.isdisjoint(writer.existing())
    last = 1
    is_gap = False
    for number in told:
        if number == GAP:
            is_gap = True
            continue
        assert number == last + 1 or is_gap
        last, is_gap = number, False
    assert last == writer.count
    if manner != "copytruncate":
        assert GAP not in told
