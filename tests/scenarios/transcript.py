"""Reads a story and tells it again with what really happened.

A story is a text file of commands. A command that shows something is followed by `----` and what
it must show, up to an empty line. `rewrite(text)` gives the whole story back with what it shows
now; a test compares the two.

    zone north s-1@kvm1 v-2@kvm1     VMs (s-: SSVM, v-: CPVM), a month old, well
    young north v-3@kvm1             a VM created at this moment
    policy mode=act stands=60s ...   also: restarts, reboots, cooldown, rule-mode, zone-mode, rules,
                                     zone-budget, storm-count
    set v-2 unit=failed agent=Alert  facts of a VM, see world.py
    kill v-2                         the agent dies: unit failed, no JVM, agent Alert
    heal v-2                         everything well again
    recreate v-2 as v-9              CloudStack destroys a VM and makes another
    migrate v-2 kvm2
    zone-state north off | host-state kvm1 off | api off | unreadable on | journal off
    pause REASON | resume | demote REASON
    steps succeed|fail|hang|withdraw how steps end from now on
    run 2m                           ten-second ticks, each with a round

    plan | health | told | why VM    shows
"""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from stackward.core.explain import explain_target
from stackward.core.policy import Limits, Policy, Rung
from stackward.core.snapshot import Snapshot, Totals
from stackward.model.entry import Entry
from stackward.model.identity import HostId, ZoneId
from stackward.model.outcome import OutcomeKind
from stackward.model.plan import ActionName, Escalation, Mode
from tests.builders import NOW, a_policy, a_rule, a_target
from tests.scenarios.world import DEAD, WELL, Machine, World

ENDS = {
    "succeed": OutcomeKind.SUCCEEDED,
    "fail": OutcomeKind.FAILED,
    "withdraw": OutcomeKind.WITHDRAWN,
    "hang": None,
}


def rewrite(text: str) -> str:
    """The same story with what its commands show now."""
    story = _Story()
    told: list[str] = []
    is_shown = False
    for line in text.splitlines():
        if is_shown:  # what was shown before gives way
            is_shown = line.strip() != ""
            if is_shown:
                continue
        if line.strip() == "----":
            is_shown = True
            continue
        told.append(line)
        if line.strip() and not line.startswith("#"):
            shown = story.do(line.split())
            if shown is not None:
                told += ["----", *shown]
    return "\n".join(told) + "\n"


