"""A MariaDB server of the test's own, with CloudStack's tables and a small cloud in it.

It takes nothing from the machine's configuration, listens on a loopback address and a port that
nobody else has, and is ended by its process id.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest

HERE = Path(__file__).parent
USER = "watcher"
PASSWORD = "not so secret"
TABLES = (
    "vm_instance",
    "host",
    "data_center",
    "vm_template",
    "nics",
    "console_proxy",
    "secondary_storage_vm",
    "async_job",
    "vm_work_job",
)
START_SECONDS_MAX = 60.0
# Small files, quick to copy; what is committed outlives a kill -9 of the server.
_ENGINE = (
    "--innodb-log-file-size=8M",
    "--innodb-buffer-pool-size=16M",
    "--innodb-flush-log-at-trx-commit=2",
    *(("--user=root",) if os.geteuid() == 0 else ()),
)


def programs_or_skip() -> None:
    """Leave the test out where Debian's mariadb-server is not installed."""
    for program in ("mariadbd", "mariadb-install-db", "mariadb"):
        if _found(program) is None:
            pytest.skip(f"{program} is not installed (Debian package mariadb-server)")


def _found(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _run(program: str, *arguments: str, text: str = "") -> str:
    path = _found(program)
    assert path is not None
    done = subprocess.run(
        [path, "--no-defaults", *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"
    return done.stdout


class MariaDb:
    """One server on its own data directory; `with MariaDb(directory) as server:` starts it.

    `template` is the data of a server that was filled and stopped; without one it fills its own.
    """

    def __init__(self, directory: Path, *options: str, template: Path | None = None) -> None:
        self.directory = directory
        self.options = options
        self.data = directory / "data"
        self._template = template
        dice = random.SystemRandom()
        self.host = f"127.{dice.randint(1, 254)}.{dice.randint(1, 254)}.{dice.randint(1, 254)}"
        with socket.socket() as free:
            free.bind((self.host, 0))
            self.port = int(free.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            if self._template is not None:
                shutil.copytree(self._template, self.data)
                self.start()
            else:
                self._install()
                self.start()
                self._fill()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _install(self) -> None:
        self.data.mkdir(parents=True)
        _run(
            "mariadb-install-db",
            f"--datadir={self.data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            *_ENGINE,
        )

    @property
    def _socket(self) -> Path:
        return self.data / "s"

    def start(self) -> None:
        """Start the server on its data and wait until it takes connections."""
        path = _found("mariadbd")
        assert path is not None
        log = self.directory / "error.log"
        log.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [
                path,
                "--no-defaults",
                f"--datadir={self.data}",
                f"--socket={self._socket}",
                f"--pid-file={self.directory / 'pid'}",
                f"--log-error={log}",
                f"--bind-address={self.host}",
                f"--port={self.port}",
                "--skip-name-resolve",
                *_ENGINE,
                *self.options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        ends_at = time.monotonic() + START_SECONDS_MAX
        while not (log.exists() and "ready for connections" in log.read_text("utf-8", "replace")):
            assert self._process.poll() is None, log.read_text("utf-8", "replace")
            assert time.monotonic() < ends_at, "the server did not start"
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server, whatever state it is in."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)

    def kill(self) -> None:
        """As if the machine had lost power."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)
        self._process = None

    def freeze(self) -> None:
        """The kernel goes on taking connections; nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def execute(self, sql: str, *, database: str = "cloud") -> str:
        """Run SQL as the server's root."""
        return _run("mariadb", f"--socket={self._socket}", "--user=root", database, text=sql)

    def _fill(self) -> None:
        grants = "".join(f"GRANT SELECT ON cloud.{table} TO '{USER}'@'%';" for table in TABLES)
        self.execute(
            f"CREATE DATABASE cloud; CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';"
            "USE cloud;" + (HERE / "cloud_schema.sql").read_text("utf-8") + grants,
            database="mysql",
        )
        self.execute((HERE / "cloud_sample.sql").read_text("utf-8"))
