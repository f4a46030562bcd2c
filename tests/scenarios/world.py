"""A small world for stories: VMs with facts that can be set, and the daemon's core watching them.

Each tick of ten seconds every VM answers, the cloud is listed, and one round is judged. Steps are
carried out by a stand-in executor that does as the story says. Promises are checked every round.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

from stackward.core.assess import assess
from stackward.core.diagnose import diagnose_fleet, diagnose_target, suppress
from stackward.core.episodes import advance_episode, close_gone, mark_escalated
from stackward.core.inventory import fold_inventory
from stackward.core.planner import make_plan
from stackward.core.policy import Policy
from stackward.core.promises import broken_promises
from stackward.core.reduce import fold_zone_actions, hand_out, reduce
from stackward.core.state import FleetView, SourceMemory, TargetState
from stackward.errors import Leg
from stackward.model.diagnosis import Diagnosis
from stackward.model.entry import Entry, EntryKind
from stackward.model.event import (
    Observed,
    PathTold,
    Sighted,
    StepBegun,
    StepFinished,
    StepStarted,
    TargetEvent,
)
from stackward.model.guest import GuestMarks, GuestReadings
from stackward.model.health import Health
from stackward.model.identity import HostId, IntentId, JobId, ServiceId, TargetId, VmRole, ZoneId
from stackward.model.outcome import Outcome, OutcomeKind
from stackward.model.plan import ActionName, Mode, Plan, Step
from stackward.model.target import (
    AgentState,
    CloudState,
    HypervisorHost,
    Inventory,
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
from tests.builders import API_COMMANDS, LONG_AGO, NOW, a_position, a_target

T = TypeVar("T")

TICK = timedelta(seconds=10)
UNIT_SIGNS = {
    "failed": Sign.UNIT_FAILED,
    "exited": Sign.UNIT_EXITED,
    "restarting": Sign.UNIT_RESTARTING,
    "stopped": Sign.UNIT_STOPPED,
}
WELL = {
    "unit": "active",
    "jvm": "yes",
    "link": "up",
    "agent": "Up",
    "state": "Running",
    "ssh": "open",
    "mount": "ok",
    "disk": "ok",
    "management": "ok",
    "job": "none",
    "log": "followed",
}
DEAD = {"unit": "failed", "jvm": "no", "link": "down", "agent": "Alert"}


@dataclass
class Machine:
    """One system VM of the story."""

    target: Target
    facts: dict[str, str] = field(default_factory=lambda: dict(WELL))
    boots: int = 1
    starts: int = 1
    booted_at: datetime = LONG_AGO
    reads: int = 0


@dataclass
class World:
    """The cloud, the daemon's memory of it, and what the daemon wrote down."""

    policy: Policy
    now: datetime = NOW
    machines: dict[str, Machine] = field(default_factory=dict)
    zones: dict[ZoneId, Zone] = field(default_factory=dict)
    hosts: dict[HostId, HypervisorHost] = field(default_factory=dict)
    steps_end: OutcomeKind | None = OutcomeKind.SUCCEEDED  # None: they hang
    api_is_up: bool = True
    pause_reason: str | None = None
    journal_trouble: str = ""
    demotion: str | None = None
    capabilities: frozenset[str] | None = API_COMMANDS
    unreadable: tuple[str, ...] = ()
    states: dict[TargetId, TargetState] = field(default_factory=dict)
    health: dict[TargetId, Health] = field(default_factory=dict)
    diagnoses: dict[TargetId, tuple[Diagnosis, ...]] = field(default_factory=dict)
    wider: tuple[Diagnosis, ...] = ()
    plan: Plan = field(default_factory=lambda: Plan(made_at=NOW))
    journal: list[Entry] = field(default_factory=list)
    _inventory_at: datetime | None = None
    _api: SourceMemory | None = None
    _departed: dict[ServiceId, TargetId] = field(default_factory=dict)
    _zone_actions: dict[ZoneId, tuple[datetime, ...]] = field(default_factory=dict)
    _running: list[tuple[Step, IntentId]] = field(default_factory=list)
    _intents: int = 0
    _episodes: int = 0

    def add(self, name: str, zone: str, host: str, age: timedelta = NOW - LONG_AGO) -> None:
        zone_id, host_id = ZoneId(f"zone-{zone}"), HostId(f"host-{host}")
        self.zones.setdefault(zone_id, Zone(zone_id, zone, is_enabled=True))
        self.hosts.setdefault(
            host_id,
            HypervisorHost(id=host_id, name=host, zone_id=zone_id, address=host, is_up=True),
        )
        born = self.now - age
        target = a_target(
            name,
            role=VmRole.SECONDARY_STORAGE if name.startswith("s") else VmRole.CONSOLE_PROXY,
            zone_id=zone_id,
            zone_name=zone,
            host_id=host_id,
            host_name=host,
            created_at=born,
        )
        self.machines[name] = Machine(target, booted_at=born)

    def run(self, span: timedelta) -> None:
        end = self.now + span
        while self.now < end:
            self.now += TICK
            self._end_steps()
            self._list()
            for machine in self.machines.values():
                self._ask(machine)
            self._round()

    # --- what the daemon sees -------------------------------------------------------------------

    def _list(self) -> None:
        is_same = self._api is not None and self._api.is_up is self.api_is_up
        self._api = SourceMemory(
            is_up=self.api_is_up,
            detail="" if self.api_is_up else "connection refused",
            since=self._api.since if self._api is not None and is_same else self.now,
            told_at=self.now,
        )
        if not self.api_is_up:
            return
        inventory = Inventory(
            targets=tuple(self._as_told(machine) for machine in self.machines.values()),
            zones=tuple(self.zones.values()),
            hosts=tuple(self.hosts.values()),
            witness=Witness.API,
            observed_at=self.now,
            unreadable=self.unreadable,
        )
        folded = fold_inventory(self.states, inventory, self.now, self._departed)
        for state in folded.changed:
            self.states[state.target.id] = state
        for target_id in folded.gone:
            self.journal += close_gone(self.states.pop(target_id), self.now)
        self._departed = dict(folded.departed)
        self._inventory_at = self.now
        for machine in self.machines.values():
            self._tell_cloud(machine)

    def _as_told(self, machine: Machine) -> Target:
        facts = machine.facts
        job = None if facts["job"] == "none" else JobId(facts["job"])
        return replace(
            machine.target,
            cloud_state=CloudState(facts["state"]),
            agent_state=AgentState(facts["agent"]),
            job_id=job,
        )

    def _tell_cloud(self, machine: Machine) -> None:
        state, agent = machine.facts["state"], machine.facts["agent"]
        running: Verdict = Passed(state)
        if state != "Running":
            running = Failed(Sign.VM_NOT_RUNNING, f"CloudStack says {state}")
        connected: Verdict = Passed("Up")
        if state != "Running":
            connected = Unknown("the VM is not running")
        elif agent == "absent":
            connected = Failed(Sign.AGENT_ABSENT, "no agent was ever there")
        elif agent != "Up":
            connected = Failed(Sign.AGENT_NOT_UP, f"agent {agent}")
        verdicts = {ProbeName.CLOUD_STATE: running, ProbeName.CLOUD_AGENT: connected}
        self._observe(machine, Source.API, verdicts)

    def _ask(self, machine: Machine) -> None:
        facts, who = machine.facts, machine.target.id
        if facts["ssh"] != "open" or facts["state"] != "Running":
            leg = Leg.INNER_TCP if facts["ssh"] == "open" else Leg(facts["ssh"])
            self._fold(PathTold(target_id=who, leg=leg, detail="cut", at=self.now))
            inside = (p for p in ProbeName if p not in _OUTSIDE)
            self._observe(machine, Source.SSH, {p: Unknown("no way in") for p in inside})
            return
        self._fold(PathTold(target_id=who, leg=None, detail="", at=self.now))
        marks = GuestMarks(
            boot_id=f"boot-{machine.boots}", invocation_id=f"start-{machine.starts}", agent_pid=1
        )
        uptime = (self.now - machine.booted_at).total_seconds()
        readings = GuestReadings(uptime_seconds=uptime)
        self._observe(machine, Source.SSH, _inside(facts), marks, readings)
        if facts["log"] == "followed":
            machine.reads += 1
            place = a_position(offset=100 * machine.reads)
            self._fold(Sighted(target_id=who, sightings=(), position=place, at=self.now))
        else:
            self._fold(Sighted(target_id=who, sightings=(), position=None, at=self.now))

    def _observe(
        self,
        machine: Machine,
        source: Source,
        verdicts: dict[ProbeName, Verdict],
        marks: GuestMarks | None = None,
        readings: GuestReadings | None = None,
    ) -> None:
        who = machine.target.id
        self._fold(
            Observed(
                target_id=who,
                source=source,
                observations=tuple(
                    Observation(who, probe, source, verdict, self.now)
                    for probe, verdict in verdicts.items()
                ),
                observed_at=self.now,
                marks=marks,
                readings=readings,
            )
        )

    def _fold(self, event: TargetEvent) -> None:
        if event.target_id in self.states:
            state = self.states[event.target_id]
            self.states[event.target_id] = reduce(state, event)

    # --- what the daemon decides ----------------------------------------------------------------

    def view(self) -> FleetView:
        return FleetView(
            targets=dict(self.states),
            zones=self.zones,
            hosts=self.hosts,
            inventory_at=self._inventory_at,
            inventory_witness=Witness.API,
            unreadable=self.unreadable,
            sources={Source.API: self._api} if self._api is not None else {},
            zone_actions=dict(self._zone_actions),
            pause_reason=self.pause_reason,
            demotion=self.demotion,
            journal_trouble=self.journal_trouble,
            capabilities=self.capabilities,
        )

    def _round(self) -> None:
        view, policy, now = self.view(), self.policy, self.now
        self.health = {who: assess(state, policy, now) for who, state in self.states.items()}
        found = {who: diagnose_target(s, policy, now, view) for who, s in self.states.items()}
        wider = self.wider = diagnose_fleet(view, found, self.health, policy, now)
        self.diagnoses = suppress(found, wider)
        for who, state in list(self.states.items()):
            self._episodes += 1
            episode_id = f"episode-{self._episodes}"
            advanced, entries = advance_episode(
                state, self.health[who], self.diagnoses[who], now, episode_id
            )
            self.states[who] = advanced
            self.journal += entries
        view = self.view()
        self.plan = make_plan(view, self.health, self.diagnoses, wider, policy, now)
        again = make_plan(
            replace(view, targets=_reversed(view.targets)),
            _reversed(self.health),
            _reversed(self.diagnoses),
            wider,
            policy,
            now,
        )
        broken = broken_promises(self.plan, view, policy, now, self.health, again=again)
        assert not broken, broken
        self._note_escalations()
        for step in self.plan.steps:
            self._begin(step)

    def _note_escalations(self) -> None:
        for call in self.plan.escalations:
            who = call.subject.target_id
            if who is not None:
                self.states[who], entries = mark_escalated(self.states[who], call, self.now)
                self.journal += entries

    # --- what the stand-in executor does --------------------------------------------------------

    def _begin(self, step: Step) -> None:
        if step.mode is Mode.OBSERVE:
            return
        who = step.target_id
        self._intents += 1
        intent = IntentId(f"intent-{self._intents}")
        self.states[who] = hand_out(self.states[who], step.action, intent)
        if step.mode is Mode.ADVISE:
            self._finish(step, intent, OutcomeKind.WOULD_HAVE)
            return
        self._fold(
            StepStarted(
                target_id=who,
                intent_id=intent,
                action=step.action,
                episode_id=step.episode_id,
                at=self.now,
            )
        )
        if self.steps_end is OutcomeKind.WITHDRAWN:
            self._finish(step, intent, OutcomeKind.WITHDRAWN)
            return
        self._fold(StepBegun(target_id=who, intent_id=intent, at=self.now))
        self._zone_actions = dict(
            fold_zone_actions(
                self._zone_actions, step.zone_id, self.now, self.policy.limits.zone_window
            )
        )
        self._write(step, EntryKind.BEGUN)
        self._running.append((step, intent))

    def _end_steps(self) -> None:
        if self.steps_end is None:
            return
        running, self._running = self._running, []
        for step, intent in running:
            machine = next(
                (m for m in self.machines.values() if m.target.id == step.target_id), None
            )
            if machine is not None:
                self._carry_out(step, machine)
            self._finish(step, intent, self.steps_end)

    def _carry_out(self, step: Step, machine: Machine) -> None:
        if step.action is ActionName.REBOOT_SYSTEM_VM:
            machine.boots += 1
            machine.booted_at = self.now
        machine.starts += 1
        if self.steps_end is OutcomeKind.SUCCEEDED:
            machine.facts |= {name: WELL[name] for name in DEAD}

    def _finish(self, step: Step, intent: IntentId, kind: OutcomeKind) -> None:
        outcome = Outcome(kind, "the story says so")
        self._fold(
            StepFinished(
                target_id=step.target_id,
                intent_id=intent,
                action=step.action,
                outcome=outcome,
                at=self.now,
            )
        )
        is_advice = kind is OutcomeKind.WOULD_HAVE
        self._write(step, EntryKind.WOULD_HAVE if is_advice else EntryKind.OUTCOME, outcome)

    def _write(self, step: Step, kind: EntryKind, outcome: Outcome | None = None) -> None:
        entry = Entry(
            kind=kind,
            at=self.now,
            text=step.explanation,
            target_id=step.target_id,
            target_name=step.target_name,
            zone_id=step.zone_id,
            action=step.action,
            diagnosis=step.diagnosis.code,
            outcome=outcome,
        )
        self.journal.append(entry)


