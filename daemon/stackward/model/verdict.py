"""Three verdicts, never two: passed, failed, unknown. And the signs that a failure gives.

`Failed` = it was asked and the answer is bad. `Unknown` = it could not be asked, or the answer
could not be read. `Unknown` never justifies a step.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from stackward.model.identity import TargetId


class Sign(StrEnum):
    """What a failed probe has seen: the vocabulary between probes and diagnoses."""

    VM_NOT_RUNNING = "vm-not-running"
    AGENT_NOT_UP = "agent-not-up"  # API: Disconnected, Alert, Down, Connecting ...
    AGENT_ABSENT = "agent-absent"  # API: no agent row at all
    DATABASE_AGENT_NOT_UP = "database-agent-not-up"
    UNIT_FAILED = "unit-failed"  # systemd gave up on cloud.service
    UNIT_RESTARTING = "unit-restarting"  # activating / auto-restart: it dies again and again
    UNIT_EXITED = "unit-exited"  # inactive after the agent exited 0: systemd leaves it so
    UNIT_STOPPED = "unit-stopped"  # inactive after a stop that somebody asked for
    JVM_MISSING = "jvm-missing"  # the unit is active and no java is in its cgroup
    LINK_DOWN = "link-down"  # the JVM lives and has no established socket to 8250
    MANAGEMENT_UNREACHABLE = "management-unreachable"  # no address in host= takes a connect
    MOUNT_HUNG = "mount-hung"
    DISK_FULL = "disk-full"
    INODES_FULL = "inodes-full"
    READ_ONLY = "read-only"
    MEMORY_LOW = "memory-low"
    CLOCK_SKEWED = "clock-skewed"


@dataclass(frozen=True, slots=True)
class Passed:
    """Asked, and the answer is good."""

    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """Asked, and the answer is bad: `sign` for programs, `evidence` for people."""

    sign: Sign
    evidence: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Could not be asked, or the answer could not be read: `reason` for people."""

    reason: str


Verdict = Passed | Failed | Unknown


class ProbeName(StrEnum):
    """The questions."""

    CLOUD_STATE = "cloud-state"  # API: is the VM Running?
    CLOUD_AGENT = "cloud-agent"  # API: is its agent Up?
    DATABASE_AGENT = "database-agent"  # database: is its agent Up?
    AGENT_UNIT = "agent-unit"  # SSH: systemd's word on cloud.service
    AGENT_PROCESS = "agent-process"  # SSH: is there a JVM in the unit's cgroup?
    AGENT_LINK = "agent-link"  # SSH: has it an established socket to 8250?
    MANAGEMENT = "management"  # SSH: can a management server be reached from inside?
    STORAGE = "storage"  # SSH: do the secondary storage mounts answer?
    DISK = "disk"  # SSH: space and inodes
    MEMORY = "memory"  # SSH
    CLOCK = "clock"  # SSH: the VM's clock beside ours


class Source(StrEnum):
    """The way by which something was observed. Sources that differ corroborate each other."""

    API = "api"
    DATABASE = "database"
    SSH = "ssh"
    LOG = "log"


class Observation(NamedTuple):
    """One answer to one probe about one target. A tuple: there are many, each in its moment."""

    target_id: TargetId
    probe: ProbeName
    source: Source
    verdict: Verdict
    observed_at: datetime
