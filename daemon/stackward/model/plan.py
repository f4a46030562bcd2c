"""What the daemon would do, will not do, and whom it calls."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from stackward.model.diagnosis import Diagnosis, DiagnosisCode, Subject
from stackward.model.guest import GuestMarks, LogPosition
from stackward.model.identity import TargetId, ZoneId


class ActionName(StrEnum):
    """What can be done."""

    RESTART_AGENT = "restart-agent"
    REBOOT_SYSTEM_VM = "reboot-system-vm"


class Mode(StrEnum):
    """How far the daemon may go. Where several apply, the most careful counts."""

    OBSERVE = "observe"
    ADVISE = "advise"
    ACT = "act"

    @property
    def boldness(self) -> int:
        """0 for the most careful."""
        return list(Mode).index(self)


def most_careful(*modes: Mode) -> Mode:
    """The most careful of the modes given."""
    return min(modes, key=lambda mode: mode.boldness)


class Guard(StrEnum):
    """Reasons to wait, the most fleet-wide first. Each has a function in core/guards.py."""

    PAUSED = "paused"
    JOURNAL_DOWN = "journal-down"
    INVENTORY_STALE = "inventory-stale"
    INVENTORY_INCOMPLETE = "inventory-incomplete"
    STORM = "storm"
    FLEET_CAUSE = "fleet-cause"
    FLEET_BUSY = "fleet-busy"  # as many steps run in the whole cloud as may
    ZONE_DISABLED = "zone-disabled"
    HYPERVISOR_DOWN = "hypervisor-down"
    ZONE_BUSY = "zone-busy"
    ZONE_BUDGET_SPENT = "zone-budget-spent"
    VM_NOT_RUNNING = "vm-not-running"
    CLOUD_BUSY = "cloud-busy"  # an async job is pending on the VM
    OUTCOME_OPEN = "outcome-open"  # an earlier intent on this target has no outcome yet
    COOLING_DOWN = "cooling-down"
    EVIDENCE_STALE = "evidence-stale"
    HOST_KEY_CHANGED = "host-key-changed"
    LOG_NOT_FOLLOWED = "log-not-followed"
    TOO_YOUNG = "too-young"  # the VM was created or booted a moment ago
    NOT_LONG_ENOUGH = "not-long-enough"  # the diagnosis has not stood as long as the rule asks
    NO_RULE = "no-rule"
    NOT_CONFIRMED = "not-confirmed"  # sick by one probe, and no diagnosis is sure yet
    SUPPRESSED = "suppressed"  # a symptom of a wider cause
    CAPABILITY_MISSING = "capability-missing"


@dataclass(frozen=True, slots=True)
class HoldReason:
    """Why not now: `guard` for programs, `text` for people, `until` when that may change."""

    guard: Guard
    text: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to do to one target. It carries all that the executor needs; nobody adds choices.

    `mode` ADVISE: look again and journal `would_have`; ACT: do it. `log_position` is where the
    log was read up to when the step was chosen: the ready line that proves success lies behind it.
    """

    target_id: TargetId
    target_name: str
    zone_id: ZoneId
    action: ActionName
    diagnosis: Diagnosis
    rule: str
    rung: int
    attempt: int
    mode: Mode
    is_disruptive: bool
    marks: GuestMarks
    log_position: LogPosition | None
    verify_within: timedelta
    explanation: str
    episode_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A sick target with nothing done to it now, and why. `action` None: no action is known."""

    target_id: TargetId
    target_name: str
    diagnosis: DiagnosisCode | None
    action: ActionName | None
    reason: HoldReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """A person is needed: for a target, a zone, a host or the cloud."""

    subject: Subject
    subject_name: str
    diagnosis: DiagnosisCode
    sentence: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one round decided. Every sick target is in exactly one of the three, once.

    `next_check_at` is the earliest moment at which the answer could change by time alone.
    """

    made_at: datetime
    steps: tuple[Step, ...] = ()
    holds: tuple[Hold, ...] = ()
    escalations: tuple[Escalation, ...] = ()
    next_check_at: datetime | None = None


class PromiseName(StrEnum):
    """The promises, numbered as in ARCHITECTURE.md."""

    FRESH_EVIDENCE = "1-fresh-evidence"
    ZONE_BUDGET = "2-zone-budget"
    REDUNDANCY = "3-redundancy"
    COOLDOWN = "4-cooldown"
    STORM = "5-storm"
    PAUSE = "6-pause"
    NOTHING_IGNORED = "7-nothing-ignored"
    DETERMINISM = "8-determinism"
    LADDER = "9-ladder"
    TWO_KINDS_OF_EVIDENCE = "10-two-kinds-of-evidence"


@dataclass(frozen=True, slots=True)
class BrokenPromise:
    """A promise that a plan breaks, and how."""

    promise: PromiseName
    detail: str
