"""One daemon per state directory: an flock on a file that names its holder.

The kernel lets go of it when the process ends, however it ends: there is no stale lock to clear.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from stackward.errors import JournalError

LOCK_NAME = "lock"


class StateLock:
    """Held from `take` (or `with`) to `release`. The file stays; only its lock comes and goes."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / LOCK_NAME
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take the lock, or raise JournalError naming who has it."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(f"the lock {self._path} cannot be opened: {error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise JournalError(
                f"another stackward ({holder}) works in {self._path.parent}"
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise JournalError(f"the lock {self._path} cannot be taken: {error}") from error
        self._descriptor = descriptor

    def check(self) -> None:
        """Raise JournalError where the lock held is not the one that a second daemon would meet.

        A state directory that was moved, removed or mounted over keeps nobody out any more.
        """
        try:
            there = self._path.lstat()
            ours = None if self._descriptor is None else os.fstat(self._descriptor)
        except OSError as error:
            raise JournalError(f"the state directory is gone: {error}") from error
        if ours is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            raise JournalError(
                f"{self._path} is not the lock that this daemon took: the state directory was"
                " replaced; restart the daemon"
            )

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _holder(descriptor: int) -> str:
    try:
        text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
    except OSError:
        text = ""
    return f"pid {text}" if text.isdigit() else "pid unknown"
