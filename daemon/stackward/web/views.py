"""Snapshots as JSON: pure functions. Moments are ISO 8601 in UTC, durations seconds.

The shape of `/api/v1/*` is what these functions return. Fields may be added; none changes its
meaning within v1.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum

from stackward import __version__
from stackward.core.explain import explain_target
from stackward.core.snapshot import Snapshot
from stackward.core.state import FleetView, TargetState
from stackward.model.correlation import ManagementLog
from stackward.model.diagnosis import Diagnosis
from stackward.model.entry import StoredEntry
from stackward.model.health import Overall
from stackward.model.identity import TargetId
from stackward.model.plan import Mode

Json = Mapping[str, "JsonValue"]
JsonValue = str | int | float | bool | None | list["JsonValue"] | Json
Moment = datetime

# The order in which people want to see verdicts.
WORST_FIRST: Mapping[str, int] = {"failed": 0, "unknown": 1, "passed": 2}


def spoken(seconds: float) -> str:
    """A length of time as one says it, in one unit."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def dumps(value: JsonValue) -> str:
    """Compact JSON text."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def plain(value: object) -> JsonValue:
    """Any of the model's values as JSON."""
    match value:
        case Enum():
            return str(value.value)
        case None | bool() | int() | float() | str():
            return value
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Mapping():
            return {str(plain(key)): plain(item) for key, item in value.items()}
        case tuple() if (names := getattr(value, "_fields", None)) is not None:
            return {name: plain(item) for name, item in zip(names, value, strict=True)}
        case list() | tuple():
            return [plain(item) for item in value]
        case frozenset() | set():
            return sorted((plain(item) for item in value), key=str)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        case _:
            return str(value)


def find(snapshot: Snapshot, name: str) -> TargetId | None:
    """The VM of that name or id; None if there is none, or more than one."""
    if TargetId(name) in snapshot.fleet.targets:
        return TargetId(name)
    matches = [key for key, state in snapshot.fleet.targets.items() if state.target.name == name]
    return matches[0] if len(matches) == 1 else None


def status(snapshot: Snapshot, now: Moment) -> Json:
    """The fleet: mode, sources, zones, and one row for each VM."""
    fleet = snapshot.fleet
    return {
        "version": __version__,
        "now": plain(now),
        "taken_at": plain(snapshot.taken_at),
        "started_at": plain(snapshot.started_at),
        "round": snapshot.round_number,
        "is_ready": snapshot.is_ready,
        "is_empty": is_empty(snapshot),
        "mode": snapshot.policy.mode.value,
        "paused": fleet.pause_reason,
        "demoted": fleet.demotion,
        "journal_trouble": fleet.journal_trouble or None,
        "inventory_at": plain(fleet.inventory_at),
        "inventory_witness": plain(fleet.inventory_witness),
        "unreadable_rows": plain(fleet.unreadable),
        "verdicts": _verdicts(snapshot),
        "sources": plain(fleet.sources),
        "zones": [plain(zone) for zone in sorted(fleet.zones.values(), key=lambda z: z.name)],
        "management_logs": [_management_log(one) for one in fleet.management_logs.values()],
        "causes": [plain(diagnosis) for diagnosis in snapshot.fleet_diagnoses],
        "vms": [vm_row(snapshot, state) for state in ordered(fleet)],
        "escalations": plain(snapshot.plan.escalations),
    }


def _management_log(log: ManagementLog) -> Json:
    """Whether it is followed; what it said stands beside the VMs."""
    return {
        "name": log.name,
        "is_followed": log.is_followed,
        "detail": log.detail,
        "since": plain(log.since),
        "clock_offset_seconds": plain(log.clock_offset),
        "dropped": log.dropped,
        "gaps": log.gaps,
    }


def ordered(fleet: FleetView) -> list[TargetState]:
    """All VMs by zone, role and name."""
    return sorted(fleet.targets.values(), key=_by_zone_and_name)


def vm_row(snapshot: Snapshot, state: TargetState) -> Json:
    """One VM in one line: verdict, leading cause, what is done about it."""
    target = state.target
    health = snapshot.health.get(target.id)
    leading = leading_diagnosis(snapshot.diagnoses.get(target.id, ()))
    return {
        "id": target.id,
        "name": target.name,
        "role": target.role.value,
        "zone": target.zone_name,
        "host": target.host_name,
        "state": target.cloud_state.value,
        "agent": target.agent_state.value,
        "verdict": health.verdict.value if health else Overall.UNKNOWN.value,
        "health": health.state.value if health else "unknown",
        "reasons": plain(health.reasons) if health else [],
        "diagnosis": leading.code.value if leading else None,
        "sentence": leading.sentence if leading else None,
        "since": plain(leading.since) if leading else None,
        "suppressed_by": plain(leading.suppressed_by) if leading else None,
        "next": next_step(snapshot, target.id),
        "predecessor": state.predecessor_id,
    }


