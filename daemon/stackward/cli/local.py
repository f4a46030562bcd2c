"""What works on the state directory itself, with or without a daemon."""

import asyncio
import getpass
import os
from pathlib import Path
from typing import Any

from stackward.app.wiring import JOURNAL_NAME, demotion_file, open_journal, pause_file, system_clock
from stackward.errors import JournalError
from stackward.model.entry import Entry, EntryKind
from stackward.model.identity import TemplateId
from stackward.ports import EntryFilter, Pause
from stackward.web.views import entries, plain


def state_directory(given: Path | None, config: Path, usual: Path) -> Path:
    """The directory that was given, else the configuration's, else the usual one.

    A configuration that cannot be read must not keep anybody from pausing.
    """
    if given is not None:
        return given
    from stackward.config.load import load_settings  # noqa: PLC0415  only where it is needed
    from stackward.errors import ConfigError  # noqa: PLC0415

    try:
        return load_settings(config).settings.state_directory
    except ConfigError:
        return usual


def pause(directory: Path, reason: str) -> None:
    """Write the pause file. JournalError if it cannot be written."""
    _require(directory)
    now = system_clock().now()
    pause_file(directory).write(Pause(reason=reason, by=_who(), at=now))


def resume(directory: Path) -> bool:
    """Remove the pause file; False: it was not paused."""
    _require(directory)
    return pause_file(directory).clear()


def clear_demotion(directory: Path) -> bool:
    """Remove the mark of a broken promise and journal who did; False: there was none."""
    _require(directory)
    if not demotion_file(directory).clear():
        return False
    text = f"{_who()} trusts the planner again."
    asyncio.run(_append(directory, EntryKind.CLEARED, text))
    return True


def forget_host_keys(directory: Path, template: str) -> int:
    """Forget a template's pinned keys; how many there were."""

    async def forget() -> int:
        # Not made here: root's file would lock the daemon out. (SQLite minds that for its own.)
        if not (directory / JOURNAL_NAME).is_file():
            raise JournalError(f"there is no journal in {directory}; see --state-directory")
        journal = open_journal(directory, system_clock())
        try:
            return await journal.forget(TemplateId(template))
        finally:
            await journal.close()

    return asyncio.run(forget())


def read_journal(directory: Path, vm: str | None, limit: int) -> list[Any]:
    """Journal rows as the daemon would give them."""

    async def read() -> list[Any]:
        _require(directory)
        journal = open_journal(directory, system_clock(), read_only=True)
        try:
            found = await journal.entries(EntryFilter(target=vm, limit=limit))
        finally:
            await journal.close()
        rows = plain(entries(found)["entries"])
        assert isinstance(rows, list)
        return rows

    return asyncio.run(read())


async def _append(directory: Path, kind: EntryKind, text: str) -> None:
    clock = system_clock()
    journal = open_journal(directory, clock)
    try:
        await journal.append(Entry(kind=kind, at=clock.now(), text=text))
    finally:
        await journal.close()


def _require(directory: Path) -> None:
    """A directory that is there: pausing in the wrong place would pause nobody."""
    if not directory.is_dir():
        raise JournalError(f"there is no state directory {directory}; see --state-directory")


def _who() -> str:
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return "an unnamed user"
