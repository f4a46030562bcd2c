"""Builds everything from the configuration: the one module that knows the transports.

Adapters are made from settings and handed to the rooms as ports. What a reload may change is
swapped in place by `apply`; what it may not (addresses, keys, the state directory) needs a restart.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from uuid import uuid4

from stackward.act.executor import Executor
from stackward.act.tools import Tools
from stackward.app.bulletin import Bulletin
from stackward.app.control_loop import ControlLoop, Neighbours
from stackward.app.demotion import DemotionFile
from stackward.app.fresh_logs import FreshLogs
from stackward.app.inbox import Inbox
from stackward.app.lag import LagMeter
from stackward.app.notebook import Notebook
from stackward.app.picture import Picture
from stackward.app.steps import Steps
from stackward.catalog.fact_loop import FactLoopSettings
from stackward.catalog.guest_reader import observe_block
from stackward.catalog.log_tail import LogTailSettings
from stackward.catalog.probe import ProbeThresholds
from stackward.catalog.redact import redact
from stackward.config.load import Configuration
from stackward.config.strict import listen_address, time_zone
from stackward.core.policy import Thresholds
from stackward.core.replay import replay
from stackward.core.snapshot import Totals
from stackward.core.state import LogMemory
from stackward.journal.store import SqliteJournal
from stackward.model.entry import OpenIntent
from stackward.model.guest import FactBlock, GuestMarks, GuestReadings, LogPosition
from stackward.model.identity import IntentId, TargetId
from stackward.model.target import Target
from stackward.model.verdict import Observation, Source
from stackward.observe.discovery import Discovery, DiscoverySettings
from stackward.observe.equipment import Equipment
from stackward.observe.management_logs import (
    FollowedLog,
    ManagementLogs,
    ManagementLogsSettings,
)
from stackward.observe.prober import Prober, ProberSettings
from stackward.observe.tailer import Tailer, TailerSettings
from stackward.ports import Clock, CloudDatabase, Log
from stackward.telemetry.logs import LogCounts
from stackward.telemetry.metrics import (
    CONTENT_TYPE_OPENMETRICS,
    CONTENT_TYPE_TEXT,
    MetricsPage,
)
from stackward.transports.clock import SystemClock
from stackward.transports.cloudstack import CloudStackApi, CloudStackSettings
from stackward.transports.database import CloudStackDatabase, DatabaseSettings
from stackward.transports.local_logs import LocalLogs
from stackward.transports.management_ssh import ManagementServer, ManagementSsh
from stackward.transports.pause import PAUSE_NAME, PauseFile
from stackward.transports.ssh_guests import SshGuests
from stackward.transports.ssh_settings import SshSettings
from stackward.web.server import Reload, WebServer, WebSettings

JOURNAL_NAME = "stackward.db"
DEMOTION_NAME = "demoted"
HISTORY = timedelta(days=2)  # what cooldowns and budgets can need; open episodes come besides


def system_clock() -> Clock:
    """The machine's clock, for those who may not know the transports."""
    return SystemClock()


def pause_file(state_directory: Path) -> PauseFile:
    """The pause switch of a state directory; the CLI uses it without a daemon."""
    return PauseFile(state_directory / PAUSE_NAME)


def demotion_file(state_directory: Path) -> PauseFile:
    """The mark of a broken promise, of the same make."""
    return PauseFile(state_directory / DEMOTION_NAME)