def said(row: Json) -> str:
    """What a row says of its VM: its cause, or what is known while there is none."""
    if row["sentence"]:
        return str(row["sentence"])
    reasons = row["reasons"]
    known = "; ".join(map(str, reasons if isinstance(reasons, list) else []))
    state = "" if row["health"] in ("healthy", "unknown") else str(row["health"])
    return ": ".join(word for word in (state, known) if word)


def urgency(row: Json) -> int:
    """The order in which people want to see VMs, the first first.

    A cause counts before an unknown: a way that shows another host key leaves a VM passed.
    """
    if row["verdict"] == Overall.FAILED.value:
        return 0
    if row["diagnosis"] and not row["suppressed_by"]:
        return 1
    return 2 if row["verdict"] == Overall.UNKNOWN.value else 3


def leading_diagnosis(diagnoses: tuple[Diagnosis, ...]) -> Diagnosis | None:
    """The most specific cause that no wider one explains; else the first."""
    for diagnosis in diagnoses:
        if diagnosis.suppressed_by is None:
            return diagnosis
    return diagnoses[0] if diagnoses else None


_SAID_OF_STEPS = {
    Mode.ACT: "does",
    Mode.ADVISE: "looks again and would do",
    Mode.OBSERVE: "only observes, and would do",
}


def next_step(snapshot: Snapshot, target_id: TargetId) -> str | None:
    """What the plan says about a VM, in a sentence; None if it says nothing."""
    for step in snapshot.plan.steps:
        if step.target_id == target_id:
            why = step.explanation.removeprefix(step.diagnosis.sentence).strip()
            return f"{_SAID_OF_STEPS[step.mode]} {step.action.value}. {why}"
    for hold in snapshot.plan.holds:
        if hold.target_id == target_id:
            action = f"{hold.action.value} waits: " if hold.action else ""
            return f"{action}{hold.reason.text}"
    for escalation in snapshot.plan.escalations:
        if escalation.subject.target_id == target_id:
            return f"a person is needed: {escalation.advice}"
    return None


def vm(snapshot: Snapshot, name: str, now: Moment) -> Json | None:
    """One VM, explained; None if there is no such VM."""
    target_id = find(snapshot, name)
    if target_id is None:
        return None
    state = snapshot.fleet.targets[target_id]
    return {
        "now": plain(now),
        "row": vm_row(snapshot, state),
        "explanation": plain(explain_target(snapshot, target_id)),
        "target": plain(state.target),
        "probes": {probe.value: plain(memory) for probe, memory in state.probes.items()},
        "path": plain(state.path),
        "log": plain(state.log),
        "marks": plain(state.marks),
        "readings": plain(state.readings),
        "episode": plain(state.episode),
        "diagnoses": plain(snapshot.diagnoses.get(target_id, ())),
    }


def plan(snapshot: Snapshot, now: Moment) -> Json:
    """What the newest round decided."""
    return {
        "now": plain(now),
        "mode": snapshot.policy.mode.value,
        "paused": snapshot.fleet.pause_reason,
        "demoted": snapshot.fleet.demotion,
        "verdicts": _verdicts(snapshot),
        "plan": plain(snapshot.plan),
    }


def _verdicts(snapshot: Snapshot) -> JsonValue:
    verdicts = Counter(health.verdict for health in snapshot.health.values())
    return plain(dict.fromkeys(Overall, 0) | verdicts)


def is_empty(snapshot: Snapshot) -> bool:
    """True when CloudStack was asked, and listed nothing: that is not the same as all well."""
    return snapshot.is_ready and not snapshot.fleet.targets


def entries(stored: tuple[StoredEntry, ...]) -> Json:
    """Journal rows as they were asked for."""
    return {
        "entries": [
            {"sequence": row.sequence, **_without_nothing(plain(row.entry))} for row in stored
        ]
    }


def _without_nothing(value: JsonValue) -> dict[str, JsonValue]:
    assert isinstance(value, Mapping)
    return {key: item for key, item in value.items() if item is not None and item != []}


def _by_zone_and_name(state: TargetState) -> tuple[str, str, str]:
    return (state.target.zone_name, state.target.role.value, state.target.name)
