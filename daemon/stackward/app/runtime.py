"""The lifetime of the daemon: start order, reload, a stop in two phases, exit codes.

Start: configuration, lock, journal, web, then everything at once; open intents are looked at
before any step is begun. Stop: no new steps; those under way get their grace while the daemon goes
on watching, because only watching can prove them; then the rest is cancelled and closed.
"""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackward.act.recovery import recover
from stackward.app.huge_pages import use_huge_pages
from stackward.app.wiring import House, build, build_web, open_journal, system_clock
from stackward.config.load import Configuration, load_configuration
from stackward.core.snapshot import Snapshot
from stackward.errors import ConfigError, JournalError
from stackward.journal.lock import StateLock
from stackward.journal.retention import Retention
from stackward.journal.store import SqliteJournal
from stackward.model.entry import Entry, EntryKind
from stackward.ports import Clock, Log
from stackward.telemetry.logs import open_log
from stackward.telemetry.sdnotify import ServiceManager
from stackward.web.server import ReloadReport

PRUNE_EVERY_SECONDS = 3600.0
# The collector walks what a fleet's connections are made of again and again, and holds up the loop
# each time. What is there at these moments after the first inventory is left out from then on, if
# it has grown by so much: to look for garbage in it first costs a large fleet a tenth of a second.
FREEZE_AFTER_SECONDS = (10.0, 20.0, 40.0, 80.0)
FREEZE_GROWTH = 1.1
# Objects before a collection of the young, and how many of these before one of the older. What a
# poll makes is freed by its reference count, so the first may be rare, and no step gets long.
COLLECTIONS = (10_000, 5, 50)
STARTED_DEADLINE_SECONDS = 10.0


class StateTroubleError(Exception):
    """The state directory cannot be used: in use, newer than this program, or not writable."""


class ListenError(Exception):
    """The web address cannot be bound."""


class _StopRequestedError(Exception):
    """Ends the watchers; nobody outside this module sees it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What the command line may say beside the configuration."""

    config: Path
    log_format: str | None = None
    log_level: str | None = None
    on_ready: Callable[[int], None] | None = None  # told the port that the web server got


