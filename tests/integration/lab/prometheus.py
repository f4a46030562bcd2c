"""A real Prometheus that scrapes one target, on a port and a directory of its own."""

import json
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.integration.lab.daemon import LEASH, PATIENCE, Metrics, until

STOP_SECONDS = 30.0
ANSWER_BYTES_MAX = 16 * 1024 * 1024
SCRAPE_SECONDS = 1


def programs_or_skip() -> None:
    """Leave the test out where Debian's prometheus is not installed."""
    for program in ("prometheus", "promtool"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian package prometheus)")


def check_metrics(text: str) -> subprocess.CompletedProcess[str]:
    """What `promtool check metrics` says of a page in the text format; 0 where it is clean."""
    return subprocess.run(
        ["promtool", "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Prometheus:
    """One server. As a context it scrapes `target` (host:port) once a second until the end."""

    def __init__(self, folder: Path, target: str) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._config = folder / "prometheus.yml"
        told = {
            "global": {
                "scrape_interval": f"{SCRAPE_SECONDS}s",
                "scrape_timeout": f"{SCRAPE_SECONDS}s",
            },
            "scrape_configs": [
                {"job_name": "stackward", "static_configs": [{"targets": [target]}]}
            ],
        }
        self._config.write_text(json.dumps(told))  # JSON is YAML
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        # It cannot tell a port that the kernel gave it, so it is given one that was free just now.
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *LEASH,
                    "prometheus",
                    f"--config.file={self._config}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    "--storage.tsdb.retention.time=1h",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            until(lambda: self._get("/-/ready"), told=self._told)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)

    def _told(self) -> str:
        return (self._folder / "log").read_text("utf-8", "replace")[-4000:]

    def _get(self, path: str) -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE) as reply:
            return bytes(reply.read(ANSWER_BYTES_MAX))

    def ask(self, path: str, **parameters: str) -> Any:
        """The `data` of one answer of its API."""
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        answer = json.loads(self._get(f"/api/v1/{path}{query}"))
        assert answer["status"] == "success", answer
        return answer["data"]

    def value(self, expression: str) -> float | None:
        """What an expression with one result comes to now; None where nothing is known."""
        found = self.ask("query", query=expression)["result"]
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def target(self) -> Any:
        """What it knows of its one target."""
        (target,) = self.ask("targets")["activeTargets"]
        return target

    def own_metrics(self) -> Metrics:
        return Metrics(self._get("/metrics").decode())

    def until(self, expression: str, value: float) -> None:
        """Wait until an expression comes to this."""
        until(lambda: self.value(expression) == value, told=self._told)