def open_journal(
    state_directory: Path,
    clock: Clock,
    *,
    read_only: bool = False,
    may_write: Callable[[], None] | None = None,
) -> SqliteJournal:
    """The durable memory of a state directory."""
    path = state_directory / JOURNAL_NAME
    return SqliteJournal(path, clock, read_only=read_only, may_write=may_write)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What the journal held at start."""

    open_intents: tuple[OpenIntent, ...]
    logs: Mapping[str, LogMemory]


@dataclass(slots=True, kw_only=True)
class House:
    """Everything that runs, built and not started."""

    api: CloudStackApi
    database: CloudDatabase | None
    guests: SshGuests
    loop: ControlLoop
    discovery: Discovery
    prober: Prober | None
    tailer: Tailer | None
    management_logs: ManagementLogs | None
    steps: Steps
    tools: Tools
    lag: LagMeter
    bulletin: Bulletin
    fresh_logs: FreshLogs
    memory: Memory
    is_recovering: bool = True
    is_draining: bool = False

    def apply(self, configuration: Configuration) -> None:
        """Put what a reload may change in force."""
        self.loop.policy = configuration.policy
        if self.prober is not None:
            self.prober.thresholds = _probe_thresholds(configuration.policy.thresholds)
        if self.tailer is not None:
            self.tailer.signatures = configuration.signatures
        if self.management_logs is not None:
            self.management_logs.signatures = configuration.management_signatures

    async def close(self) -> None:
        """Close every connection to the world, bounded by the transports themselves."""
        await self.guests.close()
        await self.api.close()
        if self.database is not None:
            await self.database.close()


async def read_memory(journal: SqliteJournal) -> Memory:
    """What was left open, and what the lines of the logs have done."""
    return Memory(open_intents=await journal.open_intents(), logs=await journal.logs())


async def build(
    configuration: Configuration,
    journal: SqliteJournal,
    group: asyncio.TaskGroup,
    clock: Clock,
    log: Log,
    log_counts: LogCounts,
    feed_watchdog: Callable[[str], None],
) -> House:
    """Build everything. `group` is where steps will run."""
    settings, policy = configuration.settings, configuration.policy
    memory = await read_memory(journal)
    history = await journal.history(clock.now() - HISTORY)
    remembered = replace(replay(history, policy), logs=memory.logs)
    dice = Random()  # noqa: S311  jitter
    inbox, bulletin = Inbox(), Bulletin()
    equipment = Equipment(sink=inbox, snapshots=bulletin, clock=clock, log=log, random=dice)
    api = CloudStackApi(_cloudstack_settings(configuration), clock)
    database = _database(configuration, clock)
    guests = SshGuests(
        _ssh_settings(configuration),
        journal,
        clock,
        log,
        dice,
        facts=_fact_settings(configuration),
        tail=LogTailSettings(path=settings.logs.path),
    )
    discovery = Discovery(api, database, equipment, _discovery_settings(configuration))
    thresholds = _probe_thresholds(policy.thresholds)
    prober = tailer = None
    if settings.ssh.enabled:
        prober = Prober(guests, equipment, _prober_settings(configuration), thresholds)
        if settings.logs.follow:
            tailer = Tailer(
                guests,
                equipment,
                TailerSettings(bytes_per_second_max=settings.logs.bytes_per_second_max),
                configuration.signatures,
                _places(memory.logs),
            )

    def read_facts(
        block: FactBlock, target: Target
    ) -> tuple[tuple[Observation, ...], GuestMarks, GuestReadings]:
        return observe_block(block, target, prober.thresholds if prober else thresholds)

    pause = pause_file(settings.state_directory)
    tools = Tools(
        api=api,
        guests=guests,
        journal=journal,
        clock=clock,
        log=log,
        pause=pause,
        sink=inbox,
        snapshots=bulletin,
        read_facts=read_facts,
        redact=redact,
        count_crash=equipment.walls.hit,
    )
    steps = Steps(Executor(tools), group, log)
    lag = LagMeter(clock)

    management_logs = _management_logs(configuration, equipment, memory)

    def count() -> Totals:
        return Totals(
            polls={Source.SSH.value: prober.polls if prober else 0},
            poll_failures={
                Source.SSH.value: sum(prober.failures.values()) if prober else 0,
            },
            walls_hit=dict(equipment.walls.hits),
            warnings_logged=sum(log_counts.lines.values()),
            loop_lag_seconds=lag.quantiles(),
            management_flows=dict(management_logs.flows) if management_logs else {},
            management_events={
                (name, event.value): told
                for name, events in (management_logs.events if management_logs else {}).items()
                for event, told in events.items()
            },
        )

    def held_back_by() -> str:
        if house.is_draining:
            return "the daemon is stopping"
        return "what an earlier run left open is looked at first" if house.is_recovering else ""

    picture = Picture(remembered)
    notebook = Notebook(journal, clock, log, settings.timing.positions_interval_seconds)
    loop = ControlLoop(
        inbox,
        bulletin,
        picture,
        notebook,
        Neighbours(
            pause=pause,
            demotion=DemotionFile(demotion_file(settings.state_directory), log),
            capabilities=lambda: discovery.capabilities,
            count=count,
            new_intent_id=lambda: IntentId(uuid4().hex),
            start_step=steps.start,
            held_back_by=held_back_by,
            feed_watchdog=feed_watchdog,
        ),
        clock,
        log,
        policy=policy,
        round_seconds=settings.timing.round_interval_seconds,
    )
    house = House(
        api=api,
        database=database,
        guests=guests,
        loop=loop,
        discovery=discovery,
        prober=prober,
        tailer=tailer,
        management_logs=management_logs,
        steps=steps,
        tools=tools,
        lag=lag,
        bulletin=bulletin,
        fresh_logs=FreshLogs(bulletin, picture, inbox, notebook, clock),
        memory=memory,
    )
    return house


def _places(logs: Mapping[str, LogMemory]) -> Mapping[TargetId, LogPosition]:
    return {TargetId(name): log.read_to for name, log in logs.items() if log.read_to is not None}


def _management_logs(
    configuration: Configuration, equipment: Equipment, memory: Memory
) -> ManagementLogs | None:
    """The logs of management servers: files of this machine, and those read over SSH."""
    told, clock = configuration.settings.management_logs, equipment.clock
    if not told:
        return None
    local = LocalLogs({log.name: log.path for log in told if log.address is None}, clock)
    remote = ManagementSsh(_management_servers(configuration), clock, equipment.random)
    logs = [
        FollowedLog(
            name=log.name,
            zone=time_zone(log.time_zone),
            files=local if log.address is None else remote,
            is_local=log.address is None,
        )
        for log in told
    ]
    return ManagementLogs(
        logs,
        equipment,
        ManagementLogsSettings(),
        configuration.management_signatures,
        {str(name): place for name, place in _places(memory.logs).items()},
    )


def build_web(
    configuration: Configuration,
    house: House,
    journal: SqliteJournal,
    clock: Clock,
    log: Log,
    reload: Reload,
) -> WebServer:
    """The HTTP server over the house's snapshots."""
    web = configuration.settings.web
    host, port = listen_address(web.listen)
    page = MetricsPage(python=".".join(str(part) for part in sys.version_info[:3]))
    return WebServer(
        house.bulletin,
        journal,
        clock,
        log,
        lambda snapshot, openmetrics, names: page.render(
            snapshot, openmetrics=openmetrics, names=names
        ),
        reload,
        WebSettings(
            host=host,
            port=port,
            enable_lifecycle=web.enable_lifecycle,
            allowed_hosts=frozenset(name.lower() for name in web.allowed_hosts),
            unhealthy_after=timedelta(seconds=web.unhealthy_after_seconds),
            content_type_text=CONTENT_TYPE_TEXT,
            content_type_openmetrics=CONTENT_TYPE_OPENMETRICS,
        ),
        house.fresh_logs.snapshot,
    )


