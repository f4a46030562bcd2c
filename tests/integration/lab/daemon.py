"""The real daemon in a process of its own: started, asked, stopped, killed, started again.

It is told nothing but its configuration file. What it says is read from its JSON log and its own
pages. The kernel ends it when the tests are killed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from prometheus_client.parser import text_string_to_metric_families

from stackward.cli.ask import NoAnswerError, SaysNoError, ask

T = TypeVar("T")

PATIENCE = 60.0
STOP_SECONDS = 30.0
LOG_LINES_MAX = 5000
LOG_LINE_BYTES_MAX = 1024 * 1024
METRICS_BYTES_MAX = 64 * 1024 * 1024
LOOK_EVERY = 0.2

# What is started with this dies with the thread that started it (prctl(2), PR_SET_PDEATHSIG).
LEASH = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()

Json = dict[str, Any]


def restart_rule(**rung: float) -> Json:
    """The one rule of these tests: a dead agent is restarted, once, and soon."""
    first = {"attempts_max": 1, "cooldown_seconds": 60, "verify_within_seconds": 40, **rung}
    return {
        "name": "restart-dead-agent",
        "diagnosis": "AgentDown",
        "roles": ["ssvm", "cpvm"],
        "zones": ["*"],
        "stands_for_seconds": 1,
        "mode": "act",
        "ladder": [{"action": "restart-agent", **first}],
    }


class Metrics:
    """One scrape in the text format. Only what is asked for is parsed: tests look often."""

    def __init__(self, text: str) -> None:
        self.text = text

    def of(self, name: str, **labels: str) -> list[tuple[Mapping[str, str], float]]:
        """Labels and value of every sample of this name that has these labels."""
        mine = (f"{name} ", f"{name}{{")
        lines = [line for line in self.text.splitlines() if line.startswith(mine)]
        return [
            (sample.labels, sample.value)
            for family in text_string_to_metric_families("\n".join([*lines, ""]))
            for sample in family.samples
            if labels.items() <= sample.labels.items()
        ]

    def value(self, name: str, **labels: str) -> float:
        """The sum of these samples."""
        return sum(value for _, value in self.of(name, **labels))


class DaemonProcess:
    """One daemon on one state directory. As a context it is started, and ended at the end."""

    def __init__(self, folder: Path, config: Mapping[str, Any], rules: Iterable[Json] = ()) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.state_directory = folder / "state"
        self.config = folder / "stackward.yaml"
        (folder / "rules.yaml").write_text(json.dumps({"rules": list(rules)}))
        told = {
            **config,
            "state_directory": str(self.state_directory),
            "web": {"listen": "127.0.0.1:0"},
            "rules": {"builtin": False, "files": ["rules.yaml"]},
        }
        self.config.write_text(json.dumps(told, indent=2))  # JSON is YAML
        self.config.chmod(0o600)
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._lines: deque[str] = deque(maxlen=LOG_LINES_MAX)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self.stop()

    # --- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, again after `stop` or `kill`; returns when it serves."""
        assert self._process is None, "it runs"
        self._lines.clear()
        process = subprocess.Popen(
            [*LEASH, *_stackward("run", "--config", self.config, "--log-format", "json")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=_environment(),
        )
        self._process = process
        self._reader = threading.Thread(target=self._read_log, args=(process,), daemon=True)
        self._reader.start()
        try:
            started = self.until(lambda: self.said("started"))
        except BaseException:
            self.kill()
            raise
        self.port = int(started[-1]["port"])

    def _read_log(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        while line := process.stderr.readline(LOG_LINE_BYTES_MAX):
            self._lines.append(line.decode("utf-8", "replace").strip())

    def stop(self) -> int:
        """SIGTERM, and SIGKILL if that does not help; the exit code."""
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return self._ended()

    def kill(self) -> None:
        """As `kill -9` does."""
        assert self._process is not None
        self._process.kill()
        self._ended()

    @property
    def resident_bytes(self) -> int:
        """What it holds of the machine's memory."""
        assert self._process is not None
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _ended(self) -> int:
        process, self._process = self._process, None
        assert process is not None
        code = process.wait(STOP_SECONDS)
        if self._reader is not None:
            self._reader.join(STOP_SECONDS)
        if process.stderr is not None:
            process.stderr.close()
        return code

    def command(self, *arguments: str) -> str:
        """Run another command of the program on this state directory; it must succeed."""
        done = subprocess.run(
            [*_stackward(*arguments), "--state-directory", self.state_directory],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=_environment(),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    # --- its log ----------------------------------------------------------------------------------

    @property
    def log(self) -> list[str]:
        """The newest lines."""
        return list(self._lines)

    def said(self, event: str, **values: object) -> list[Json]:
        """The log's events of this name that hold these values."""
        found = []
        for line in self.log:
            try:
                told = json.loads(line)
            except ValueError:
                continue
            if told.get("event") == event and values.items() <= told.items():
                found.append(told)
        return found

    # --- its pages --------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str) -> Json:
        """One JSON answer. NoAnswerError or SaysNoError where there is none."""
        return dict(ask(self.url, path))

    def status(self) -> Json:
        return self.ask("/api/v1/status")

    def vm(self, name: str) -> Json:
        return self.ask(f"/api/v1/vms/{name}")

    def holds(self, name: str) -> list[Json]:
        """What the newest plan holds back on this VM."""
        plan = self.ask("/api/v1/plan")["plan"]
        return [hold for hold in plan["holds"] if hold["target_name"] == name]

    def entries(self, *kinds: str, vm: str | None = None, after: int = 0) -> list[Json]:
        """Journal rows, oldest first."""
        query = f"limit=1000&after={after}" + (f"&target={vm}" if vm else "")
        query += "".join(f"&kind={kind}" for kind in kinds)
        return list(reversed(self.ask(f"/api/v1/journal?{query}")["entries"]))

    def open_episodes(self) -> int:
        """How many are open, as the journal has it; a VM may be well a round before its row."""
        return len(self.entries("episode-opened")) - len(self.entries("episode-closed"))

    def last_sequence(self) -> int:
        """The newest row of the journal."""
        rows = self.ask("/api/v1/journal?limit=1")["entries"]
        return int(rows[0]["sequence"]) if rows else 0

    def metrics(self) -> Metrics:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}/metrics", timeout=PATIENCE) as reply:
            return Metrics(reply.read(METRICS_BYTES_MAX).decode())

    # --- waiting ----------------------------------------------------------------------------------

    def until(self, look: Callable[[], T], seconds: float = PATIENCE) -> T:
        """Look until there is something to see (anything true), and return it."""
        return until(look, seconds, self._told)

    def _told(self) -> str:
        is_there = self._process is not None and self._process.poll() is None
        return f"the daemon {'runs' if is_there else 'is gone'}:\n" + "\n".join(self.log[-40:])


def until(look: Callable[[], T], seconds: float = PATIENCE, told: Callable[[], str] = str) -> T:
    """Look until there is something true to see, and return it; `told` explains a failure."""
    ends_at = time.monotonic() + seconds
    seen: object = None
    while True:
        try:
            seen = found = look()
            if found:
                return found
        except (NoAnswerError, SaysNoError, OSError) as trouble:
            seen = trouble
        assert time.monotonic() < ends_at, f"not in {seconds:g} s, last seen: {seen!r}\n{told()}"
        time.sleep(LOOK_EVERY)


def moment(text: str) -> datetime:
    """A moment as the daemon's JSON writes it."""
    return datetime.fromisoformat(text)


def _stackward(*arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "stackward", *arguments]


def _environment() -> dict[str, str]:
    """Ours without what would speak to a stackward or a service manager."""
    foreign = ("STACKWARD_", "NOTIFY_SOCKET", "WATCHDOG_")
    return {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
