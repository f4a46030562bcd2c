"""Log events: what a line of a system VM's log means."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from stackward.model.guest import LogPosition


class EventClass(StrEnum):
    """What a log line says happened. The first words; the vocabulary grows with the packs."""

    BOOT_PROGRESS = "boot_progress"
    AGENT_STARTED = "agent_started"
    AGENT_CONNECTING = "agent_connecting"
    TLS_OK = "tls_ok"
    AGENT_CONNECTED = "agent_connected"
    AGENT_READY = "agent_ready"
    AGENT_SHUTDOWN = "agent_shutdown"
    MS_LIST_UPDATED = "ms_list_updated"
    TRANSFER_PROGRESS = "transfer_progress"
    BENIGN = "benign"
    AGENT_LOST_CONNECTION = "agent_lost_connection"
    MS_UNREACHABLE = "ms_unreachable"
    TLS_FAILURE = "tls_failure"
    KEYSTORE_MISSING = "keystore_missing"
    DNS_FAILURE = "dns_failure"
    MOUNT_FAILURE = "mount_failure"
    DOWNLOAD_FAILURE = "download_failure"
    DISK_FULL = "disk_full"
    OOM = "oom"
    FD_EXHAUSTION = "fd_exhaustion"
    VNC_FAILURE = "vnc_failure"
    CONSOLE_AUTH_FAILURE = "console_auth_failure"
    AGENT_EXCEPTION = "agent_exception"
    CLASS_LOAD_FAILURE = "class_load_failure"
    EXIT_1 = "exit_1"
    EXIT_127 = "exit_127"
    EXIT_OTHER = "exit_other"


class Severity(StrEnum):
    """How much a log event matters by itself."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One log event. `line_start` is where its first line begins: events sort and dedupe by it.

    `logged_at` is the line's own time stamp (None: the line had none), on the VM's clock.
    `text` is the line, redacted and cut to 500 characters.
    """

    event: EventClass
    severity: Severity
    pattern: str
    text: str
    line_start: LogPosition
    seen_at: datetime
    logged_at: datetime | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
