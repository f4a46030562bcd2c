"""A rehearsal cloud that is never well for long, a daemon that is killed, and a witness of both.

The cloud lives in this process, the daemon in children of the nursery. The witness stands at the
cloud's ledger: at each request it reads the daemon's journal as it is on disk at that moment.
"""

import asyncio
import json
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Self

from stackward.rehearsal.ledger import LedgerLine
from stackward.rehearsal.machine import Link
from stackward.rehearsal.server import Rehearsal
from stackward.rehearsal.settings import QUICK, RehearsalSettings
from tests.simulation.books import Request, Row, intent_behind, open_intents

NURSERY = Path(__file__).with_name("nursery.py")
POLL_SECONDS = 0.01
START_SECONDS = 60.0
LOG_TAIL_BYTES = 4000
COUNTED = {"restart": "restart-agent", "rebootSystemVm": "reboot-system-vm"}

HASTE: Mapping[str, Mapping[str, Any]] = {
    "cloudstack": {"listing_interval_seconds": 0.5, "requests_per_second_max": 1000.0},
    "ssh": {
        "poll_interval_seconds": 0.4,
        "back_off_seconds_min": 0.1,
        "back_off_seconds_max": 0.5,
        "jump_handshakes_max": 8,
    },
    "facts": {"unit_interval_seconds": 0.3},
    "thresholds": {"fall": 1, "rise": 1, "boot_grace_seconds": 0},
    "limits": {"zone_disruptive_max": 1000, "fleet_in_flight_max": 100, "storm_count": 1000},
    "timing": {
        "round_interval_seconds": 0.1,
        "positions_interval_seconds": 0.3,
        "stop_grace_seconds": 0.5,
    },
    "rules": {"builtin": False, "files": ["rules.yaml"]},
}
RESTART = {"action": "restart-agent", "attempts_max": 2}
REBOOT = {"action": "reboot-system-vm", "attempts_max": 3}
PATIENCE = {"cooldown_seconds": 3, "verify_within_seconds": 2}


def rules(*rungs: Mapping[str, Any]) -> Mapping[str, Any]:
    rule = {
        "name": "revive",
        "diagnosis": "AgentDown",
        "roles": ["ssvm", "cpvm"],
        "zones": ["*"],
        "stands_for_seconds": 0,
        "mode": "act",
        "ladder": [{**rung, **PATIENCE} for rung in rungs],
    }
    return {"rules": [rule]}


