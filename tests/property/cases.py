"""Fleets near the thresholds, made by dice: most is well, the rest just within or just beyond.

Purely random states never lead to a step, and a suite over them would prove nothing. Each knob is
mostly at its good value; its other values lie on either side of the limit that matters. A case is
named by its seed: a fleet needs some hundreds of dice, and `random` throws them quickly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from stackward.core.policy import Limits, Policy, Rung
from stackward.core.state import Attempt, FleetView, LogMemory, PathMemory, TargetState
from stackward.errors import Leg
from stackward.model.guest import GuestMarks
from stackward.model.identity import HostId, IntentId, JobId, VmRole, ZoneId
from stackward.model.outcome import OutcomeKind
from stackward.model.plan import ActionName, Mode
from stackward.model.target import CloudState, HypervisorHost, Zone
from stackward.model.verdict import ProbeName, Sign, Source
from tests.builders import (
    API_COMMANDS,
    DEAD_AGENT,
    LONG_AGO,
    MARKS,
    NOW,
    a_fleet,
    a_position,
    a_rule,
    a_state,
    a_target,
    an_api,
    an_episode,
    minutes,
    probes_with,
    seconds,
)

T = TypeVar("T")


class Dice(Random):
    """A source of chance that knows what is usual; the calmer, the more so."""

    calm = 1

    def mostly(self, good: T, *others: T, weight: int = 12) -> T:
        """The good value in most cases, one of the others now and then."""
        usual = weight * self.calm
        pick = self.randrange(usual + len(others))
        return good if pick < usual else others[pick - usual]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A fleet and a policy to judge it by."""

    seed: int
    fleet: FleetView
    policy: Policy


ENOUGH = (Sign.UNIT_FAILED, Sign.AGENT_NOT_UP)
SICKNESSES: tuple[tuple[Sign, ...], ...] = (
    DEAD_AGENT,
    ENOUGH,
    ENOUGH,
    (Sign.UNIT_EXITED, Sign.AGENT_NOT_UP, Sign.LINK_DOWN),
    (Sign.UNIT_FAILED, Sign.JVM_MISSING, Sign.LINK_DOWN),  # the API still says Up
    (Sign.UNIT_RESTARTING, Sign.AGENT_ABSENT, Sign.LINK_DOWN),
)
ODDITIES: tuple[tuple[Sign, ...], ...] = (
    (Sign.UNIT_FAILED,),
    (Sign.UNIT_STOPPED, Sign.LINK_DOWN, Sign.AGENT_NOT_UP),
    (Sign.LINK_DOWN, Sign.AGENT_NOT_UP),
    (Sign.AGENT_NOT_UP,),
    (Sign.AGENT_ABSENT, Sign.LINK_DOWN),
    (Sign.MANAGEMENT_UNREACHABLE, Sign.LINK_DOWN, Sign.AGENT_NOT_UP),
    (Sign.MOUNT_HUNG,),
    (Sign.DISK_FULL, *ENOUGH),
    (Sign.VM_NOT_RUNNING,),
    (Sign.MEMORY_LOW,),
    (Sign.CLOCK_SKEWED, Sign.DATABASE_AGENT_NOT_UP),
)
LADDERS = (
    (Rung(action=ActionName.RESTART_AGENT), Rung(action=ActionName.REBOOT_SYSTEM_VM)),
    (Rung(action=ActionName.RESTART_AGENT, attempts_max=2),),
    (Rung(action=ActionName.REBOOT_SYSTEM_VM, cooldown=minutes(30)),),
    (
        Rung(action=ActionName.RESTART_AGENT),
        Rung(action=ActionName.REBOOT_SYSTEM_VM),
        Rung(action=ActionName.RESTART_AGENT),
    ),
)


def _policy(dice: Dice) -> Policy:
    limits = Limits(
        zone_in_flight_max=dice.mostly(1, 2, weight=3),
        zone_disruptive_max=dice.choice([1, 2, 3, 3]),
        fleet_in_flight_max=dice.choice([1, 2, 4, 4]),
        storm_count=dice.choice([2, 3, 3, 3]),
        storm_share=dice.choice([0.3, 0.3, 0.5]),
    )
    rule = a_rule(
        ladder=dice.choice(LADDERS),
        stands_for=dice.choice([seconds(0), minutes(1), minutes(1)]),
        mode=dice.mostly(Mode.ACT, Mode.ADVISE, Mode.OBSERVE, weight=4),
    )
    return Policy(
        unnamed_zones=Mode.ACT,
        mode=dice.mostly(Mode.ACT, Mode.ADVISE, Mode.OBSERVE, weight=4),
        limits=limits,
        rules=() if dice.mostly(False, True, weight=20) else (rule,),
    )


def _probes(dice: Dice, signs: Sequence[Sign]) -> dict[ProbeName, Any]:
    probes = probes_with(
        *signs,
        times=dice.mostly(3, 2, 4, weight=8),
        stood=seconds(dice.mostly(600, 59, 60, 61, weight=6)),
        age=seconds(dice.mostly(5, 59, 60, 61, -4, -6, weight=14)),
    )
    if not {Sign.DATABASE_AGENT_NOT_UP} & set(signs):
        del probes[ProbeName.DATABASE_AGENT]  # most clouds give no way into their database
    if {Sign.UNIT_FAILED, Sign.UNIT_EXITED, Sign.UNIT_STOPPED, Sign.UNIT_RESTARTING} & set(signs):
        del probes[ProbeName.AGENT_LINK]
    unasked = dice.mostly((), (ProbeName.AGENT_PROCESS,), (ProbeName.CLOUD_STATE,), weight=14)
    for probe in unasked:
        probes.pop(probe, None)
    inside_age = dice.mostly(None, 61, 90, weight=16)
    if inside_age is not None:  # the inside fell silent while CloudStack goes on answering
        for probe, memory in probes.items():
            if memory.source is Source.SSH:
                probes[probe] = memory._replace(observed_at=NOW - seconds(inside_age))
    return probes