# --- settings of the operator to settings of the rooms ----------------------------------------


def _cloudstack_settings(configuration: Configuration) -> CloudStackSettings:
    told, secrets = configuration.settings.cloudstack, configuration.secrets
    return CloudStackSettings(
        endpoints=tuple(str(endpoint) for endpoint in told.endpoints),
        api_key=secrets.api_key.reveal(),
        secret_key=secrets.secret_key.reveal,
        ca_file=told.ca_file,
        verify_tls=told.verify_tls,
        request_timeout=told.request_timeout_seconds,
        listing_timeout=told.listing_timeout_seconds,
        reply_bytes_max=told.reply_bytes_max,
        concurrency_max=told.concurrency_max,
        rate_per_second=told.requests_per_second_max,
        expires_in=told.request_expires_seconds,
        page_size=told.page_size,
    )


def _database(configuration: Configuration, clock: Clock) -> CloudStackDatabase | None:
    told, password = configuration.settings.database, configuration.secrets.database_password
    if told is None or password is None:
        return None
    settings = DatabaseSettings(
        host=told.host,
        port=told.port,
        user=told.user,
        password=password.reveal,
        database=told.name,
        ca_file=told.ca_file,
        timeout=told.timeout_seconds,
        rows_max=told.rows_max,
    )
    return CloudStackDatabase(settings, clock)


