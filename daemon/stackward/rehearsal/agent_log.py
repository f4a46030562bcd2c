"""The lines of /var/log/cloud.log, as the release in question writes them.

Formats and texts: SV/agent/conf/log4j-cloud.xml, AG/Agent.java, NIO/NioClient.java, and the output
of `date` in the boot scripts.
"""

from datetime import UTC, datetime

from stackward.rehearsal.inventory import SystemVm
from stackward.rehearsal.settings import Release

_NIO = "utils.nio.NioClient"
_PROPERTIES = "/usr/local/cloud/systemvm/conf/agent.properties"


class AgentLog:
    """Writes lines for one VM; `at` is always the VM's own time."""

    def __init__(self, release: Release, vm: SystemVm, management: str) -> None:
        self._release = release
        self._vm = vm
        self._management = management

    def _line(self, at: datetime, level: str, logger: str, thread: str, message: str) -> str:
        moment = at.astimezone(UTC)
        milliseconds = f"{moment.microsecond // 1000:03d}"
        if self._release.logs_with_log4j2:
            stamp = f"{moment:%Y-%m-%dT%H:%M:%S},{milliseconds}"
            return f"{stamp} {level:<5} [{logger}] ({thread}:[]) {message}"
        stamp = f"{moment:%Y-%m-%d %H:%M:%S},{milliseconds}"
        return f"{stamp} {level:<5} [{logger}] ({thread}:null) {message}"

    def _agent(self, number: int) -> str:
        if self._release.names_agents_in_full:
            return f"agent [id: {number}, uuid: {self._vm.id}, name: {self._vm.name}]"
        return f"agent id = {number}"

    def boot(self, at: datetime) -> list[str]:
        """The boot scripts write into the same file, in the form of `date`."""
        moment = at.astimezone(UTC)
        if self._release.is_since(4, 20):
            stamp = f"{moment:%a %b} {moment.day:2d} {moment:%I:%M:%S %p} UTC {moment.year}"
        elif self._release.is_since(4, 15):
            stamp = f"{moment:%a} {moment.day:2d} {moment:%b %Y %I:%M:%S %p} UTC"
        else:
            stamp = f"{moment:%a %b} {moment.day:2d} {moment:%H:%M:%S} UTC {moment.year}"
        return [
            f"{stamp} Executing cloud-early-config",
            f"{stamp} Bootstrapping systemvm appliance",
            f"{stamp} Finished setting up systemvm",
        ]

    def started(self, at: datetime) -> list[str]:
        shell = "cloud.agent.AgentShell"
        texts = (
            "Agent started",
            f"Implementation Version is {self._release.name}",
            f"agent.properties found at {_PROPERTIES}",
            "Defaulting to using properties file for storage",
            "Defaulting to the constant time backoff algorithm",
        )
        return [self._line(at, "INFO", shell, "main", text) for text in texts]

    def connecting(self, at: datetime) -> list[str]:
        return [
            self._line(at, "INFO", _NIO, "main", f"Connecting to {self._management}"),
            self._line(at, "INFO", "utils.nio.Link", "main", f"Conf file found: {_PROPERTIES}"),
        ]

    def connected(self, at: datetime) -> list[str]:
        return [
            self._line(at, "INFO", _NIO, "main", "SSL: Handshake done"),
            self._line(at, "INFO", _NIO, "main", f"Connected to {self._management}"),
        ]

    def refused(self, at: datetime) -> list[str]:
        """Nobody takes the connect."""
        port = self._management.rpartition(":")[2]
        mark = "?" if self._release.names_agents_in_full else ""
        logger = _NIO if self._release.logs_with_log4j2 else "utils.nio.NioConnection"
        text = f"Unable to connect to remote: is there a server running on port {port}{mark}"
        lines = [self._line(at, "WARN", logger, "main", text)]
        if self._release.names_agents_in_full:
            lines[0] += " java.net.ConnectException: Connection refused"
            lines += ["\tat java.base/sun.nio.ch.Net.pollConnect(Native Method)", ""]
        again = (
            "Attempted to connect to the server, but received an unexpected exception, "
            "trying again..."
        )
        return [*lines, self._line(at, "INFO", "cloud.agent.Agent", "main", again)]

    def handshake_failed(self, at: datetime) -> list[str]:
        """The connect is taken, and TLS fails."""
        host = self._management.rpartition(":")[0]
        text = (
            "SSL error caught during unwrap data: PKIX path validation failed, for local "
            f"address=/{self._vm.private}:45986, remote address=/{host}. The client may have "
            "invalid ca-certificates."
        )
        return [self._line(at, "ERROR", "utils.nio.Link", "main", text)]

    def ready(self, at: datetime, number: int) -> list[str]:
        name = self._agent(number)
        answer = f"Process agent startup answer, {name}"
        if self._release.names_agents_in_full:
            answer += " connected to the server"
        logger = "cloud.agent.Agent"
        return [
            self._line(at, "INFO", logger, "Agent-Handler-2", answer),
            self._line(at, "INFO", logger, "Agent-Handler-2", f"Startup Response Received: {name}"),
            self._line(
                at,
                "INFO",
                logger,
                "AgentRequest-Handler-1",
                f"Processing agent ready command, {name}",
            ),
            self._line(at, "INFO", logger, "AgentRequest-Handler-1", self._ready_text(name)),
        ]

    def _ready_text(self, name: str) -> str:
        if self._release.is_since(4, 11, 1):
            return f"Ready command is processed for {name}"
        return f"Ready command is processed: {name}"

    def stopping(self, at: datetime) -> list[str]:
        text = "Stopping the agent: Reason = sig.kill"
        return [self._line(at, "INFO", "cloud.agent.Agent", "AgentShutdownThread", text)]

    def lost(self, at: datetime) -> list[str]:
        host = self._management.rpartition(":")[0]
        logger = "cloud.agent.Agent"
        lost = (
            f"Lost connection to host: {host}. Attempting reconnection while we still have "
            "0 commands in progress."
        )
        return [
            self._line(at, "INFO", logger, "Agent-Handler-1", lost),
            self._line(at, "INFO", logger, "Agent-Handler-1", f"Reconnecting to host: {host}"),
        ]

    def crashed(self, at: datetime) -> list[str]:
        text = "Unable to start agent: Unable to start the resource"
        return [self._line(at, "ERROR", "cloud.agent.AgentShell", "main", text)]

    def chatter(self, at: datetime, number: int) -> list[str]:
        """What a healthy agent says now and then."""
        texts = (
            f"Processed new management server list: {self._management.rpartition(':')[0]}@static",
            "Executing resource ListTemplateCommand",
            "Found 2 templates on secondary storage",
            "Dropping session which has not been used for 300 seconds",
        )
        text = texts[number % len(texts)]
        return [
            self._line(at, "INFO", "cloud.agent.Agent", f"agentRequest-Handler-{number % 5}", text)
        ]
