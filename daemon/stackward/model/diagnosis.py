"""What is wrong, as a sentence about the world."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from stackward.model.identity import HostId, TargetId, ZoneId


class DiagnosisCode(StrEnum):
    """The names. What each means, needs and suppresses is the table in core/diagnoses.py."""

    # one VM
    AGENT_DOWN = "AgentDown"
    AGENT_STOPPED = "AgentStopped"
    AGENT_DISCONNECTED = "AgentDisconnected"
    AGENT_NEVER_CONNECTED = "AgentNeverConnected"
    MANAGEMENT_UNREACHABLE = "ManagementUnreachable"
    VM_UNREACHABLE = "VmUnreachable"
    VM_NOT_RUNNING = "VmNotRunning"
    HOST_KEY_CHANGED = "HostKeyChanged"
    SECONDARY_STORAGE_HUNG = "SecondaryStorageHung"
    DISK_FULL = "DiskFull"
    WITNESSES_DISAGREE = "WitnessesDisagree"
    # many at once
    ZONE_WIDE_FAILURE = "ZoneWideFailure"
    JUMP_UNREACHABLE = "JumpUnreachable"
    CLOUD_API_UNREACHABLE = "CloudApiUnreachable"
    STORM = "SicknessStorm"


@dataclass(frozen=True, slots=True)
class Subject:
    """What a diagnosis is about: exactly one of these is set; none of them: the whole cloud."""

    target_id: TargetId | None = None
    zone_id: ZoneId | None = None
    host_id: HostId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """One cause found. `since`: from when on all its signs were there.

    `sentence` names the machine and the cause for a person. `suppresses` is set on fleet-wide
    causes: the targets whose own diagnoses are symptoms of this one. `variant` tells the rows of
    the table apart that share a code, in their order there.
    """

    code: DiagnosisCode
    subject: Subject
    since: datetime
    sentence: str
    evidence: tuple[str, ...] = ()
    suppressed_by: DiagnosisCode | None = None
    suppresses: frozenset[TargetId] = frozenset()
    variant: int = 0
