"""One daemon per state directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stackward.errors import JournalError
from stackward.journal.lock import StateLock

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
