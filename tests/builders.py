"""Builders of healthy values. A test states only what differs from a machine that is well.

Times are counted from `NOW`, the moment at which judgements are made unless a test says otherwise.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from stackward.core.policy import Limits, Policy, Rule, Rung, Thresholds
from stackward.core.state import (
    Episode,
    FleetView,
    LogMemory,
    PathMemory,
    ProbeMemory,
    SourceMemory,
    TargetState,
)
from stackward.errors import Leg
from stackward.model.diagnosis import DiagnosisCode
from stackward.model.event import Observed
from stackward.model.guest import Ages, GuestMarks, GuestReadings, LogPosition
from stackward.model.identity import HostId, Hypervisor, TargetId, TemplateId, VmRole, ZoneId
from stackward.model.plan import ActionName, Mode
from stackward.model.target import (
    AgentState,
    CloudState,
    HypervisorHost,
    Inventory,
    SshRoute,
    Target,
    Witness,
    Zone,
)
from stackward.model.verdict import (
    Failed,
    Observation,
    Passed,
    ProbeName,
    Sign,
    Source,
    Unknown,
    Verdict,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=30)

ZONE = Zone(ZoneId("zone-1"), "north", is_enabled=True)
HOST = HypervisorHost(
    id=HostId("host-1"), name="kvm1", zone_id=ZONE.id, address="192.0.2.11", is_up=True
)
VM = TargetId("id-v-2-VM")  # the id of `a_target()`
MARKS = GuestMarks(boot_id="boot-1", invocation_id="invocation-1", agent_pid=4711)
API_COMMANDS = frozenset({"rebootSystemVm", "listAsyncJobs", "queryAsyncJobResult"})

SOURCE_OF: Mapping[ProbeName, Source] = {
    ProbeName.CLOUD_STATE: Source.API,
    ProbeName.CLOUD_AGENT: Source.API,
    ProbeName.DATABASE_AGENT: Source.DATABASE,
    ProbeName.AGENT_UNIT: Source.SSH,
    ProbeName.AGENT_PROCESS: Source.SSH,
    ProbeName.AGENT_LINK: Source.SSH,
    ProbeName.MANAGEMENT: Source.SSH,
    ProbeName.STORAGE: Source.SSH,
    ProbeName.DISK: Source.SSH,
    ProbeName.MEMORY: Source.SSH,
    ProbeName.CLOCK: Source.SSH,
}

PROBE_OF: Mapping[Sign, ProbeName] = {
    Sign.VM_NOT_RUNNING: ProbeName.CLOUD_STATE,
    Sign.AGENT_NOT_UP: ProbeName.CLOUD_AGENT,
    Sign.AGENT_ABSENT: ProbeName.CLOUD_AGENT,
    Sign.DATABASE_AGENT_NOT_UP: ProbeName.DATABASE_AGENT,
    Sign.UNIT_FAILED: ProbeName.AGENT_UNIT,
    Sign.UNIT_RESTARTING: ProbeName.AGENT_UNIT,
    Sign.UNIT_EXITED: ProbeName.AGENT_UNIT,
    Sign.UNIT_STOPPED: ProbeName.AGENT_UNIT,
    Sign.JVM_MISSING: ProbeName.AGENT_PROCESS,
    Sign.LINK_DOWN: ProbeName.AGENT_LINK,
    Sign.MANAGEMENT_UNREACHABLE: ProbeName.MANAGEMENT,
    Sign.MOUNT_HUNG: ProbeName.STORAGE,
    Sign.DISK_FULL: ProbeName.DISK,
    Sign.INODES_FULL: ProbeName.DISK,
    Sign.READ_ONLY: ProbeName.DISK,
    Sign.MEMORY_LOW: ProbeName.MEMORY,
    Sign.CLOCK_SKEWED: ProbeName.CLOCK,
}

# What a healthy machine answers: everything it is asked, well.
HEALTHY_PROBES = tuple(ProbeName)


def ages_of(ages: Mapping[str, timedelta]) -> Ages:
    """These ages, as they are."""
    return Ages({name: -age for name, age in ages.items()})


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def a_target(name: str = "v-2-VM", **changes: Any) -> Target:
    """A running console proxy on KVM whose agent is Up; a name beginning with `s` is an SSVM."""
    role = VmRole.SECONDARY_STORAGE if name.startswith("s") else VmRole.CONSOLE_PROXY
    target = Target(
        id=TargetId(f"id-{name}"),
        name=name,
        role=role,
        zone_id=ZONE.id,
        zone_name=ZONE.name,
        cloud_state=CloudState.RUNNING,
        agent_state=AgentState.UP,
        hypervisor=Hypervisor.KVM,
        host_id=HOST.id,
        host_name=HOST.name,
        route=SshRoute.JUMP,
        control_address="169.254.1.20",
        template_id=TemplateId("template-1"),
        created_at=LONG_AGO,
    )
    return replace(target, **changes)


def a_position(offset: int = 1000, generation: int = 1) -> LogPosition:
    return LogPosition(
        device_inode="64:12",
        fingerprint="f00d",
        fingerprint_bytes=256,
        generation=generation,
        offset=offset,
    )


@cache  # a value that nobody can change; suites over thousands of fleets ask for the same ones
def a_memory(
    probe: ProbeName,
    verdict: Verdict | None = None,
    *,
    times: int = 10,
    age: timedelta = timedelta(seconds=5),
    stood: timedelta = timedelta(minutes=10),
    source: Source | None = None,
    target_id: TargetId = VM,
    now: datetime = NOW,
) -> ProbeMemory:
    """What is remembered after `times` equal answers over the time `stood`, the last `age` ago."""
    said: Verdict = verdict if verdict is not None else Passed("fine")
    origin = source if source is not None else SOURCE_OF[probe]
    at = now - age
    known = None
    if not isinstance(said, Unknown):
        known = Observation(target_id, probe, origin, said, at)
    return ProbeMemory(
        verdict=said,
        source=origin,
        observed_at=at,
        since=now - stood,
        failed_in_a_row=times if isinstance(said, Failed) else 0,
        passed_in_a_row=times if isinstance(said, Passed) else 0,
        last_known=known,
    )


def probes_with(
    *signs: Sign,
    unknown: Iterable[ProbeName] = (),
    times: int = 10,
    age: timedelta = timedelta(seconds=5),
    stood: timedelta = timedelta(minutes=10),
    now: datetime = NOW,
) -> dict[ProbeName, ProbeMemory]:
    """The memory of a healthy machine, but for these signs and these unanswered probes."""
    probes = {probe: a_memory(probe, age=age, now=now) for probe in HEALTHY_PROBES}
    for sign in signs:
        probe = PROBE_OF[sign]
        said = Failed(sign, f"seen {sign}")
        probes[probe] = a_memory(probe, said, times=times, age=age, stood=stood, now=now)
    for probe in unknown:
        said_nothing = Unknown("could not be asked")
        probes[probe] = a_memory(probe, said_nothing, age=age, stood=stood, now=now)
    return probes


INSIDE_PROBES = tuple(probe for probe, source in SOURCE_OF.items() if source is Source.SSH)
DEAD_AGENT = (Sign.UNIT_FAILED, Sign.LINK_DOWN, Sign.AGENT_NOT_UP, Sign.DATABASE_AGENT_NOT_UP)


def a_state(name: str = "v-2-VM", *signs: Sign, **changes: Any) -> TargetState:
    """A machine watched for a month, up for a month, its log followed; well but for `signs`."""
    target = changes.pop("target", None) or a_target(name)
    probes = changes.pop("probes") if "probes" in changes else probes_with(*signs)
    state = TargetState(
        target=target,
        first_seen_at=LONG_AGO,
        listed_at=NOW - seconds(5),
        state_since=LONG_AGO,
        probes=probes,
        path=PathMemory(leg=None, detail="", since=LONG_AGO, told_at=NOW - seconds(5)),
        log=LogMemory(position=a_position(), told_at=NOW - seconds(5)),
        marks=MARKS,
        marks_at=NOW - seconds(5),
        booted_at=LONG_AGO,
        readings=GuestReadings(uptime_seconds=30 * 86400.0),
    )
    return state._replace(**changes)


def a_broken_path(
    leg: Leg = Leg.INNER_TCP, times: int = 10, stood: timedelta = timedelta(minutes=30)
) -> PathMemory:
    return PathMemory(
        leg=leg,
        detail="no answer",
        since=NOW - stood,
        told_at=NOW - seconds(5),
        failed_in_a_row=times,
    )


def an_episode(
    code: DiagnosisCode = DiagnosisCode.AGENT_DOWN, number: int = 1, **changes: Any
) -> Episode:
    episode = Episode(id=f"episode-{number}", opened_at=NOW - minutes(20), diagnosis=code)
    return replace(episode, **changes)


def a_sick_state(name: str = "v-2-VM", **changes: Any) -> TargetState:
    """A machine whose agent is dead beyond doubt, its episode open and nothing tried yet."""
    changes.setdefault("episode", an_episode())
    return a_state(name, *DEAD_AGENT, **changes)


def an_api(is_up: bool = True) -> SourceMemory:
    return SourceMemory(
        is_up=is_up,
        detail="" if is_up else "connection refused",
        since=LONG_AGO,
        told_at=NOW - seconds(5),
        last_up_at=NOW - seconds(5) if is_up else LONG_AGO,
    )


def a_fleet(*states: TargetState, **changes: Any) -> FleetView:
    """A cloud of two zones' worth of healthy neighbours would hide things: only what is given."""
    fleet = FleetView(
        targets={state.target.id: state for state in states},
        zones={ZONE.id: ZONE},
        hosts={HOST.id: HOST},
        inventory_at=NOW - seconds(5),
        inventory_witness=Witness.API,
        sources={Source.API: an_api()},
        capabilities=API_COMMANDS,
    )
    return replace(fleet, **changes)