def _attempts(dice: Dice) -> tuple[Attempt, ...]:
    restart, reboot = ActionName.RESTART_AGENT, ActionName.REBOOT_SYSTEM_VM
    actions = dice.mostly(
        (), (restart,), (restart, restart), (restart, reboot), (reboot,), weight=6
    )
    outcome = dice.mostly(OutcomeKind.FAILED, OutcomeKind.WITHDRAWN, None, weight=8)
    return tuple(
        Attempt(action=action, intent_id=IntentId(f"i-{n}"), at=NOW - minutes(40), outcome=outcome)
        for n, action in enumerate(actions)
    )


def _state(
    dice: Dice, name: str, zone: Zone, host: HypervisorHost, signs: tuple[Sign, ...]
) -> TargetState:
    attempts = _attempts(dice) if signs else ()
    acted = dice.mostly(
        None, minutes(10), minutes(10) - seconds(1), seconds(-30), minutes(31), weight=10
    )
    born = dice.mostly(LONG_AGO, NOW - minutes(5), NOW - minutes(4), weight=12)
    is_open = bool(signs) and dice.mostly(True, False, weight=10)
    path: PathMemory | None = PathMemory(
        leg=dice.mostly(None, Leg.INNER_TCP, Leg.INNER_HOST_KEY, Leg.JUMP_TCP, weight=20),
        detail="",
        since=NOW - minutes(3),
        told_at=NOW - seconds(3),
        failed_in_a_row=dice.choice([2, 3]),
    )
    target = a_target(
        name,
        role=VmRole.SECONDARY_STORAGE if name.startswith("s") else VmRole.CONSOLE_PROXY,
        zone_id=zone.id,
        zone_name=zone.name,
        host_id=dice.mostly(host.id, None, weight=30),
        host_name=host.name,
        created_at=dice.mostly(born, None, weight=20),
        cloud_state=dice.mostly(CloudState.RUNNING, CloudState.STOPPING, weight=20),
        job_id=dice.mostly(None, JobId("job-1"), weight=20),
    )
    episode = an_episode(attempts=attempts) if is_open else None
    return a_state(
        name,
        target=target,
        probes=_probes(dice, signs),
        path=path,
        booted_at=dice.mostly(born, None, weight=20),
        log=LogMemory(position=dice.mostly(a_position(), None, weight=20)),
        marks=dice.mostly(MARKS, GuestMarks(boot_id="boot-1"), weight=20),
        listed_at=NOW - seconds(dice.mostly(5, 50, weight=20)),
        episode=episode,
        in_flight=dice.mostly(None, IntentId("flying"), weight=16),
        last_action=dice.choice([None, *ActionName]) if acted is not None else None,
        last_action_at=NOW - acted if acted is not None else None,
        withdrawn_at=dice.mostly(None, NOW - seconds(59), weight=20),
    )


def _fleet(dice: Dice) -> FleetView:
    members: list[TargetState] = []
    zones: dict[ZoneId, Zone] = {}
    hosts: dict[HostId, HypervisorHost] = {}
    count = dice.randint(2, 4)
    for number in range(count):
        is_enabled = dice.mostly(True, False, None, weight=24)
        zone = Zone(ZoneId(f"zone-{number}"), f"zone {number}", is_enabled=is_enabled)
        host = HypervisorHost(
            id=HostId(f"host-{number}"),
            name=f"kvm{number}",
            zone_id=zone.id,
            address=None,
            is_up=dice.mostly(True, False, None, weight=24),
        )
        zones[zone.id], hosts[host.id] = zone, host
        vm_names = [f"s-{number}-VM", f"v-{number}-VM", f"v-{number}1-VM"]
        for name in vm_names[: dice.choice([1, 2, 3, 3])]:
            signs = dice.choice(SICKNESSES if dice.random() < 0.6 else ODDITIES)
            if dice.random() < 0.75:
                signs = ()
            members.append(_state(dice, name, zone, host, signs))
    begun = [seconds(ago) for ago in dice.mostly((), (3500,), (3500, 60), (3601, -5), weight=10)]
    return a_fleet(
        *members,
        zones=zones,
        hosts=hosts,
        inventory_at=NOW - seconds(dice.mostly(5, 120, 121, -6, weight=30)),
        unreadable=dice.mostly((), ("row 7",), weight=30),
        sources={Source.API: an_api(is_up=dice.mostly(True, False, weight=30))},
        zone_actions={zone_id: tuple(NOW - ago for ago in begun) for zone_id in zones},
        pause_reason=dice.mostly(None, "a person said so", weight=30),
        demotion=dice.mostly(None, "promise 4", weight=20),
        journal_trouble=dice.mostly("", "disk full", weight=30),
        capabilities=dice.mostly(API_COMMANDS, frozenset({"listAsyncJobs"}), None, weight=10),
    )


def a_case(seed: int) -> Case:
    """The case of a seed: the same for ever."""
    dice = Dice(seed)
    dice.calm = dice.choice([1, 2, 6])
    return Case(seed=seed, fleet=_fleet(dice), policy=_policy(dice))
