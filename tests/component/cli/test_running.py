"""`stackward run` as a service manager meets it: exit codes, signals, reload."""

import asyncio
import json
import signal
import socket
import sys
import urllib.request
from pathlib import Path

import pytest

from stackward import __version__
from stackward.cli.exits import Exit
from stackward.journal.lock import StateLock
from tests.component.cli.shell import Daemon, Shell, a_daemon, write_config, write_newer_journal

pytestmark = pytest.mark.timeout(150)


async def end_of(config: Path) -> tuple[int, str]:
    async with a_daemon(config) as daemon:
        return await daemon.ended(), daemon.log


async def test_a_state_directory_in_use_is_refused(tmp_path):
    config = write_config(tmp_path)
    (tmp_path / "state").mkdir()
    with StateLock(tmp_path / "state"):
        code, log = await end_of(config)
    assert code == Exit.STATE
    assert "another stackward" in log
    assert "Traceback" not in log


async def test_a_state_file_newer_than_the_program_is_refused_and_left_alone(tmp_path):
    config = write_config(tmp_path)
    (tmp_path / "state").mkdir()
    journal = await write_newer_journal(tmp_path / "state")
    before = journal.read_bytes()
    code, log = await end_of(config)
    assert code == Exit.STATE
    assert "Traceback" not in log
    assert journal.read_bytes() == before


async def test_an_address_in_use_is_told(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, log = await end_of(write_config(tmp_path, web={"listen": f"127.0.0.1:{port}"}))
    assert code == Exit.FAILED
    assert f"cannot listen on 127.0.0.1:{port}" in log
    assert "Traceback" not in log


async def test_a_configuration_with_mistakes_does_not_start(tmp_path):
    code, log = await end_of(write_config(tmp_path, mode="heroic", thresholds={"fall": 0}))
    assert code == Exit.USAGE
    assert "2 mistakes in the configuration" in log
    assert "Traceback" not in log


def metric(port: int, name: str) -> float | None:
    """None: not there, as before the first round."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as reply:
        for line in reply.read().decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
    return None


async def until_metric(port: int, name: str, wanted: float) -> None:
    async with asyncio.timeout(30):
        while await asyncio.to_thread(metric, port, name) != wanted:
            await asyncio.sleep(0.1)


async def reload(daemon: Daemon, config: Path, text: str, event: str) -> None:
    await asyncio.to_thread(config.write_text, text)
    daemon.signal(signal.SIGHUP)
    await daemon.event(event)


async def test_a_life_with_reloads_good_and_bad_and_its_end_by_sigterm(tmp_path):
    config = write_config(tmp_path)
    good = config.read_text()
    async with a_daemon(config) as daemon:
        port = (await daemon.event("started"))["port"]
        name = "stackward_config_last_reload_successful"
        await until_metric(port, name, 1.0)
        await reload(daemon, config, good.replace('"ssh"', '"sssh"'), "configuration not taken")
        await until_metric(port, name, 0.0)
        advise = json.dumps({**json.loads(good), "mode": "advise"})
        await reload(daemon, config, advise, "configuration taken")
        await until_metric(port, name, 1.0)
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == Exit.DONE, daemon.log
    assert "Traceback" not in daemon.log
    assert json.loads(daemon.lines[-1])["event"] == "stopped"


async def test_the_cloud_may_be_away_and_ctrl_c_ends_it_well(tmp_path, shell: Shell):
    config = write_config(tmp_path)
    async with a_daemon(config) as daemon:
        await daemon.event("source does not answer")
        daemon.signal(signal.SIGINT)
        assert await daemon.ended() == Exit.DONE, daemon.log
    rows = await asyncio.to_thread(shell, "journal", "-s", tmp_path / "state", "-f", "json")
    assert [row["kind"] for row in rows.json["entries"]] == ["stopped", "started"]


async def test_the_module_is_the_command():
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "stackward", "--version"), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, _ = await child.communicate()
    assert (child.returncode, out.decode()) == (Exit.DONE, f"stackward {__version__}\n")


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_the_demonstration_heals_its_agent():
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "stackward", "demo", "--once", "--break-after", "0"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(200):
            out, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.terminate()
            await child.wait()
    text = out.decode(errors="replace")
    assert child.returncode == Exit.DONE, text
    assert "restart-agent succeeded" in text