def _ssh_settings(configuration: Configuration) -> SshSettings:
    told, secrets = configuration.settings.ssh, configuration.secrets
    hypervisors = told.hypervisors.items()
    # Nearly every poll speaks for itself; a keep-alive is for the silence after one was missed.
    keepalive = max(told.keepalive_interval_seconds, 1.2 * told.poll_interval_seconds)
    return SshSettings(
        known_hosts=told.known_hosts,
        vm_keys=tuple(key.reveal().encode() + b"\n" for key in secrets.vm_keys),
        jump_keys=tuple(key.reveal().encode() + b"\n" for key in secrets.jump_keys),
        agent_socket=told.agent_socket,
        vm_user=told.vm_user,
        vm_port=told.vm_port,
        vm_port_overrides=dict(told.vm_port_overrides),
        jump_user=told.jump_user,
        jump_port=told.jump_port,
        jump_ports={name: one.port for name, one in hypervisors if one.port is not None},
        jump_addresses={name: one.address for name, one in hypervisors if one.address is not None},
        connect_timeout=timedelta(seconds=told.connect_timeout_seconds),
        login_timeout=timedelta(seconds=told.login_timeout_seconds),
        vm_keepalive_interval=timedelta(seconds=keepalive),
        jump_keepalive_interval=timedelta(seconds=told.jump_keepalive_interval_seconds),
        keepalive_count_max=told.keepalive_count_max,
        back_off_min=timedelta(seconds=told.back_off_seconds_min),
        back_off_max=timedelta(seconds=told.back_off_seconds_max),
        handshakes_max=told.handshakes_max,
        jump_handshakes_max=told.jump_handshakes_max,
    )


def _management_servers(configuration: Configuration) -> Mapping[str, ManagementServer]:
    usual = _ssh_settings(configuration)
    own_keys = configuration.secrets.management_keys
    return {
        log.name: ManagementServer(
            address=log.address,
            port=log.port,
            ssh=replace(
                usual,
                vm_keys=(),
                jump_user=log.user,
                jump_keys=tuple(key.reveal().encode() for key in own_keys[log.name])
                or usual.jump_keys,
                known_hosts=log.known_hosts or usual.known_hosts,
            ),
            tail=LogTailSettings(path=log.path),
        )
        for log in configuration.settings.management_logs
        if log.address is not None
    }


def _fact_settings(configuration: Configuration) -> FactLoopSettings:
    told = configuration.settings.facts
    return FactLoopSettings(
        dead_man=timedelta(seconds=told.dead_man_seconds),
        unit_interval=timedelta(seconds=told.unit_interval_seconds),
        slow_interval=timedelta(seconds=told.slow_interval_seconds),
        disk_interval=timedelta(seconds=told.disk_interval_seconds),
        connect_interval=timedelta(seconds=told.connect_interval_seconds),
        connect_retry_interval=timedelta(seconds=told.connect_retry_interval_seconds),
    )


def _discovery_settings(configuration: Configuration) -> DiscoverySettings:
    cloudstack, database = configuration.settings.cloudstack, configuration.settings.database
    return DiscoverySettings(
        interval_seconds=cloudstack.listing_interval_seconds,
        deadline_seconds=cloudstack.listing_timeout_seconds + 5,
        database_interval_seconds=database.interval_seconds if database else 30.0,
        capabilities_interval_seconds=cloudstack.capabilities_interval_seconds,
    )


def _prober_settings(configuration: Configuration) -> ProberSettings:
    told = configuration.settings.ssh
    return ProberSettings(
        interval_seconds=told.poll_interval_seconds,
        timeout_seconds=told.poll_timeout_seconds,
        in_flight_max=told.polls_max,
        zone_in_flight_max=told.polls_per_zone_max,
        host_in_flight_max=told.polls_per_hypervisor_max,
    )


def _probe_thresholds(thresholds: Thresholds) -> ProbeThresholds:
    return ProbeThresholds(
        disk_used_ratio_max=thresholds.disk_used_ratio_max,
        inodes_used_ratio_max=thresholds.inodes_used_ratio_max,
        memory_available_ratio_min=thresholds.memory_available_ratio_min,
        clock_offset_max=thresholds.clock_offset_max,
        mount_hung_after=thresholds.mount_hung_after,
        slow_stale_after=thresholds.slow_stale_after,
    )
