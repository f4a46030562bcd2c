"""Ends processes that outlived their session: a child that left its group, as a hung one may.

They are found by what they were started with: STACKWARD_ROOT below the rehearsal's own directory.
Nothing else on the machine has that.
"""

import contextlib
import os
import signal
from pathlib import Path

_PROC = Path("/proc")


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
