"""What the operator allows: thresholds, limits, rules. Plain values; `config` compiles into them.

The defaults here are the careful ones and the only ones: `config` takes them from this file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from stackward.model.diagnosis import DiagnosisCode
from stackward.model.identity import VmRole
from stackward.model.plan import ActionName, Mode
from stackward.model.verdict import ProbeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When an answer counts.

    `fall`: failed answers in a row until a sign is believed. `rise`: passed answers in a row
    until a target that had an episode is healthy again. `stale_after`: evidence older than this is
    no evidence; `slow_stale_after` the same for probes on the slow clock (mounts, disks).
    """

    fall: int = 3
    rise: int = 2
    stale_after: timedelta = timedelta(seconds=60)
    slow_stale_after: timedelta = timedelta(minutes=5)
    inventory_stale_after: timedelta = timedelta(seconds=120)
    agent_grace: timedelta = timedelta(minutes=10)  # an absent agent is no fault in a VM this young
    boot_grace: timedelta = timedelta(minutes=5)  # a VM up for less than this is left alone
    starting_warn_after: timedelta = timedelta(seconds=300)
    disk_used_ratio_max: float = 0.95
    inodes_used_ratio_max: float = 0.95
    memory_available_ratio_min: float = 0.03
    clock_offset_max: timedelta = timedelta(seconds=60)
    mount_hung_after: timedelta = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much may be done.

    A share needs a floor in numbers: most zones hold two VMs, so one sick VM is already half.
    The storm stops all steps when at least `storm_count` targets and at least `storm_share` of
    all are unhealthy at once. A sick target held for longer than `hold_escalates_after` is a
    person's.
    """

    zone_in_flight_max: int = 1
    zone_disruptive_max: int = 3  # per `zone_window`
    zone_window: timedelta = timedelta(hours=1)
    fleet_in_flight_max: int = 4
    storm_share: float = 0.3
    storm_count: int = 3
    hold_escalates_after: timedelta = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One step of a ladder."""

    action: ActionName
    attempts_max: int = 1
    cooldown: timedelta = timedelta(minutes=10)  # after this action, before any other on the VM
    verify_within: timedelta = timedelta(minutes=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What to do about a diagnosis. Empty `roles` or `zones` match nothing.

    `zones` holds zone names; `every_zone` is the explicit "*". Past the ladder's end, a person.
    """

    name: str
    diagnosis: DiagnosisCode
    roles: frozenset[VmRole]
    zones: frozenset[str]
    every_zone: bool
    stands_for: timedelta
    mode: Mode
    ladder: tuple[Rung, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything the core is told by the operator.

    `zone_modes` is by zone name; a zone without one, such as one that is new, has `unnamed_zones`.
    """

    mode: Mode = Mode.OBSERVE
    zone_modes: Mapping[str, Mode] = field(default_factory=dict)
    unnamed_zones: Mode = Mode.OBSERVE
    thresholds: Thresholds = field(default_factory=Thresholds)
    limits: Limits = field(default_factory=Limits)
    rules: tuple[Rule, ...] = ()
    disabled_probes: frozenset[ProbeName] = frozenset()
