"""What an event says about where the fault lies: a table, read from the top, the first row counts.

`depth` says how much a row is worth:

0. It only follows from something else, or wraps it: it decides nothing.
1. A hint.
2. The failure itself.
3. A failure from which the others follow.

A row without `says` fits any text. What no row names says nothing.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stackward.model.correlation import Concern, Culprit, LogLine, Origin
from stackward.model.diagnosis import DiagnosisCode
from stackward.model.sighting import EventClass


@dataclass(frozen=True, slots=True)
class Clue:
    """One row's word. `means` is a sentence's second half: "... says that MEANS"."""

    culprit: Culprit
    depth: int
    means: str


@dataclass(frozen=True, slots=True)
class Row:
    """When a clue is given. None: any."""

    events: frozenset[EventClass]
    clue: Clue
    origin: Origin | None = None
    concern: Concern | None = None
    says: re.Pattern[str] | None = None

    def fits(self, line: LogLine) -> bool:
        """True when the line gives this clue."""
        return (
            self.origin in (None, line.origin)
            and self.concern in (None, line.concern)
            and (self.says is None or self.says.search(line.text) is not None)
        )


_E, _W = EventClass, Culprit
_VM, _MS = Origin.VM, Origin.MANAGEMENT
NO_WAY = r"[Nn]o route to host|NoRouteToHost|[Nn]etwork is unreachable|[Tt]imed ?out|[Tt]ime-?out"
_NO_NAME = r"UnknownHost|UnresolvedAddress|not known|name resolution|resolve"
_FROM_ITSELF = "it comes from what failed before"


def _row(
    events: EventClass | Iterable[EventClass],
    culprit: Culprit,
    depth: int,
    means: str,
    *,
    origin: Origin | None = None,
    concern: Concern | None = None,
    says: str | None = None,
) -> Row:
    named = frozenset((events,) if isinstance(events, EventClass) else events)
    pattern = None if says is None else re.compile(says)
    return Row(named, Clue(culprit, depth, means), origin, concern, pattern)


ROWS: tuple[Row, ...] = (
    # ---- the management server
    _row(_E.MGMT_STOPPED, _W.MANAGEMENT, 3, "a management server stopped", origin=_MS),
    _row(_E.MGMT_STARTED, _W.MANAGEMENT, 3, "a management server was started anew", origin=_MS),
    _row(_E.DB_FAILURE, _W.MANAGEMENT, 3, "the management server lost its database", origin=_MS),
    _row(
        (_E.OOM, _E.FD_EXHAUSTION, _E.CLASS_LOAD_FAILURE),
        *(_W.MANAGEMENT, 3, "the management server itself is broken"),
        origin=_MS,
    ),
    _row(_E.DISK_FULL, _W.MANAGEMENT, 1, "a disk is full, and not which", origin=_MS),
    _row(_E.KEY_MISMATCH, _W.MANAGEMENT, 2, "CloudStack's keys do not fit", origin=_MS),
    _row(_E.TEMPLATE_MISSING, _W.MANAGEMENT, 2, "no system VM template is ready", origin=_MS),
    _row(_E.VERSION_MISMATCH, _W.MANAGEMENT, 1, "versions do not fit", origin=_MS),
    _row(
        _E.PRECONDITION_UNMET,
        *(_W.STORAGE, 2, "the zone has no storage that is ready"),
        origin=_MS,
        says=r"(?i)primary storage|image store|storage pool|secondary storage (is )?not",
    ),
    _row(
        _E.PRECONDITION_UNMET,
        *(_W.HYPERVISOR, 2, "the zone has no hypervisor host that is ready"),
        origin=_MS,
        says=r"(?i)\bhosts?\b",
    ),
    _row(_E.PRECONDITION_UNMET, _W.MANAGEMENT, 2, "the zone is not ready for one", origin=_MS),
    # ---- certificates
    _row(_E.CERT_PROVISION_FAILURE, _W.MANAGEMENT, 1, "no certificate was put on the agent"),
    _row(
        _E.TLS_FAILURE,
        *(_W.VM, 2, "the VM's certificate is not accepted"),
        origin=_MS,
        concern=Concern.VM,
        says=r"(?i)expired|revoked|not yet valid|certificate chain|strict auth|are expected",
    ),
    _row(
        _E.TLS_FAILURE,
        *(_W.VM, 2, "the VM does not trust the server's certificate"),
        origin=_MS,
        concern=Concern.VM,
        says=r"(?i)certificate_unknown|unknown_ca|invalid ca",
    ),
    _row(
        _E.TLS_FAILURE,
        *(_W.NETWORK, 1, "handshakes are slow, as on a path that loses packets"),
        says=r"has taken more than",
    ),
    _row(
        (_E.TLS_FAILURE, _E.CERT_PKIX_FAILURE),
        *(_W.VM, 1, "the VM does not trust the server's certificate"),
        origin=_VM,
        says=r"(?i)PKIX|certificate|trusted",
    ),
    _row(_E.TLS_FAILURE, _W.UNDECIDED, 0, _FROM_ITSELF),
    _row(_E.CERT_PKIX_FAILURE, _W.UNDECIDED, 0, _FROM_ITSELF),
    _row(_E.KEYSTORE_MISSING, _W.VM, 1, "the VM has no keystore", origin=_VM),
    # ---- the way between the two
    _row(
        _E.MS_UNREACHABLE,
        *(_W.MANAGEMENT, 2, "the management server's port takes no connection"),
        origin=_VM,
        says=r"[Cc]onnection refused",
    ),
    _row(
        _E.MS_UNREACHABLE,
        *(_W.NETWORK, 2, "the VM finds no way to the management server"),
        origin=_VM,
        says=NO_WAY,
    ),
    _row(_E.MS_UNREACHABLE, _W.UNDECIDED, 0, "no connection is made", origin=_VM),
    _row(_E.DNS_FAILURE, _W.VM, 1, "the VM does not know its own name", says=r"^unknown? host"),
    _row(_E.DNS_FAILURE, _W.NETWORK, 2, "the VM cannot resolve a name", origin=_VM),
    _row(_E.DNS_FAILURE, _W.NETWORK, 1, "a name cannot be resolved", origin=_MS),
    _row(_E.NETWORK_FAILURE, _W.NETWORK, 2, "the network could not be set up"),
    _row(_E.ADDRESS_EXHAUSTED, _W.NETWORK, 2, "no address is free for the VM"),
    # ---- storage
    _row(
        _E.MOUNT_FAILURE,
        *(_W.NETWORK, 2, "there is no way to secondary storage"),
        says=rf"{NO_WAY}|{_NO_NAME}",
    ),
    _row(_E.MOUNT_FAILURE, _W.STORAGE, 2, "secondary storage could not be mounted"),
    _row(_E.STORAGE_FAILURE, _W.STORAGE, 2, "a storage pool could not be used"),
    _row(_E.SECSTORAGE_CAPACITY, _W.STORAGE, 2, "secondary storage is full", origin=_MS),
    _row(_E.COPY_FAILURE, _W.STORAGE, 1, "a copy between storages failed"),
    _row(
        _E.DISK_FULL,
        *(_W.STORAGE, 2, "secondary storage is full"),
        origin=_VM,
        says=r"/SecStorage/|/mnt/",
    ),
    # ---- the hypervisor host
    _row(_E.LIBVIRT_FAILURE, _W.HYPERVISOR, 2, "the hypervisor could not do it"),
    _row(
        _E.HA_ACTION,
        *(_W.HYPERVISOR, 3, "the hypervisor host was found down"),
        origin=_MS,
        says=r"Starting HA on|restart for VMs on",
    ),
    _row(
        _E.HA_ACTION,
        *(_W.HYPERVISOR, 3, "the hypervisor host was found down"),
        origin=_MS,
        concern=Concern.HOST,
        says=r"(?i)is down|determined is Down",
    ),
    _row(
        _E.HA_ACTION,
        *(_W.HYPERVISOR, 2, "the hypervisor reported the VM as off, unasked"),
        origin=_MS,
        says=r"power-?off report|stopped unexpectedly",
    ),
    _row(
        (_E.AGENT_DISCONNECT_EVENT, _E.AGENT_UNREACHABLE, _E.MGMT_TIMEOUT, _E.AGENT_SHUTDOWN),
        *(_W.HYPERVISOR, 2, "the hypervisor host does not answer"),
        origin=_MS,
        concern=Concern.HOST,
    ),
    _row(
        _E.SYSTEMVM_START_FAILURE,
        *(_W.HYPERVISOR, 1, "a hypervisor host could not be told to start the VM"),
        says=r"\[Host:\d+\] is (unreachable|gone)",
    ),
    # ---- the VM itself
    _row(
        (_E.OOM, _E.FD_EXHAUSTION, _E.CLASS_LOAD_FAILURE, _E.DISK_FULL),
        *(_W.VM, 3, "the VM has run out of something that it needs"),
        origin=_VM,
    ),
    _row((_E.EXIT_127, _E.EXIT_OTHER), _W.VM, 2, "the agent ended by a failure", origin=_VM),
    _row(_E.EXIT_1, _W.VM, 1, "the agent ended after it was refused", origin=_VM),
    _row(
        _E.AGENT_EXCEPTION,
        *(_W.MANAGEMENT, 2, "the management server refuses this agent"),
        origin=_VM,
        says=r"^Not allowed to connect",
    ),
    _row(
        _E.AGENT_EXCEPTION,
        *(_W.VM, 2, "the agent could not start, or stalled"),
        origin=_VM,
        says=r"^(Ping Interval has gone past|Unable to start|Agent will die)",
    ),
    _row(_E.AGENT_EXCEPTION, _W.VM, 1, "a command failed in the agent", origin=_VM),
    _row(_E.AGENT_SHUTDOWN, _W.VM, 2, "the agent was stopped in good order", origin=_VM),
    _row(_E.AGENT_SHUTDOWN, _W.VM, 1, "the agent said that it stops", origin=_MS),
    _row(_E.PATCH_FAILURE, _W.VM, 2, "the VM could not be patched"),
    _row(_E.VERSION_MISMATCH, _W.VM, 1, "the VM is of another version", origin=_VM),
    _row(_E.CONSOLE_CONFIG_FAILURE, _W.VM, 1, "the console part did not start"),
    _row(_E.VNC_FAILURE, _W.NETWORK, 1, "there is no way to a console", says=NO_WAY),
    _row(_E.VNC_FAILURE, _W.HYPERVISOR, 1, "a hypervisor serves no console", origin=_VM),
    # ---- what wraps a failure, or follows from one
    _row(
        (
            *(_E.SYSTEMVM_START_FAILURE, _E.CAPACITY, _E.MGMT_EXCEPTION, _E.MGMT_TIMEOUT),
            *(_E.AGENT_DISCONNECT_EVENT, _E.AGENT_UNREACHABLE, _E.AGENT_LOST_CONNECTION),
            *(_E.SSVM_MISSING, _E.CPVM_MISSING, _E.HA_ACTION),
        ),
        *(_W.UNDECIDED, 0, _FROM_ITSELF),
    ),
)


def _by_event() -> Mapping[EventClass, tuple[Row, ...]]:
    return {event: tuple(row for row in ROWS if event in row.events) for event in EventClass}


_BY_EVENT = _by_event()


def clue_of(line: LogLine) -> Clue | None:
    """What this line says about where the fault lies; None: nothing."""
    return next((row.clue for row in _BY_EVENT[line.event] if row.fits(line)), None)


# What was found by asking, when the episode opened, is worth as much as a line.
DIAGNOSES: Mapping[DiagnosisCode, Clue] = {
    DiagnosisCode.AGENT_DOWN: Clue(_W.VM, 2, "the agent's process has ended"),
    DiagnosisCode.AGENT_STOPPED: Clue(_W.VM, 2, "the agent was stopped in the VM"),
    DiagnosisCode.DISK_FULL: Clue(_W.VM, 3, "a disk of the VM is full"),
    DiagnosisCode.SECONDARY_STORAGE_HUNG: Clue(_W.STORAGE, 2, "a mount of it hangs"),
}