RESTART = Rung(action=ActionName.RESTART_AGENT, attempts_max=1)
REBOOT = Rung(action=ActionName.REBOOT_SYSTEM_VM, attempts_max=1)


def a_rule(**changes: Any) -> Rule:
    """Restart the agent, then reboot the VM, for every VM of every zone, after a minute."""
    rule = Rule(
        name="revive-agent",
        diagnosis=DiagnosisCode.AGENT_DOWN,
        roles=frozenset(VmRole),
        zones=frozenset(),
        every_zone=True,
        stands_for=minutes(1),
        mode=Mode.ACT,
        ladder=(RESTART, REBOOT),
    )
    return replace(rule, **changes)


def a_policy(*rules: Rule, **changes: Any) -> Policy:
    """The careful defaults, but allowed to act by one rule."""
    policy = Policy(
        mode=Mode.ACT,
        unnamed_zones=Mode.ACT,
        thresholds=Thresholds(),
        limits=Limits(),
        rules=rules or (a_rule(),),
    )
    return replace(policy, **changes)


def an_inventory(*targets: Target, at: datetime = NOW, **changes: Any) -> Inventory:
    inventory = Inventory(
        targets=targets, zones=(ZONE,), hosts=(HOST,), witness=Witness.API, observed_at=at
    )
    return replace(inventory, **changes)


def observed(
    *verdicts: tuple[ProbeName, Verdict],
    at: datetime = NOW,
    target_id: TargetId = VM,
    source: Source = Source.SSH,
    **changes: Any,
) -> Observed:
    """One answer of one source about one target."""
    return Observed(
        target_id=target_id,
        source=source,
        observations=tuple(
            Observation(target_id, probe, source, verdict, at) for probe, verdict in verdicts
        ),
        observed_at=at,
        **changes,
    )
