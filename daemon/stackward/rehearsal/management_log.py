"""The management server's own log: what it says of its agents, its scans and its jobs.

Texts and format: EO/agent/manager/AgentManagerImpl.java, AgentAttache.java, the scans' managers and
ApiAsyncJobDispatcher; `%d{DEFAULT}` in local time, which here is UTC, with the request's `logid`.
Up to 4.19 a host is a number, from 4.20 it is JSON with its name.
"""

from collections.abc import Sequence
from datetime import UTC
from itertools import count
from pathlib import Path

from stackward.model.identity import VmRole
from stackward.rehearsal.clock import world_now
from stackward.rehearsal.inventory import AgentRow, Job, RehearsedZone, SystemVm
from stackward.rehearsal.settings import Release

NAME = "management-server.log"
_AGENTS = "c.c.a.m.AgentManagerImpl"
_SCANS = {
    VmRole.SECONDARY_STORAGE: ("o.a.c.s.PremiumSecondaryStorageManagerImpl", "secondary storage"),
    VmRole.CONSOLE_PROXY: ("c.c.c.ConsoleProxyManagerImpl", "console proxy"),
}


class ManagementLog:
    """Writes the log; `path` None: nobody wants it."""

    def __init__(self, path: Path | None, release: Release, bytes_max: int) -> None:
        self._path = path
        self._release = release
        self._bytes_max = bytes_max
        self._requests = count(1)

    # --- agents -----------------------------------------------------------------------------------

    def agent_connecting(self, vm: SystemVm, row: AgentRow) -> None:
        kind = "SecondaryStorage" if vm.role is VmRole.SECONDARY_STORAGE else "Proxy"
        notice = f"Received a host startup notification com.cloud.agent.api.Startup{kind}Command"
        self._say(
            "AgentConnectTaskPool-1",
            ("DEBUG", _AGENTS, f"create ClusteredAgentAttache for {self._host(vm, row)}"),
            ("INFO", "c.c.s.s.SecondaryStorageListener", notice),
        )

    def agent_ready(self, vm: SystemVm, row: AgentRow) -> None:
        self._say("AgentConnectTaskPool-1", self._moved(vm, row, "Connecting", "Ready", "Up"))

    def agent_said_goodbye(self, vm: SystemVm, row: AgentRow) -> None:
        host = self._host(vm, row)
        goodbye = "has informed us that it is shutting down with reason sig.kill and detail null"
        self._say(
            "AgentManager-Handler-4",
            ("INFO", _AGENTS, f"Host {host} {goodbye}"),
            ("INFO", _AGENTS, f"Host {host} is disconnecting with event ShutdownRequested"),
            self._moved(vm, row, "Up", "ShutdownRequested", "Disconnected"),
        )

    def agent_link_closed(self, vm: SystemVm, row: AgentRow) -> None:
        host = self._host(vm, row)
        event = "has disconnected with event AgentDisconnected"
        self._say(
            "AgentTaskPool-2",
            ("INFO", _AGENTS, f"Investigating why host {host} {event}"),
            ("INFO", _AGENTS, f"The agent from host {host} state determined is Alert"),
            self._moved(vm, row, "Up", "AgentDisconnected", "Alert"),
        )

    def agent_overdue(self, vm: SystemVm, row: AgentRow) -> None:
        host = self._host(vm, row)
        closing = "Disconnect agent for CPVM/SSVM due to physical connection close."
        self._say(
            "AgentMonitor-1",
            ("INFO", _AGENTS, f"Found the following agents behind on ping: [{row.number}]"),
            ("WARN", _AGENTS, f"{closing} host: {host}"),
            self._moved(vm, row, "Up", "PingTimeout", "Disconnected"),
        )

    # --- scans ------------------------------------------------------------------------------------

    def scanned(self, zone: RehearsedZone, role: VmRole) -> None:
        """A scan that finds nothing to do."""
        logger, what = _SCANS[role]
        text = f"Zone {zone.number} is ready to launch {what} VM"
        self._say(f"{what.split()[0]}-1", ("DEBUG", logger, text))

    def found_stopped(self, vm: SystemVm) -> None:
        logger, what = _SCANS[vm.role]
        text = f"Found a stopped {what} VM {self._instance(vm)}, starting it."
        self._say(f"{what.split()[0]}-1", ("INFO", logger, text))

    def allocates(self, vm: SystemVm) -> None:
        logger, what = _SCANS[vm.role]
        text = f"No stopped {what} vm is available, need to allocate a new {what} vm"
        self._say(f"{what.split()[0]}-1", ("INFO", logger, text))

    def has_started(self, vm: SystemVm) -> None:
        logger, what = _SCANS[vm.role]
        words = "Console proxy" if vm.role is VmRole.CONSOLE_PROXY else "Secondary storage vm"
        text = f"{words} {self._instance(vm)} is started"
        self._say(f"{what.split()[0]}-1", ("INFO", logger, text))

    def found_off(self, vm: SystemVm) -> None:
        """The hypervisor reports a VM as off that should run."""
        ending = "is sync-ed to at Stopped state according to power-off report from hypervisor."
        logger = "c.c.v.VirtualMachineManagerImpl"
        self._say("DirectAgentCronJob-1", ("INFO", logger, f"VM {self._instance(vm)} {ending}"))

    # --- jobs -------------------------------------------------------------------------------------

    def job_failed(self, job: Job, reason: str) -> None:
        trace = f"com.cloud.utils.exception.CloudRuntimeException: {reason} ({job.vm.name})"
        text = f"Unexpected exception while executing {job.command}\n{trace}"
        self._say("API-Job-Executor-1", ("ERROR", "c.c.a.ApiAsyncJobDispatcher", text))

    # --- the form ---------------------------------------------------------------------------------

    def _moved(
        self, vm: SystemVm, row: AgentRow, old: str, event: str, new: str
    ) -> tuple[str, str, str]:
        states = f"old status = {old}; event = {event}; new status = {new}"
        counts = "old update count = 7; new update count = 8"
        text = f"Agent status update: [id = {row.number}; name = {vm.name}; {states}; {counts}]"
        return ("DEBUG", "c.c.h.Status", text)

    def _host(self, vm: SystemVm, row: AgentRow) -> str:
        if not self._release.logs_with_log4j2:
            return str(row.number)
        kind = "SecondaryStorageVM" if vm.role is VmRole.SECONDARY_STORAGE else "ConsoleProxy"
        return f'{{"id":{row.number},"name":"{vm.name}","type":"{kind}","uuid":"{row.id}"}}'

    def _instance(self, vm: SystemVm) -> str:
        if not self._release.logs_with_log4j2:
            return vm.name
        return f'{{"id":{vm.number},"instanceName":"{vm.name}","uuid":"{vm.id}"}}'

    def _say(self, thread: str, *said: tuple[str, str, str]) -> None:
        """Some records of one request: level, logger and text each."""
        if self._path is None:
            return
        request = f"{next(self._requests):08x}"
        context = f"[ctx-{request}]" if self._release.logs_with_log4j2 else f"ctx-{request}"
        now = world_now().astimezone(UTC)
        stamp = f"{now:%Y-%m-%d %H:%M:%S},{now.microsecond // 1000:03d}"
        self._write(
            self._path,
            [
                f"{stamp} {level:<5} [{logger}] ({thread}:{context}) (logid:{request}) {text}\n"
                for level, logger, text in said
            ],
        )

    def _write(self, path: Path, lines: Sequence[str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > self._bytes_max:
            path.replace(path.with_name(f"{path.name}.1"))
        with path.open("a", encoding="utf-8") as file:
            file.writelines(lines)
