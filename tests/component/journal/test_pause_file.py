"""The pause file: what cannot be read counts as paused."""

import os
import stat
from pathlib import Path

import pytest

from stackward.errors import JournalError
from stackward.ports import Pause
from stackward.transports.pause import PauseFile
from tests.fakes.clock import EPOCH

PAUSE = Pause(reason="maintenance", by="ada", at=EPOCH)


def test_an_absent_file_means_not_paused(tmp_path: Path):
    assert PauseFile(tmp_path / "paused").read() is None


def test_a_pause_is_read_back_until_it_is_cleared(tmp_path: Path):
    switch = PauseFile(tmp_path / "paused")
    switch.write(PAUSE)
    assert switch.read() == PAUSE
    switch.write(Pause(reason="longer", by="bob", at=None))
    assert switch.read() == Pause(reason="longer", by="bob", at=None)
    assert [file.name for file in tmp_path.iterdir()] == ["paused"]
    assert switch.clear()
    assert not switch.clear()
    assert switch.read() is None


def test_a_daemon_of_another_user_can_read_it_whatever_the_umask(tmp_path: Path):
    before = os.umask(0o077)
    try:
        PauseFile(tmp_path / "paused").write(PAUSE)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "paused").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe garbage",
        b"{",
        b"[]",
        b"7",
        b'{"reason": 7, "by": "x"}',
        b'{"by": "x"}',
        b'{"reason": "x", "by": "y", "at": "soon"}',
        b'{"reason": "x", "by": "y", "at": 12}',
        b"[" * 4000,
        b" " * 5000,
    ],
)
def test_garbage_counts_as_paused(tmp_path: Path, content: bytes):
    path = tmp_path / "paused"
    path.write_bytes(content)
    pause = PauseFile(path).read()
    assert pause is not None
    assert "cannot be read" in pause.reason
    assert PauseFile(path).clear()


def test_a_reason_typed_in_another_encoding_can_be_shown(tmp_path: Path):
    switch = PauseFile(tmp_path / "paused")
    switch.write(Pause(reason=os.fsdecode(b"r\xe9seau"), by=os.fsdecode(b"\xff"), at=None))
    assert switch.read() == Pause(reason="r?seau", by="?", at=None)


def test_a_directory_a_fifo_and_a_link_to_itself_in_its_place(tmp_path: Path):
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("directory", "fifo", "loop"):
        pause = PauseFile(tmp_path / name).read()
        assert pause is not None, name
        assert "cannot be read" in pause.reason


def test_trouble_in_writing_is_a_clear_error(tmp_path: Path):
    with pytest.raises(JournalError, match="cannot be written"):
        PauseFile(tmp_path / "no" / "paused").write(PAUSE)
    (tmp_path / "paused").mkdir()
    with pytest.raises(JournalError, match="cannot be removed"):
        PauseFile(tmp_path / "paused").clear()
