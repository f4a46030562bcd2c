"""Log events: what a line of a system VM's log means."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from stackward.model.guest import LogPosition


class EventClass(StrEnum):
    """What a log line says happened. The packs say which lines mean which."""

    # life cycle
    BOOT_PROGRESS = "boot_progress"
    AGENT_STARTED = "agent_started"
    AGENT_CONNECTING = "agent_connecting"
    TLS_OK = "tls_ok"  # some versions print it straight after a failed handshake
    AGENT_CONNECTED = "agent_connected"
    AGENT_READY = "agent_ready"  # the one line that means: the agent is up
    AGENT_SHUTDOWN = "agent_shutdown"
    MS_LIST_UPDATED = "ms_list_updated"
    SYSTEMVM_STARTING = "systemvm_starting"
    SYSTEMVM_UP = "systemvm_up"
    MGMT_STARTED = "mgmt_started"
    MGMT_STOPPED = "mgmt_stopped"
    REBALANCE = "rebalance"
    CONSOLE_SESSION_OK = "console_session_ok"
    TRANSFER_PROGRESS = "transfer_progress"
    BENIGN = "benign"  # sounds bad and is not: never told as an event
    # problems
    AGENT_LOST_CONNECTION = "agent_lost_connection"
    AGENT_DISCONNECT_EVENT = "agent_disconnect_event"
    AGENT_UNREACHABLE = "agent_unreachable"
    MS_UNREACHABLE = "ms_unreachable"
    TLS_FAILURE = "tls_failure"
    KEYSTORE_MISSING = "keystore_missing"
    CERT_PROVISION_FAILURE = "cert_provision_failure"
    CERT_PKIX_FAILURE = "cert_pkix_failure"
    DNS_FAILURE = "dns_failure"
    MOUNT_FAILURE = "mount_failure"
    DOWNLOAD_FAILURE = "download_failure"
    UPLOAD_FAILURE = "upload_failure"
    COPY_FAILURE = "copy_failure"
    DISK_FULL = "disk_full"
    OOM = "oom"
    FD_EXHAUSTION = "fd_exhaustion"
    VNC_FAILURE = "vnc_failure"
    CONSOLE_AUTH_FAILURE = "console_auth_failure"
    CONSOLE_CONFIG_FAILURE = "console_config_failure"
    MGMT_TIMEOUT = "mgmt_timeout"
    MGMT_EXCEPTION = "mgmt_exception"
    CAPACITY = "capacity"
    ADDRESS_EXHAUSTED = "address_exhausted"
    TEMPLATE_MISSING = "template_missing"
    VERSION_MISMATCH = "version_mismatch"
    PRECONDITION_UNMET = "precondition_unmet"
    SSVM_MISSING = "ssvm_missing"
    CPVM_MISSING = "cpvm_missing"
    SYSTEMVM_START_FAILURE = "systemvm_start_failure"
    PATCH_FAILURE = "patch_failure"
    EXIT_1 = "exit_1"
    EXIT_127 = "exit_127"
    EXIT_OTHER = "exit_other"
    AGENT_EXCEPTION = "agent_exception"
    CLASS_LOAD_FAILURE = "class_load_failure"
    LIBVIRT_FAILURE = "libvirt_failure"
    STORAGE_FAILURE = "storage_failure"
    NETWORK_FAILURE = "network_failure"
    DB_FAILURE = "db_failure"
    SECSTORAGE_CAPACITY = "secstorage_capacity"
    HA_ACTION = "ha_action"
    KEY_MISMATCH = "key_mismatch"


class Severity(StrEnum):
    """How much a log event matters by itself."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


_NONE: Mapping[str, str] = MappingProxyType({})


class Sighting(NamedTuple):
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
    fields: Mapping[str, str] = _NONE
