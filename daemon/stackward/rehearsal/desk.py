"""Where the stand-in `systemctl` of every VM asks for what changes something.

One line in (`TOKEN VM ARGUMENTS`), an exit code and texts out. Each request is in the ledger
before it is done: this is the witness of how often a daemon restarted an agent.
"""

import asyncio
import contextlib
import hmac
from collections.abc import Callable

from stackward.rehearsal.ledger import Ledger
from stackward.rehearsal.machine import GuestMachine
from stackward.rehearsal.unit import Unit

_LINE_SECONDS = 10.0
_POLL_SECONDS = 0.05
_VERBS = ("start", "stop", "restart", "try-restart", "reset-failed", "kill")
_LIMIT_TEXT = (
    "Job for cloud.service failed.\n"
    'See "systemctl status cloud.service" and "journalctl -xe" for details.'
)


class SystemctlDesk:
    """Answers for all VMs. `find` gives the machine of a VM's name, None if there is none."""

    def __init__(
        self, ledger: Ledger, token: str, find: Callable[[str], GuestMachine | None]
    ) -> None:
        self._ledger = ledger
        self._token = token
        self._find = find

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, for `asyncio.start_server`."""
        try:
            async with asyncio.timeout(_LINE_SECONDS):
                line = (await reader.readline()).decode("utf-8", "replace")
            code, text = await self._do(line.split())
            writer.write(f"{code}\n{text}\n".encode())
            async with asyncio.timeout(_LINE_SECONDS):
                await writer.drain()
        except (OSError, ValueError, TimeoutError):
            pass  # the asker is gone; what was asked is in the ledger
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _do(self, words: list[str]) -> tuple[int, str]:
        if len(words) < 2 or not hmac.compare_digest(words[0], self._token):
            return 1, "Access denied"
        name, arguments = words[1], words[2:]
        spoken = [word for word in arguments if not word.startswith("-")]
        verb = spoken[0] if spoken else ""
        unit_name = (spoken[1] if len(spoken) > 1 else "").removesuffix(".service")
        machine = self._find(name)
        is_known = machine is not None and machine.is_up and verb in _VERBS
        is_cloud = unit_name == "cloud" or (verb == "reset-failed" and not unit_name)
        self._ledger.write(
            "systemctl",
            verb,
            vm=name,
            is_executed=is_known and is_cloud,
            note="" if is_known and is_cloud else "no such VM or unit",
            params={"arguments": " ".join(arguments)},
        )
        if machine is None or not is_known:
            return 1, "Failed to connect to bus"
        if not is_cloud:
            return 5, f"Failed to {verb} {unit_name}.service: Unit {unit_name}.service not loaded."
        is_begun = _act(machine.unit, verb)
        if "--no-block" in arguments or verb == "reset-failed":
            return 0, ""
        while machine.unit.state.active == "deactivating":  # noqa: ASYNC110  it ends in many ways
            await asyncio.sleep(_POLL_SECONDS)
        return (0, "") if is_begun else (1, _LIMIT_TEXT)


def _act(unit: Unit, verb: str) -> bool:
    match verb:
        case "start":
            return unit.start()
        case "restart":
            return unit.restart()
        case "try-restart":
            return unit.restart() if unit.state.active == "active" else True
        case "stop":
            unit.stop()
        case "reset-failed":
            unit.reset_failed()
        case _:
            unit.jvm_exited(143)
    return True
