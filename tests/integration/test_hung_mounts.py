"""Two hung mounts, one whose toucher can be killed and one where it cannot: no tick waits."""

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stackward.catalog.fact_loop import FactLoopSettings, RawBlock
from stackward.catalog.guest_reader import observe_block
from stackward.catalog.probe import ProbeThresholds
from stackward.model.guest import FactBlock
from stackward.model.verdict import Failed, ProbeName, Sign
from tests.builders import a_target
from tests.component.fact_loop.loops import NEVER, PATIENCE, Tree, a_loop, children_of, stat_of
from tests.integration.lab import fuse

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        os.geteuid() != 0 or not Path("/dev/fuse").exists(),
        reason="mounting FUSE file systems needs root and /dev/fuse",
    ),
]

KILLABLE, UNKILLABLE = "/mnt/SecStorage/killable", "/mnt/SecStorage/unkillable"
LIMIT = timedelta(seconds=1.5)
SETTINGS = FactLoopSettings(
    unit_interval=NEVER,
    disk_interval=NEVER,
    slow_interval=timedelta(seconds=0.3),
    touch_limit=LIMIT,
)
THRESHOLDS = ProbeThresholds(
    disk_used_ratio_max=1.0,
    inodes_used_ratio_max=1.0,
    memory_available_ratio_min=0.0,
    clock_offset_max=timedelta(days=1),
    mount_hung_after=timedelta(seconds=1),
    slow_stale_after=timedelta(minutes=5),
)


@asynccontextmanager
async def hung_mounts(root: Path):
    """The process that holds the mounts, and their namespace."""
    for point in (KILLABLE, UNKILLABLE):
        (root / point[1:]).mkdir(parents=True)
    holder = await asyncio.create_subprocess_exec(
        *("unshare", "--mount", "--propagation", "private", sys.executable, fuse.__file__),
        *(str(root / point[1:]) for point in (KILLABLE, UNKILLABLE)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            assert await holder.stdout.readline() == b"ready\n"
        yield holder
    finally:
        holder.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE):
                await holder.wait()
        except TimeoutError:
            holder.kill()
            await holder.wait()


def touchers(loop_pid: int, point: str) -> list[int]:
    """The processes below the loop that are busy with this mount, dead ones left aside."""
    found = []
    for pid in children_of(loop_pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if words.rstrip(b"\0").endswith(point.encode()):
            found.append(pid)
    return found


def storage_verdict(raw: RawBlock):
    now = datetime.now(UTC)
    block = FactBlock(
        tick=raw.tick,
        loop_version=raw.loop_version,
        sections=raw.sections,
        asked_at=now,
        received_at=now,
        ages=raw.ages,
        pending=raw.pending,
    )
    observations, _, _ = observe_block(block, a_target("s-1-VM"), THRESHOLDS)
    (verdict,) = [one.verdict for one in observations if one.probe is ProbeName.STORAGE]
    return verdict


async def test_two_hung_mounts_stop_no_tick_and_pile_up_no_process(tmp_path):
    tree = Tree(tmp_path)
    (tree.root / "proc/mounts").unlink()
    async with hung_mounts(tree.root) as holder:
        inside = ("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "--")
        async with a_loop(tree, SETTINGS, wrapper=inside) as loop:
            pid = loop.process.pid
            hard = f"mount:{UNKILLABLE}"
            block = await loop.ask()
            tried: set[int] = set()
            async with asyncio.timeout(PATIENCE * 2):
                while len(tried) < 3 or block.pending.get(hard, timedelta(0)) < 3 * LIMIT:
                    await asyncio.sleep(0.1)
                    block = await loop.ask()
                    assert len(touchers(pid, UNKILLABLE)) <= 1
                    assert len(touchers(pid, KILLABLE)) <= 1
                    tried.update(touchers(pid, KILLABLE))

            verdict = storage_verdict(block)
            assert isinstance(verdict, Failed)
            assert verdict.sign is Sign.MOUNT_HUNG
            assert f"nas-0:/export on {KILLABLE}" in verdict.evidence
            assert f"nas-1:/export on {UNKILLABLE}" in verdict.evidence
            (stuck,) = touchers(pid, UNKILLABLE)
            assert stat_of(stuck)[0] == "D"

            # The stuck process keeps neither the loop nor the channel.
            loop.stdin.close()
            assert await loop.ended() == 0
            assert stat_of(stuck)[0] == "D"
    async with asyncio.timeout(PATIENCE):
        while stat_of(stuck)[:1] not in ([], ["Z"]):
            await asyncio.sleep(0.05)
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
