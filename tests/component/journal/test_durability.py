"""kill -9 loses nothing that was acknowledged; a full disk is an error that passes."""

import asyncio
import signal
import sys
from pathlib import Path

from stackward.journal.store import SqliteJournal
from stackward.ports import EntryFilter
from tests.fakes.clock import FixedClock

ROOT = Path(__file__).parents[3]


async def start_writer(*arguments: object) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.component.journal.writer",
        *map(str, arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )


async def test_kill_nine_times_and_once_more_and_nothing_acknowledged_is_lost(tmp_path: Path):
    path = tmp_path / "journal.db"
    acknowledged: dict[int, str] = {}
    for round_number in range(10):
        writer = await start_writer(path, f"round-{round_number}")
        assert writer.stdout is not None
        for _ in range(5 + 7 * round_number):  # killed at another point each time
            assert await writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        rest, _ = await writer.communicate()
        # Read what it had told until it died. A line cut by the kill acknowledges nothing.
        for line in rest.splitlines(keepends=True):
            if line.endswith(b"\n"):
                _, sequence, intent = line.decode().split()
                acknowledged[int(sequence)] = intent
        journal = SqliteJournal(path, FixedClock(), deadline_seconds=25.0)
        stored = await journal.entries(EntryFilter(limit=10_000, newest_first=False))
        found = {row.sequence: row.entry.intent_id for row in stored}
        await journal.close()
        assert acknowledged.items() <= found.items()
        assert sorted(found) == list(range(1, len(found) + 1))


async def test_a_file_that_cannot_grow_is_an_error_and_passes(tmp_path: Path):
    path = tmp_path / "journal.db"
    writer = await start_writer(path, "full", 400_000)
    output, _ = await writer.communicate()
    lines = output.decode().splitlines()
    assert writer.returncode == 0
    assert lines[-1] == "usable again"
    assert lines[-2].startswith("failed ")
    journal = SqliteJournal(path, FixedClock(), deadline_seconds=25.0)
    stored = await journal.entries(EntryFilter(limit=10_000, newest_first=False))
    intents = [row.entry.intent_id for row in stored]
    await journal.close()
    acknowledged = [f"intent-{line.split()[1]}" for line in lines if line.startswith("ack")]
    assert acknowledged
    assert intents == ["before", *acknowledged, "after"]
