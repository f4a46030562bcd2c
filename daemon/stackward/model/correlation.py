"""Two logs beside each other: the lines that speak of one system VM, and where the fault lies."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from stackward.model.guest import LogPosition
from stackward.model.sighting import EventClass, Severity


class Origin(StrEnum):
    """Who said a line."""

    VM = "vm"  # the VM's own log
    MANAGEMENT = "management-server"


class Concern(StrEnum):
    """What a line of a management server speaks of, seen from the VM that it is told to."""

    VM = "vm"  # the VM itself, or its agent
    HOST = "host"  # the hypervisor host that runs it, or another that was to run it
    SERVER = "server"  # the management server as a whole


class Culprit(StrEnum):
    """Where the cause of an episode lies."""

    NETWORK = "network"
    HYPERVISOR = "hypervisor-host"
    MANAGEMENT = "management-server"
    STORAGE = "storage"
    VM = "vm"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One event of a log, in its place on the one time line.

    `at` is on our clock: the line's own time less `clock_offset`, which is the writer's clock less
    ours (None: not measured, and the time stands as it was written). `job` is common to the lines
    of one request or job ("": none). `times` counts lines that say the same within a few minutes.
    """

    origin: Origin
    log: str  # name of the management log; "": the VM's own
    event: EventClass
    severity: Severity
    text: str
    at: datetime
    seen_at: datetime
    logged_at: datetime | None = None  # as it was written
    clock_offset: timedelta | None = None
    concern: Concern = Concern.VM
    job: str = ""
    times: int = 1
    last_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """Some lines in the order in which they came. `keys`: lines of one key are one line."""

    lines: tuple[LogLine, ...] = ()
    keys: tuple[tuple[object, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementLog:
    """What is known of one followed log of a management server.

    `spoke_in` holds the minutes, on our clock, in which it said anything at all. `clock_offset`
    is the server's clock less ours, and None while that is not known.
    """

    name: str
    is_followed: bool
    detail: str = ""
    since: datetime | None = None
    told_at: datetime | None = None
    clock_offset: timedelta | None = None
    spoke_in: tuple[datetime, ...] = ()
    position: LogPosition | None = None  # up to where it was read
    timeline: Timeline = field(default_factory=Timeline)  # of the server as a whole
    dropped: int = 0  # lines that were not told, in a storm
    gaps: int = 0  # stretches that were destroyed before they could be read
    gap_bytes: int = 0  # at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """What two logs say together of one VM, in one episode or of late.

    `evidence` holds the lines that decided, or that disagree. `notes` tell what the times and the
    logs are worth.
    """

    culprit: Culprit
    sentence: str
    evidence: tuple[LogLine, ...] = ()
    notes: tuple[str, ...] = ()
    timeline: tuple[LogLine, ...] = ()