class Daemon:
    """One run of the daemon."""

    def __init__(self, settings: RunSettings, configuration: Configuration) -> None:
        self._settings = settings
        self._configuration = configuration
        told = configuration.settings.log
        self._log: Log
        self._log, self._log_counts = open_log(
            style=settings.log_format or told.format.value,
            level=settings.log_level or told.level.value,
        )
        self._clock: Clock = system_clock()
        self._service = ServiceManager.from_environment()
        self._stop = asyncio.Event()
        self._hang_up = asyncio.Event()
        self._house: House | None = None
        self._reloading = asyncio.Lock()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. StateTroubleError, ListenError before anything starts."""
        directory = self._configuration.settings.state_directory
        async with AsyncExitStack() as stack:
            stack.enter_context(self._listening())
            try:
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                lock = stack.enter_context(StateLock(directory))
                journal = open_journal(directory, self._clock, may_write=lock.check)
                stack.push_async_callback(journal.close)
                await journal.open()
            except (JournalError, OSError) as trouble:
                raise StateTroubleError(str(trouble)) from trouble
            for warning in self._configuration.warnings:
                self._log.warning("configuration warning", warning=warning)
            async with asyncio.TaskGroup() as steps_group:
                await self._serve(journal, steps_group)

    async def _serve(self, journal: SqliteJournal, steps_group: asyncio.TaskGroup) -> None:
        try:
            house = await build(
                self._configuration,
                journal,
                steps_group,
                self._clock,
                self._log,
                self._log_counts,
                self._service.alive,
            )
        except JournalError as trouble:
            raise StateTroubleError(str(trouble)) from trouble
        self._house = house
        web = build_web(self._configuration, house, journal, self._clock, self._log, self._reload)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(house.close)
            try:
                await web.start()
            except OSError as trouble:
                listen = self._configuration.settings.web.listen
                raise ListenError(f"cannot listen on {listen}: {trouble}") from trouble
            stack.push_async_callback(web.stop)
            await self._note(journal, EntryKind.STARTED, "The daemon started.")
            self._service.ready("started; waiting for the first inventory")
            self._log.info(
                "started",
                mode=self._configuration.policy.mode.value,
                listen=f"{self._configuration.settings.web.listen}",
                port=web.port,
                state_directory=str(self._configuration.settings.state_directory),
            )
            if self._settings.on_ready is not None:
                self._settings.on_ready(web.port)
            await self._watch(house, journal)
            self._service.stopping()
            await self._note(journal, EntryKind.STOPPED, "The daemon stopped.")
        self._log.info("stopped")
        self._service.close()

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Take signals from the very start: one that comes early is obeyed as soon as may be."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up.set)
        try:
            yield
        finally:
            # A reload that comes too late must not end the process: SIGHUP stays ours.
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def _watch(self, house: House, journal: SqliteJournal) -> None:
        try:
            async with asyncio.TaskGroup() as watchers:
                watchers.create_task(house.loop.run())
                watchers.create_task(house.discovery.run())
                if house.prober is not None:
                    watchers.create_task(house.prober.run())
                watchers.create_task(self._follow_logs(house))
                watchers.create_task(house.lag.run())
                watchers.create_task(self._recover(house))
                watchers.create_task(self._reload_on_hang_up())
                watchers.create_task(self._prune(journal))
                watchers.create_task(self._settle(house))
                watchers.create_task(self._stop_when_asked(house))
        except* _StopRequestedError:
            pass

    async def _follow_logs(self, house: House) -> None:
        """Follow all logs, once their patterns are compiled: those of the VMs do not wait."""
        told = self._configuration
        async with asyncio.TaskGroup() as followers:
            if house.tailer is not None:
                await asyncio.to_thread(told.signatures.prepare)
                followers.create_task(house.tailer.run())
            if house.management_logs is not None:
                await asyncio.to_thread(told.management_signatures.prepare)
                followers.create_task(house.management_logs.run())

    async def _recover(self, house: House) -> None:
        """Look at what an earlier run left open, once there is a picture to look at."""
        found = house.memory.open_intents
        if found:
            self._log.warning("open intents found", intents=len(found))
            await _first_inventory(house)
            await recover(found, house.tools)
        house.is_recovering = False

    async def _stop_when_asked(self, house: House) -> None:
        await self._stop.wait()
        self._log.info("stopping")
        self._service.stopping()
        house.is_draining = True
        await house.steps.drain(self._configuration.settings.timing.stop_grace_seconds)
        raise _StopRequestedError

    async def _reload_on_hang_up(self) -> None:
        while True:
            await self._hang_up.wait()
            self._hang_up.clear()
            self._service.reloading(int(self._clock.monotonic() * 1e6))
            await self._reload()
            self._service.ready("running")

    async def _reload(self) -> ReloadReport:
        """Load, compile, then swap. A mistake anywhere leaves the old configuration in force."""
        house = self._house
        assert house is not None
        async with self._reloading:
            try:
                fresh = await asyncio.to_thread(load_configuration, self._settings.config)
                await asyncio.to_thread(_prepare_patterns, fresh)
            except ConfigError as error:
                house.loop.config_reload_ok = False
                mistakes = tuple(str(mistake) for mistake in error.mistakes)
                self._log.error("configuration not taken", mistakes="\n".join(mistakes))
                return ReloadReport(mistakes)
            house.apply(fresh)
            house.loop.config_reload_ok = True
            house.loop.config_loaded_at = self._clock.now()
            for section in _needs_restart(self._configuration, fresh):
                self._log.warning("a restart is needed for this to take effect", section=section)
            self._configuration = fresh
            self._log.info("configuration taken", mode=fresh.policy.mode.value)
            return ReloadReport()

    async def _prune(self, journal: SqliteJournal) -> None:
        while True:
            try:
                gone = await journal.prune(Retention())
                self._log.debug("journal pruned", rows=gone)
            except JournalError as trouble:
                self._log.warning("journal not pruned", reason=str(trouble))
            await self._clock.sleep(PRUNE_EVERY_SECONDS)

    async def _settle(self, house: House) -> None:
        """While the fleet gets connected, take its objects out of the collector's way."""
        await _first_inventory(house)
        waited, blocks = 0.0, 0
        for moment in FREEZE_AFTER_SECONDS:
            await self._clock.sleep(moment - waited)
            waited = moment
            if sys.getallocatedblocks() > FREEZE_GROWTH * blocks:
                gc.collect()
                gc.freeze()
                blocks = sys.getallocatedblocks()
                await asyncio.to_thread(use_huge_pages)

    async def _note(self, journal: SqliteJournal, kind: EntryKind, text: str) -> None:
        try:
            async with asyncio.timeout(STARTED_DEADLINE_SECONDS):
                await journal.append(Entry(kind=kind, at=self._clock.now(), text=text))
        except (JournalError, TimeoutError) as trouble:
            self._log.warning("journal cannot be written", reason=str(trouble))


async def _first_inventory(house: House) -> Snapshot:
    snapshot = await house.bulletin.next_after(0)
    while not snapshot.is_ready:
        snapshot = await house.bulletin.next_after(snapshot.round_number)
    return snapshot


def _prepare_patterns(configuration: Configuration) -> None:
    """What no log is followed with is not compiled."""
    settings = configuration.settings
    if settings.ssh.enabled and settings.logs.follow:
        configuration.signatures.prepare()
    if settings.management_logs:
        configuration.management_signatures.prepare()


def _needs_restart(old: Configuration, new: Configuration) -> tuple[str, ...]:
    """The sections that differ and that only a new start reads."""
    sections = (
        *("cloudstack", "database", "ssh", "facts", "logs", "management_logs", "web"),
        *("state_directory", "log"),
    )
    changed = [
        name for name in sections if getattr(old.settings, name) != getattr(new.settings, name)
    ]
    return tuple(name for name in changed if name != "logs")


def run_daemon(settings: RunSettings) -> None:
    """Run until a signal. ConfigError, StateTroubleError or ListenError if it cannot start."""
    configuration = load_configuration(settings.config)
    gc.set_threshold(*COLLECTIONS)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_main(settings, configuration))


async def _main(settings: RunSettings, configuration: Configuration) -> None:
    try:
        await Daemon(settings, configuration).run()
    except BaseExceptionGroup as group:
        # The task group wraps what ends it; the command line wants the sentence.
        for expected in group.exceptions:
            if isinstance(expected, StateTroubleError | ListenError):
                raise expected from None
        raise


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Take uvloop where it is installed and not switched off by STACKWARD_LOOP=asyncio."""
    if os.environ.get("STACKWARD_LOOP") == "asyncio":
        return None
    try:
        import uvloop  # noqa: PLC0415  optional at run time
    except ImportError:
        return None
    factory: Any = uvloop.new_event_loop
    return factory  # type: ignore[no-any-return]  # Any only because uvloop's class is looser
