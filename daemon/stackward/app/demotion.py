"""Remembers across restarts that a promise was broken: a file beside the pause file."""

from datetime import datetime
from typing import Protocol

from stackward.errors import JournalError
from stackward.ports import Log, Pause, PauseSwitch


class WritableSwitch(PauseSwitch, Protocol):
    """A pause file that can be written."""

    def write(self, pause: Pause) -> None: ...


class DemotionFile:
    """Implements `DemotionSwitch` on a file that only a person removes."""

    def __init__(self, file: WritableSwitch, log: Log) -> None:
        self._file = file
        self._log = log
        self._unwritten: str | None = None

    @property
    def reason(self) -> str | None:
        """None: no promise was broken, or a person has cleared it."""
        found = self._file.read()
        return found.reason if found is not None else self._unwritten

    def demote(self, reason: str, at: datetime) -> None:
        """Remember; where the file cannot be written, at least until the process ends."""
        try:
            self._file.write(Pause(reason=reason, by="stackward", at=at))
        except JournalError as trouble:
            self._unwritten = reason
            self._log.error("demotion not written", reason=str(trouble))
