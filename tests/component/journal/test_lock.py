"""One daemon per state directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stackward.errors import JournalError
from stackward.journal.lock import StateLock
from stackward.journal.store import SqliteJournal
from stackward.model.entry import Entry, EntryKind
from tests.fakes.clock import EPOCH, FixedClock

HOLDER = """
import sys
from pathlib import Path
from stackward.journal.lock import StateLock
with StateLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_is_told_who_the_first_is_and_may_come_after_it(tmp_path: Path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(JournalError, match=f"pid {holder.pid}"):
            StateLock(tmp_path).take()
        holder.kill()
        holder.wait(timeout=25)
    with StateLock(tmp_path):
        assert (tmp_path / "lock").read_text().strip() == str(os.getpid())


def test_a_missing_directory_is_a_clear_error(tmp_path: Path):
    with pytest.raises(JournalError, match="cannot be opened"):
        StateLock(tmp_path / "no").take()


def test_a_lock_that_was_let_go_can_be_taken_again(tmp_path: Path):
    lock = StateLock(tmp_path)
    lock.take()
    lock.release()
    lock.release()
    lock.take()
    lock.release()


def test_a_lock_that_keeps_nobody_out_any_more_says_so(tmp_path: Path):
    directory = tmp_path / "state"
    directory.mkdir()
    with StateLock(directory) as lock:
        lock.check()
        directory.rename(tmp_path / "elsewhere")
        with pytest.raises(JournalError, match="is gone"):
            lock.check()
        directory.mkdir()
        with StateLock(directory) as second, pytest.raises(JournalError, match="was replaced"):
            lock.check()
        second.release()
        directory.rename(tmp_path / "second")
        (tmp_path / "elsewhere").rename(directory)
        lock.check()


async def test_nothing_is_written_where_the_lock_is_not_ours(tmp_path: Path):
    directory = tmp_path / "state"
    directory.mkdir()
    entry = Entry(kind=EntryKind.STARTED, at=EPOCH, text="hello")
    with StateLock(directory) as lock:
        journal = SqliteJournal(directory / "j.db", FixedClock(), may_write=lock.check)
        await journal.append(entry)
        directory.rename(tmp_path / "elsewhere")
        directory.mkdir()
        with StateLock(directory):
            with pytest.raises(JournalError, match="was replaced"):
                await journal.append(entry)
            with pytest.raises(JournalError, match="was replaced"):
                await journal.save_logs({})
            assert [path.name for path in directory.iterdir()] == ["lock"]
        (directory / "lock").unlink()
        directory.rmdir()
        (tmp_path / "elsewhere").rename(directory)
        assert await journal.append(entry) == 2
        await journal.close()