@dataclass
class Stage:
    """`async with`, then `live` and `kill` in turn, at last `settle`."""

    seed: int
    ladder: tuple[Mapping[str, Any], ...] = (RESTART, REBOOT)
    zones: int = 3
    is_broken: bool = False
    requests: list[Request] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    pid: int | None = None
    life_begins_at: int = 0  # the journal's last row before it

    async def __aenter__(self) -> Self:
        self.dice = Random(self.seed)
        async with AsyncExitStack() as stack:
            # One VM a zone: where every VM of a larger zone is sick, the daemon rightly waits.
            settings = RehearsalSettings(
                seed=self.seed, zones=self.zones, cpvms_per_zone=0, pace=QUICK
            )
            self.cloud = await stack.enter_async_context(Rehearsal(settings))
            self.vms = [vm.name for vm in self.cloud.world.vms.values()]
            home = self.cloud.directory / "daemon"
            home.mkdir(mode=0o700)
            self.state_directory = home / "state"
            self.journal = self.state_directory / "stackward.db"
            self.log = home / "daemon.log"
            self._witness()
            await self._open_nursery(stack, self._write_config(home))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._stack.aclose()

    def _write_config(self, home: Path) -> Path:
        told: dict[str, Any] = dict(self.cloud.daemon_config())
        told.pop("management_logs")  # a second of each start, and no part of the books
        for section, values in HASTE.items():
            told[section] = {**told.get(section, {}), **values}
        told |= {"mode": "act", "state_directory": str(self.state_directory)}
        config = home / "stackward.yaml"
        config.write_text(json.dumps(told))
        (home / "rules.yaml").write_text(json.dumps(rules(*self.ladder)))
        return config

    async def _open_nursery(self, stack: AsyncExitStack, config: Path) -> None:
        broken = ["--resend"] if self.is_broken else []
        self._nursery = await asyncio.create_subprocess_exec(
            sys.executable,
            str(NURSERY),
            str(config),
            str(self.log),
            *broken,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        stack.push_async_callback(self._close_nursery)

    async def _close_nursery(self) -> None:
        assert self._nursery.stdin is not None
        self._nursery.stdin.close()
        await self._nursery.wait()

    # --- the witness

    def _witness(self) -> None:
        ledger = self.cloud.stage.ledger
        write: Callable[..., LedgerLine] = ledger.write

        def watched(*args: Any, **values: Any) -> LedgerLine:
            line = write(*args, **values)
            action = COUNTED.get(line.what)
            if action is not None:
                intent_id = intent_behind(line.vm, action, self.rows())
                self.requests.append(Request(line.vm, action, intent_id, line.is_executed))
            return line

        vars(ledger)["write"] = watched

    def rows(self, after: int = 0) -> list[Row]:
        """The journal as it is on disk, also while nobody or a dying daemon holds it."""
        if not self.journal.exists():
            return []
        connection = sqlite3.connect(f"{self.journal.as_uri()}?mode=ro", uri=True, timeout=10)
        try:
            found = connection.execute(
                "SELECT sequence, kind, target_name, intent_id, action, outcome FROM entries"
                " WHERE sequence > ? ORDER BY sequence",
                (after,),
            )
            return [Row(*row) for row in found]
        except sqlite3.OperationalError as trouble:
            if "no such table" not in str(trouble):
                raise
            return []  # the first daemon is still making them
        finally:
            connection.close()

    def _last_sequence(self) -> int:
        return max((row.sequence for row in self.rows()), default=0)

    # --- lives and deaths

    async def _order(self, *words: str) -> int:
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.write(" ".join(words).encode() + b"\n")
        async with asyncio.timeout(START_SECONDS):
            answer = await self._nursery.stdout.readline()
        return int(answer)

    async def live(self) -> None:
        """One more life of the daemon."""
        self.life_begins_at = self._last_sequence()
        self.pid = await self._order("start")

    async def kill(self) -> None:
        """End it by SIGKILL, and note what that has interrupted."""
        ended = await self._order("kill", str(self.pid))
        assert ended == -9, f"the daemon had ended by itself: {ended}\n{self.log_tail()}"
        self.kills["in all"] += 1
        interrupted = open_intents(self.rows())
        asked = {request.intent_id for request in self.requests}
        for intent_id, kind in interrupted.items():
            is_asked = kind == "begun" and intent_id in asked
            self.kills["begun and asked for" if is_asked else kind] += 1
        self.kills["while a step was open" if interrupted else "while no step was open"] += 1

    async def stop(self) -> None:
        """SIGTERM, once it has started; it must end in good order."""
        async with asyncio.timeout(START_SECONDS):
            while not any(row.kind == "started" for row in self.rows(self.life_begins_at)):
                await asyncio.sleep(POLL_SECONDS)
        ended = await self._order("stop", str(self.pid))
        assert ended == 0, f"the daemon did not stop well: {ended}\n{self.log_tail()}"

    async def wait_for(self, is_there: Callable[[list[Row]], bool], seconds: float) -> bool:
        """Until the journal's rows since now are as wanted; False: not within so many seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        last = self._last_sequence()
        while loop.time() < until:
            if is_there(self.rows(last)):
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-LOG_TAIL_BYTES:]

    # --- the weather

    def is_well(self, vm: str) -> bool:
        machine = self.cloud.stage.machine(vm)
        return machine.link is Link.READY

    async def make_weather(self) -> None:
        """Break what has become well again, and let answers be lost now and then."""
        hopeless: set[str] = set()
        while True:
            await asyncio.sleep(0.3)
            for fault in ("api-loses-answer", "api-lies-reboot"):
                if self.dice.random() < 0.1:
                    self._turn(fault)
            for vm in self.vms:
                if vm in hopeless and self.dice.random() < 0.04:
                    hopeless.discard(vm)
                    self.cloud.clear("restart-does-not-help", vm)
                    self.cloud.inject("agent-dies", vm)
                elif self.is_well(vm) and self.dice.random() < 0.5:
                    is_hopeless = self.dice.random() < 0.15
                    hopeless |= {vm} if is_hopeless else set()
                    self.cloud.inject("restart-does-not-help" if is_hopeless else "agent-dies", vm)

    def _turn(self, fault: str) -> None:
        if self.dice.random() < 0.5:
            self.cloud.inject(fault)
        else:
            self.cloud.clear(fault)

    def clear_up(self) -> None:
        for fault in ("api-loses-answer", "api-lies-reboot"):
            self.cloud.clear(fault)
        for vm in self.vms:
            self.cloud.clear("restart-does-not-help", vm)
