"""The pause file: a person's word that nothing may be done, in the state directory.

It works without the daemon: the CLI writes and removes it, the daemon reads it before each round
and right before each request. What cannot be read counts as paused.
"""

import json
import os
import stat
from datetime import datetime
from pathlib import Path

from stackward.errors import JournalError
from stackward.ports import Pause

PAUSE_NAME = "paused"
SIZE_MAX = 4096
REASON_MAX = 500


class PauseFile:
    """The switch. `path` is the file itself."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Pause | None:
        """None: not paused. Only an absent file means that."""
        try:
            content = _content(self._path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            return _unreadable(str(error))
        try:
            return _parse(content)
        except (TypeError, ValueError, KeyError, RecursionError) as error:
            return _unreadable(f"{self._path}: {error}")

    def write(self, pause: Pause) -> None:
        """Pause. Raises JournalError; then nothing has changed."""
        at = None if pause.at is None else pause.at.isoformat()
        text = json.dumps({"reason": pause.reason[:REASON_MAX], "by": pause.by, "at": at})
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  a descriptor
                # Root may pause for a daemon that runs as somebody else, whatever the umask.
                os.fchmod(descriptor, 0o644)
                file.write(text + "\n")
                file.flush()
                os.fsync(descriptor)
            fresh.replace(self._path)
            _sync_directory(self._path.parent)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise JournalError(f"the pause file cannot be written: {error}") from error

    def clear(self) -> bool:
        """Resume. False: it was not paused. Raises JournalError; then it is still paused."""
        try:
            self._path.unlink()
            _sync_directory(self._path.parent)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise JournalError(f"the pause file cannot be removed: {error}") from error
        return True


def _content(path: Path) -> bytes:
    # O_NONBLOCK: a FIFO put there must not block the daemon.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path} is not a regular file")
        content = os.read(descriptor, SIZE_MAX + 1)
    finally:
        os.close(descriptor)
    if len(content) > SIZE_MAX:
        raise ValueError(f"{path} is larger than {SIZE_MAX} bytes")
    return content


def _parse(content: bytes) -> Pause:
    document = json.loads(content)
    if not isinstance(document, dict):
        raise TypeError("not a JSON object")
    reason, by, at = document["reason"], document["by"], document.get("at")
    if not isinstance(reason, str) or not isinstance(by, str):
        raise TypeError("reason and by are not text")
    moment = None if at is None else datetime.fromisoformat(at)
    return Pause(
        reason=_clean(reason), by=_clean(by), at=moment if moment and moment.tzinfo else None
    )


def _clean(text: str) -> str:
    """Without what no page takes: an argument in another encoding leaves lone surrogates."""
    return text.encode("utf-8", "replace").decode()[:REASON_MAX]


def _unreadable(why: str) -> Pause:
    return Pause(reason=f"the pause file cannot be read: {why}", by="stackward", at=None)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
