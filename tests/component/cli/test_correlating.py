"""The whole daemon beside a rehearsed cloud: it reads both logs and says where the fault lies."""

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from stackward.rehearsal.server import Rehearsal
from stackward.rehearsal.settings import QUICK, RehearsalSettings
from tests.component.cli.shell import a_daemon

pytestmark = pytest.mark.timeout(300)
WITHIN_SECONDS = 120.0
VM = "s-1-VM"


def asked(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as reply:
        return json.loads(reply.read())


async def until_it_says(port: int, path: str, wanted: Any) -> Any:
    """Ask until `wanted` is true of the answer; the last one is in the failure."""
    answer: Any = None
    try:
        async with asyncio.timeout(WITHIN_SECONDS):
            while True:
                try:
                    answer = await asyncio.to_thread(asked, port, path)
                except OSError as not_yet:
                    answer = not_yet
                else:
                    if wanted(answer):
                        return answer
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(json.dumps(answer, indent=1, default=str)) from None


def both_logs_speak(answer: Any) -> bool:
    logs = answer["explanation"]["logs"]
    return bool(
        logs
        and answer["episode"]
        and logs["culprit"] != "undecided"
        and {line["origin"] for line in logs["timeline"]} == {"vm", "management-server"}
    )


async def test_a_vm_that_loses_its_server_is_told_with_the_words_of_both_sides(tmp_path: Path):
    async with Rehearsal(RehearsalSettings(zones=1, cpvms_per_zone=0, pace=QUICK)) as cloud:
        config = tmp_path / "stackward.yaml"
        told: dict[str, Any] = {**cloud.daemon_config(), "mode": "observe"}
        told["facts"] |= {"connect_interval_seconds": 1, "connect_retry_interval_seconds": 1}
        config.write_text(json.dumps(told))
        async with a_daemon(config) as daemon:
            port = (await daemon.event("started"))["port"]
            await until_it_says(
                port,
                "/api/v1/status",
                lambda answer: (
                    any(log["is_followed"] for log in answer["management_logs"])
                    and any(vm["verdict"] == "passed" for vm in answer["vms"])
                ),
            )
            # Its log must be followed too before there is something to read in it.
            await until_it_says(port, f"/api/v1/vms/{VM}", lambda a: a["log"]["position"])
            cloud.inject("management-unreachable", VM)
            answer = await until_it_says(port, f"/api/v1/vms/{VM}", both_logs_speak)
            logs = answer["explanation"]["logs"]
            assert logs["culprit"] == "management-server"
            assert "takes no connection" in logs["sentence"]
            cloud.clear("management-unreachable", VM)
            journal = await until_it_says(
                port,
                f"/api/v1/journal?target={VM}",
                lambda told: any(one["kind"] == "episode-closed" for one in told["entries"]),
            )
    closed = next(one for one in journal["entries"] if one["kind"] == "episode-closed")
    assert "The cause lies in the management server" in closed["text"]
    assert any("Connection refused" in line for line in closed["evidence"])
