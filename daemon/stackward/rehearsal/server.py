"""One rehearsed cloud, from start to clean end."""

import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from stackward.rehearsal.addresses import Addresses
from stackward.rehearsal.api import Api, Keys
from stackward.rehearsal.clock import Timers
from stackward.rehearsal.inventory import Machine, SystemVm
from stackward.rehearsal.ledger import Ledger, LedgerLine
from stackward.rehearsal.machine import GuestMachine, NothingInside
from stackward.rehearsal.settings import RehearsalSettings
from stackward.rehearsal.world import World

_SHUTDOWN_SECONDS = 1.0


class Rehearsal:
    """`async with Rehearsal(settings) as cloud:` and everything is there until the block ends."""

    def __init__(self, settings: RehearsalSettings | None = None) -> None:
        self.settings = settings or RehearsalSettings()
        self.directory = Path()
        self.api_url = ""
        self._stack = AsyncExitStack()
        self._timers = Timers()
        self._ledger = Ledger(None)
        self._addresses: Addresses | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._open_directory(stack)
            self._addresses = Addresses()
            stack.callback(self._addresses.close)
            self._ledger = Ledger(self.directory / "ledger.jsonl")
            stack.callback(self._ledger.close)
            stack.callback(self._timers.close)
            self.world = World(
                self.settings, self._timers, self._make_machine, address=self._addresses.of
            )
            keys = Keys(
                api_key=f"key-{self.world.new_id()}", secret_key=f"secret-{self.world.new_id()}"
            )
            self.api_key, self.secret_key = keys.api_key, keys.secret_key
            self.api = Api(self.world, self._ledger, keys)
            self.world.populate()
            await self._serve_api(stack)
            self.world.start_scans()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    def _open_directory(self, stack: AsyncExitStack) -> None:
        if self.settings.directory is not None:
            self.directory = self.settings.directory
            self.directory.mkdir(parents=True, exist_ok=True)
            return
        self.directory = Path(tempfile.mkdtemp(prefix="stackward-rehearsal-"))
        stack.callback(shutil.rmtree, self.directory, ignore_errors=True)

    def _make_machine(self, world: World, vm: SystemVm) -> Machine:
        return GuestMachine(world, vm, NothingInside(), "192.0.2.10:8250")

    async def _serve_api(self, stack: AsyncExitStack) -> None:
        runner = web.AppRunner(
            self.api.application(),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        stack.callback(self.api.manners.is_over.set)
        site = web.TCPSite(runner, "127.0.0.1", self.settings.api_port)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.api_url = f"http://{host}:{port}/client/api"

    # --- looking ----------------------------------------------------------------------------------

    def ledger(self) -> tuple[LedgerLine, ...]:
        """Every request that was to change something."""
        return self._ledger.lines