class _Story:
    def __init__(self) -> None:
        self._world = World(policy=a_policy())
        self._read = 0  # journal rows already told

    def do(self, words: list[str]) -> list[str] | None:
        """One command; lines when it shows something."""
        name = words[0].replace("-", "_")
        commands: dict[str, Callable[..., list[str] | None]] = {
            "zone": self._zone,
            "young": self._young,
            "policy": self._policy,
            "set": self._set,
            "kill": lambda *names: self._change(names, DEAD),
            "heal": lambda *names: self._change(names, WELL),
            "recreate": self._recreate,
            "migrate": self._migrate,
            "zone_state": self._zone_state,
            "host_state": self._host_state,
            "api": self._api,
            "unreadable": self._unreadable,
            "journal": self._journal,
            "pause": self._pause,
            "resume": self._resume,
            "demote": self._demote,
            "steps": self._steps,
            "run": self._run,
            "plan": self._plan,
            "health": self._health,
            "told": self._told,
            "why": self._why,
        }
        return commands[name](*words[1:])

    # --- the world ------------------------------------------------------------------------------

    def _zone(self, zone: str, *machines: str) -> None:
        for machine in machines:
            name, host = machine.split("@")
            self._world.add(name, zone, host)

    def _young(self, zone: str, machine: str) -> None:
        name, host = machine.split("@")
        self._world.add(name, zone, host, age=timedelta(0))

    def _policy(self, *settings: str) -> None:
        told = dict(setting.split("=") for setting in settings)
        cooldown = _span(told.pop("cooldown", "10m"))
        ladder = (
            Rung(
                action=ActionName.RESTART_AGENT,
                attempts_max=int(told.pop("restarts", "1")),
                cooldown=cooldown,
            ),
            Rung(
                action=ActionName.REBOOT_SYSTEM_VM,
                attempts_max=int(told.pop("reboots", "1")),
                cooldown=cooldown,
            ),
        )
        rule = a_rule(
            ladder=ladder,
            stands_for=_span(told.pop("stands", "1m")),
            mode=Mode(told.pop("rule-mode", "act")),
        )
        limits = Limits(
            zone_disruptive_max=int(told.pop("zone-budget", "3")),
            storm_count=int(told.pop("storm-count", "3")),
        )
        zone_modes = {}
        if "zone-mode" in told:
            zone, mode = told.pop("zone-mode").split(":")
            zone_modes[zone] = Mode(mode)
        has_rules = told.pop("rules", "yes") == "yes"
        policy = Policy(
            mode=Mode(told.pop("mode", "act")),
            zone_modes=zone_modes,
            unnamed_zones=Mode.ACT,
            limits=limits,
            rules=(rule,) if has_rules else (),
        )
        assert not told, f"no such settings: {told}"
        self._world.policy = policy

    def _set(self, name: str, *facts: str) -> None:
        told = dict(fact.split("=") for fact in facts)
        assert told.keys() <= WELL.keys(), f"no such facts: {told}"
        self._change((name,), told)

    def _change(self, machine_names: tuple[str, ...], facts: dict[str, str]) -> None:
        for name in machine_names:
            self._world.machines[name].facts |= facts

    def _recreate(self, name: str, _as: str, new: str) -> None:
        old = self._world.machines.pop(name)
        like = a_target(new)
        target = replace(
            old.target, id=like.id, name=new, created_at=self._world.now, control_address="new"
        )
        self._world.machines[new] = Machine(target, booted_at=self._world.now)

    def _migrate(self, name: str, host: str) -> None:
        machine = self._world.machines[name]
        self._world.add("probe", machine.target.zone_name, host)
        del self._world.machines["probe"]
        machine.target = replace(machine.target, host_id=HostId(f"host-{host}"), host_name=host)

    def _zone_state(self, zone: str, state: str) -> None:
        zone_id = ZoneId(f"zone-{zone}")
        self._world.zones[zone_id] = replace(self._world.zones[zone_id], is_enabled=state == "on")

    def _host_state(self, host: str, state: str) -> None:
        host_id = HostId(f"host-{host}")
        self._world.hosts[host_id] = replace(self._world.hosts[host_id], is_up=state == "on")

    def _api(self, state: str) -> None:
        self._world.api_is_up = state == "on"

    def _unreadable(self, state: str) -> None:
        self._world.unreadable = ("row 3 of listSystemVms",) if state == "on" else ()

    def _journal(self, state: str) -> None:
        self._world.journal_trouble = "" if state == "on" else "disk full"

    def _pause(self, *reason: str) -> None:
        self._world.pause_reason = " ".join(reason)

    def _resume(self) -> None:
        self._world.pause_reason = None

    def _demote(self, *reason: str) -> None:
        self._world.demotion = " ".join(reason)

    def _steps(self, end: str) -> None:
        self._world.steps_end = ENDS[end]

    def _run(self, span: str) -> None:
        self._world.run(_span(span))

    # --- what is shown --------------------------------------------------------------------------

    def _plan(self) -> list[str]:
        plan = self._world.plan
        lines = [
            f"step {step.target_name} {step.action} for {step.diagnosis.code} "
            f"rung={step.rung + 1} attempt={step.attempt} mode={step.mode}"
            for step in plan.steps
        ]
        for hold in plan.holds:
            until = f" until={_clock(hold.reason.until - NOW)}" if hold.reason.until else ""
            action = hold.action or "no-action"
            cause = hold.diagnosis or "no-diagnosis"
            lines.append(
                f"hold {hold.target_name} {action} for {cause}: {hold.reason.guard}{until}"
            )
        lines += [_called(call) for call in plan.escalations]
        if plan.next_check_at is not None:
            lines.append(f"next {_clock(plan.next_check_at - NOW)}")
        return lines or ["nothing"]

    def _health(self) -> list[str]:
        world = self._world
        lines = []
        for who, state in sorted(world.states.items(), key=lambda one: one[1].target.name):
            health = world.health[who]
            causes = ", ".join(
                one.code + (f" (by {one.suppressed_by})" if one.suppressed_by else "")
                for one in world.diagnoses[who]
            )
            heir = f" after {state.predecessor_id}" if state.predecessor_id else ""
            lines.append(
                f"{state.target.name} {health.state} {health.verdict}"
                f"{': ' + causes if causes else ''}{heir}"
            )
        return lines

    def _told(self) -> list[str]:
        entries = self._world.journal[self._read :]
        self._read = len(self._world.journal)
        return [_row(entry) for entry in entries] or ["nothing"]

    def _why(self, name: str) -> list[str]:
        world = self._world
        snapshot = Snapshot(
            taken_at=world.now,
            started_at=NOW,
            round_number=1,
            fleet=world.view(),
            policy=world.policy,
            health=world.health,
            diagnoses=world.diagnoses,
            fleet_diagnoses=world.wider,
            plan=world.plan,
            totals=Totals(),
        )
        told = explain_target(snapshot, world.machines[name].target.id)
        assert told is not None
        return [told.sentence, *told.reasons]


def _called(call: Escalation) -> str:
    tried = " (the ladder has ended)" if "was tried" in call.sentence else ""
    return f"escalate {call.subject_name}: {call.diagnosis}{tried}"


def _row(entry: Entry) -> str:
    words = [_clock(entry.at - NOW), entry.kind, entry.target_name, entry.action, entry.diagnosis]
    if entry.outcome is not None:
        words.append(entry.outcome.kind)
    return " ".join(word for word in words if word)


def _clock(span: timedelta) -> str:
    total = round(span.total_seconds())
    sign = "-" if total < 0 else ""
    hours, rest = divmod(abs(total), 3600)
    clock = f"{rest // 60:02}:{rest % 60:02}"
    return f"{sign}{hours}:{clock}" if hours else f"{sign}{clock}"


def _span(text: str) -> timedelta:
    match = re.fullmatch(r"(\d+)([smhd])", text)
    assert match is not None, f"not a span: {text}"
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    return timedelta(**{units[match[2]]: int(match[1])})
