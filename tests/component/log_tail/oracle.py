"""A writer of a log that knows what it wrote and destroyed, and a judge of what came of it.

Every rotation is done step by step, with a breath here and there, so that a reader meets each state
between two of them. Each line bears its number, and its kind: the number modulo `KINDS`.
"""

import asyncio
import gzip
import itertools
import os
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

KINDS = 40
GAP = -1
KEPT = 9
BEHIND_MAX = 5  # rotations
ODD_SHARE = 0.1
TICK_SECONDS = 0.012  # file systems keep time in ticks, of which this is more than one
_LINE = re.compile(rb"number (\d{8}) kind \d\d x+$")


def numbers_in(lines: Iterable[bytes]) -> list[int]:
    """Of whole lines alone."""
    return [int(found[1]) for line in lines if (found := _LINE.search(line)) is not None]


@dataclass
class Writer:
    """One log under `root`. `newest_read` says how far its reader is, so as not to outrun it.

    `is_odd`: some lines are long, or hold NUL bytes, as after a crash.
    """

    root: Path
    dice: random.Random
    manner: str
    newest_read: Callable[[], int] = lambda: 0
    is_odd: bool = False
    count: int = 0
    rotations: int = 0
    begins: list[int] = field(default_factory=lambda: [0])  # the last number before each file

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True)
        self.write(2)

    @property
    def log(self) -> Path:
        return self.root / "cloud.log"

    def write(self, lines: int) -> None:
        with self.log.open("ab", buffering=0) as log:
            for _ in range(lines):
                self.count += 1
                n = self.count
                clock = (
                    f"{n // 3_600_000:02}:{n // 60_000 % 60:02}:{n // 1000 % 60:02},{n % 1000:03}"
                )
                size, nuls = self.dice.randint(1, 200), ""
                if self.is_odd and self.dice.random() < ODD_SHARE:
                    size, nuls = (
                        self.dice.choice([size, 9000, 30_000]),
                        "\0" * self.dice.randint(0, 2),
                    )
                line = (
                    f"2025-06-23T{clock} INFO  [o.a.Oracle] (main:[]) {nuls}"
                    f"number {n:08} kind {n % KINDS:02} {'x' * size}\n"
                ).encode()
                cut = self.dice.randint(0, len(line))
                log.write(line[:cut])
                log.write(line[cut:])

    async def breathe(self) -> None:
        await asyncio.sleep(self.dice.choice([0, 0, 0, 0.003, 0.01]))

    async def run(self, rotations: int) -> None:
        """Write and rotate, never further ahead than what is kept of the past."""
        rotate = MANNERS[self.manner]
        for _ in range(rotations):
            while len(self.begins) > BEHIND_MAX and self.newest_read() <= self.begins[-BEHIND_MAX]:
                await asyncio.sleep(0.02)
            for _ in range(self.dice.randint(1, 3)):
                self.write(self.dice.randint(0, 12))
                await self.breathe()
            await rotate(self)
            self.rotations += 1
            self.begins.append(self.count)
            self.write(self.dice.choice([0, 1, 1, 3]))
            await self.breathe()
        self.write(1)

    def existing(self) -> set[int]:
        """The lines that stand anywhere under the log's names."""
        found: set[int] = set()
        for path in self.root.iterdir():
            data = path.read_bytes()
            data = gzip.decompress(data) if path.suffix == ".gz" else data
            found.update(numbers_in(data.split(b"\n")))
        return found

    # --- the steps of rotators

    async def shift_up(self) -> None:
        for n in range(KEPT, 0, -1):
            for ending in ("", ".gz"):
                name = self.root / f"cloud.log.{n}{ending}"
                if name.exists():
                    if n == KEPT:
                        name.unlink()
                    else:
                        name.rename(self.root / f"cloud.log.{n + 1}{ending}")
                    await self.breathe()

    async def pack(self, path: Path) -> None:
        """The plain file goes when the packed one is whole."""
        packed, whole = path.with_name(f"{path.name}.gz"), gzip.compress(path.read_bytes())
        status = path.stat()
        cut = self.dice.randint(0, len(whole))
        with packed.open("wb", buffering=0) as file:
            file.write(whole[:cut])
            await self.breathe()
            file.write(whole[cut:])
        os.utime(packed, ns=(status.st_atime_ns, status.st_mtime_ns))
        await self.breathe()
        path.unlink()

    async def copy_and_cut(self) -> Path:
        await self.shift_up()
        copy = self.root / "cloud.log.1"
        whole = self.log.read_bytes()
        with copy.open("wb", buffering=0) as file:
            file.write(whole[: len(whole) // 2])
            await self.breathe()
            file.write(whole[len(whole) // 2 :])
        await self.breathe()
        # Destroyed, unless it is read in time: in the log after the copy and before the cut.
        self.write(self.dice.choice([0, 0, 1, 2]))
        await self.breathe()
        os.truncate(self.log, 0)
        return copy


async def renamed_up(writer: Writer) -> None:
    await writer.shift_up()
    writer.log.rename(writer.root / "cloud.log.1")
    await writer.breathe()


async def renamed_up_and_packed(writer: Writer) -> None:
    await renamed_up(writer)
    writer.write(1)
    await writer.pack(writer.root / "cloud.log.1")


async def renamed_down(writer: Writer) -> None:
    names = [writer.root / f"cloud.{n}.log" for n in range(1, KEPT + 1)]
    free = next((name for name in names if not name.exists()), None)
    if free is None:
        names[0].unlink()
        for older, newer in itertools.pairwise(names):
            newer.rename(older)
            await writer.breathe()
        free = names[-1]
    writer.log.rename(free)
    await writer.breathe()


async def by_the_day(writer: Writer) -> None:
    """As the management server's own log goes."""
    day = 10 + writer.rotations
    name = writer.root / f"cloud.log.2026-{day // 28 + 1:02}-{day % 28 + 1:02}"
    writer.log.rename(name)
    await writer.breathe()
    writer.write(1)
    await writer.pack(name)
    for old in sorted(writer.root.glob("cloud.log.2026-*"))[:-KEPT]:
        old.unlink()


async def copied_and_cut(writer: Writer) -> None:
    await writer.copy_and_cut()


async def copied_cut_and_packed(writer: Writer) -> None:
    await writer.pack(await writer.copy_and_cut())


async def by_two_rotators(writer: Writer) -> None:
    await asyncio.sleep(TICK_SECONDS)
    if writer.dice.random() < 0.5:
        await writer.copy_and_cut()
    else:
        await renamed_down(writer)
    await asyncio.sleep(TICK_SECONDS)


async def renamed_or_copied(writer: Writer) -> None:
    """In one row, as where a rotator was given another manner."""
    await asyncio.sleep(TICK_SECONDS)
    if writer.dice.random() < 0.5:
        await writer.copy_and_cut()
    else:
        await renamed_up(writer)


async def wiped_at_times(writer: Writer) -> None:
    if writer.dice.random() < 0.7:
        await renamed_up(writer)
        return
    # What goes before anybody has ever seen it is missed by nobody.
    writer.write(1)
    while writer.newest_read() <= writer.begins[-1]:
        await asyncio.sleep(0.01)
    if writer.dice.random() < 0.5:
        writer.log.unlink()
    else:
        gone = writer.root.rename(writer.root.with_name(f"{writer.root.name}.gone"))
        await writer.breathe()
        shutil.rmtree(gone)
        writer.root.mkdir()
    await writer.breathe()


MANNERS = {
    "renamed up": renamed_up,
    "renamed up and packed": renamed_up_and_packed,
    "renamed down": renamed_down,
    "by the day": by_the_day,
    "copied and cut": copied_and_cut,
    "copied, cut and packed": copied_cut_and_packed,
    "by two rotators": by_two_rotators,
    "renamed or copied": renamed_or_copied,
    "wiped at times": wiped_at_times,
}
"""What happens to a log. Nothing is ever destroyed by the first four."""
LOSSLESS = frozenset(list(MANNERS)[:4])
GAPLESS = frozenset({"renamed up", "renamed down"})


def judge(writer: Writer, told: list[int], *, first: int = 2) -> None:
    """What one reader was told, each number once, and GAP where one was."""
    read = [number for number in told if number != GAP]
    twice = [number for number, times in Counter(read).items() if times > 1]
    assert not twice, f"told twice: {twice[:5]}"
    assert read == sorted(read), "told out of order"
    unread = set(range(first + 1, writer.count + 1)) - set(read)
    still_there = unread & writer.existing()
    assert not still_there, f"still there and not told: {sorted(still_there)[:5]}"
    assert read[-1:] == [writer.count]
    judge_gaps(told, first)
    if writer.manner in LOSSLESS:
        assert not unread, f"not told: {sorted(unread)[:5]}"
    if writer.manner in GAPLESS:
        assert GAP not in told, "a gap that was none"


def judge_gaps(told: list[int], last: int) -> None:
    """Wherever a number is passed over, a gap was told between its neighbours."""
    is_gap = False
    for number in told:
        if number == GAP:
            is_gap = True
            continue
        passed_over = number - last - 1
        assert passed_over <= 0 or is_gap, f"{last + 1} to {number - 1} are lost without a word"
        last, is_gap = number, False
