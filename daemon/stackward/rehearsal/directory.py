"""A rehearsal's own directory, and the end of everything that was started in it.

A process can outlive its session: a child that left its group, as a hung one may. Such are found
by what they were started with, STACKWARD_ROOT below the directory; nothing else has that.
"""

import contextlib
import os
import shutil
import signal
import tempfile
from pathlib import Path

_PROC = Path("/proc")
_MEMORY = Path("/dev/shm")  # noqa: S108  the directory in it is made by mkdtemp
_ROOM_BYTES_MIN = 512 * 1024 * 1024


def make_directory() -> Path:
    """A fresh directory, in memory where there is room: a VM is a hundred small files."""
    return Path(tempfile.mkdtemp(prefix="stackward-rehearsal-", dir=_fast_place()))


def _fast_place() -> str | None:
    """None: where temporary files usually go. The stand-in programs need a place to run from."""
    try:
        room = os.statvfs(_MEMORY)
    except OSError:
        return None
    is_good = (
        os.access(_MEMORY, os.W_OK | os.X_OK)
        and not room.f_flag & os.ST_NOEXEC
        and room.f_bavail * room.f_frsize >= _ROOM_BYTES_MIN
    )
    return str(_MEMORY) if is_good else None


def remove_directory(directory: Path) -> None:
    """End what still runs there, and remove it."""
    end_leftovers(directory)
    shutil.rmtree(directory, ignore_errors=True)


def end_leftovers(directory: Path) -> None:
    """End every process of this rehearsal that is still there."""
    mark = f"STACKWARD_ROOT={directory}/".encode()
    for entry in _PROC.glob("[0-9]*"):
        pid = int(entry.name)
        if pid == os.getpid():
            continue
        with contextlib.suppress(OSError):  # not ours to read, or gone by now
            if mark in (entry / "environ").read_bytes():
                os.kill(pid, signal.SIGKILL)
