"""The command line as a shell sees it: in this process where nothing runs on, else in a child."""

import asyncio
import json
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stackward.app.wiring import JOURNAL_NAME
from stackward.cli import main
from stackward.journal.store import SqliteJournal
from tests.fakes.clock import FixedClock

START_SECONDS = 60.0
# As `python -m stackward`, but the kernel ends it when this process is gone (PR_SET_PDEATHSIG).
STACKWARD = """
import ctypes, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
from stackward.cli import main
sys.exit(main())
"""


@dataclass(frozen=True, slots=True)
class Said:
    """What one command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    """Runs commands in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "STACKWARD_URL", "SUDO_USER"):
            monkeypatch.delenv(name, raising=False)

    def __call__(self, *arguments: object) -> Said:
        self._monkeypatch.setattr(sys, "argv", ["stackward", *map(str, arguments)])
        self._capsys.readouterr()
        code = main()
        out, err = self._capsys.readouterr()
        return Said(int(code), out, err)


def write_config(home: Path, **changes: Any) -> Path:
    """A configuration that is right, of a cloud that does not answer and whose VMs are left out."""
    for name in ("api-key", "secret-key"):
        secret = home / name
        secret.write_text(f"the-{name}\n")
        secret.chmod(0o600)
    told: Mapping[str, Any] = {
        "state_directory": "state",
        "cloudstack": {
            "endpoints": ["http://127.0.0.1:1/client/api"],
            "api_key": {"file": "api-key"},
            "secret_key": {"file": "secret-key"},
        },
        "ssh": {"enabled": False},
        "web": {"listen": "127.0.0.1:0"},
        "timing": {"round_interval_seconds": 0.1},
        **changes,
    }
    config = home / "stackward.yaml"
    config.write_text(json.dumps(told))
    config.chmod(0o600)
    return config


async def write_empty_journal(directory: Path) -> Path:
    path = directory / JOURNAL_NAME
    journal = SqliteJournal(path, FixedClock())
    await journal.open()
    await journal.close()
    return path


async def write_newer_journal(directory: Path) -> Path:
    """The journal of a program that is to come."""
    path = await write_empty_journal(directory)
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO schema_version VALUES (999)")
    connection.commit()
    connection.close()
    return path


class Daemon:
    """`stackward run` in a child."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def event(self, name: str) -> Mapping[str, Any]:
        """The next line of its log with this event."""
        assert self.process.stderr is not None
        async with asyncio.timeout(START_SECONDS):
            while line := await self.process.stderr.readline():
                self.lines.append(line.decode(errors="replace"))
                try:
                    told = json.loads(line)
                except ValueError:
                    continue
                if isinstance(told, Mapping) and told.get("event") == name:
                    return told
        raise AssertionError(f"no {name!r} in its log:\n{''.join(self.lines)}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Its exit code; its log goes into `lines`."""
        assert self.process.stderr is not None
        async with asyncio.timeout(START_SECONDS):
            self.lines += (await self.process.stderr.read()).decode(errors="replace").splitlines()
            return await self.process.wait()

    @property
    def log(self) -> str:
        return "\n".join(self.lines)


@asynccontextmanager
async def a_daemon(config: Path) -> AsyncIterator[Daemon]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", STACKWARD, "run", "--config", str(config)),
        *("--log-format", "json"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        limit=1024 * 1024,
    )
    try:
        yield Daemon(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