_OUTSIDE = (ProbeName.CLOUD_STATE, ProbeName.CLOUD_AGENT, ProbeName.DATABASE_AGENT)


def _reversed(items: Mapping[TargetId, T]) -> dict[TargetId, T]:
    """The same dictionary in another order."""
    return dict(reversed(list(items.items())))


def _inside(facts: dict[str, str]) -> dict[ProbeName, Verdict]:
    """What the probes inside say of a machine with these facts."""
    unit, has_jvm = facts["unit"], facts["jvm"] == "yes"
    said: dict[ProbeName, Verdict] = {
        ProbeName.AGENT_UNIT: _bad(unit != "active", UNIT_SIGNS.get(unit), f"unit {unit}"),
        ProbeName.STORAGE: _bad(facts["mount"] != "ok", Sign.MOUNT_HUNG, "/mnt/SecStorage/x hangs"),
        ProbeName.DISK: _bad(facts["disk"] != "ok", Sign.DISK_FULL, "/ is full"),
        ProbeName.MANAGEMENT: _bad(
            facts["management"] != "ok", Sign.MANAGEMENT_UNREACHABLE, "10.0.0.1:8250 refused"
        ),
    }
    if facts["management"] == "untried":
        said[ProbeName.MANAGEMENT] = Unknown("not tried")
    if unit != "active":
        said[ProbeName.AGENT_PROCESS] = Unknown("the unit is not active")
        said[ProbeName.AGENT_LINK] = Unknown("the unit is not active")
        return said
    said[ProbeName.AGENT_PROCESS] = _bad(not has_jvm, Sign.JVM_MISSING, "no java")
    said[ProbeName.AGENT_LINK] = (
        _bad(facts["link"] != "up", Sign.LINK_DOWN, "no socket to 8250")
        if has_jvm
        else Unknown("no java")
    )
    return said


def _bad(is_bad: bool, sign: Sign | None, evidence: str) -> Verdict:
    return Failed(sign, evidence) if is_bad and sign is not None else Passed()
