"""Evaluates the table of causes: for one target, and for the fleet.

Inside one target a cause explains its symptoms away; a cause of many targets marks theirs.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from stackward.core.diagnoses import (
    FLEET_ROWS,
    JUMP_LEGS,
    TARGET_ROWS,
    Row,
    row_of,
    rows_of,
)
from stackward.core.evidence import Evidence, is_younger, read_evidence
from stackward.core.policy import Limits, Policy
from stackward.core.state import FleetView, PathMemory, ProbeMemory, TargetState
from stackward.core.wording import plain
from stackward.errors import Leg
from stackward.model.diagnosis import Diagnosis, DiagnosisCode, Subject
from stackward.model.health import Health, HealthState
from stackward.model.identity import HostId, TargetId, VmRole, ZoneId
from stackward.model.target import SshRoute
from stackward.model.verdict import Failed, Passed, Source

_WORK = {
    VmRole.SECONDARY_STORAGE: "template, volume and snapshot transfers",
    VmRole.CONSOLE_PROXY: "VM consoles",
}

# Legs that many VMs of one hypervisor can lose together: their own keys are not among them.
_SHARED_LEGS = JUMP_LEGS | {Leg.INNER_TCP, Leg.CHANNEL}


def diagnose_target(
    state: TargetState,
    policy: Policy,
    now: datetime,
    around: FleetView,
    evidence: Evidence | None = None,
) -> tuple[Diagnosis, ...]:
    """The causes found in one target, the most telling first, without their symptoms.

    `around`: the fleet that it stands in, for what its surroundings add to the evidence.
    `evidence`: the target's at that moment, if it has been read already.
    """
    evidence = evidence or read_evidence(state, policy, now)
    is_way_open = state.path is None or state.path.leg is None
    if is_way_open and not evidence.believed:
        return ()
    found: list[Diagnosis] = []
    explained: set[DiagnosisCode] = set()
    for row in TARGET_ROWS:
        if row.code in explained or any(old.code is row.code for old in found):
            continue
        since = _stands_since(row, state, evidence, policy, now)
        if since is None:
            continue
        found.append(_diagnosis(row, state, evidence, since, around))
        explained |= row.suppresses
    return tuple(one for one in found if one.code not in explained)


def _stands_since(
    row: Row, state: TargetState, evidence: Evidence, policy: Policy, now: datetime
) -> datetime | None:
    """From when on all that a row needs has been there; None when something is missing."""
    moments = _sign_moments(row, evidence) if row.groups else _leg_moments(row, state, policy)
    if not moments or not _is_admissible(row, state, evidence, policy, now):
        return None
    since = max(moments)
    if now - since < row.lasts or (row.is_blind and _tells(evidence, since, policy, now)):
        return None
    is_sure = all(_has_passed_since(state.probes.get(one), since) for one in row.passed_since)
    return since if is_sure else None


def _sign_moments(row: Row, evidence: Evidence) -> list[datetime]:
    moments = []
    for group in row.groups:
        seen = [evidence.believed[sign].since for sign in group if sign in evidence.believed]
        if not seen:
            return []
        moments.append(min(seen))
    distinct = [evidence.believed[s].since for s in row.corroborating if s in evidence.believed]
    if len(distinct) < row.distinct_min:
        return []
    if row.distinct_min:
        moments.append(sorted(distinct)[row.distinct_min - 1])
    return moments


def _leg_moments(row: Row, state: TargetState, policy: Policy) -> list[datetime]:
    path = state.path
    if path is None or path.leg is None or path.leg not in row.legs:
        return []
    needed = row.leg_failures_min or policy.thresholds.fall
    return [path.since] if path.failed_in_a_row >= needed else []


def _is_admissible(
    row: Row, state: TargetState, evidence: Evidence, policy: Policy, now: datetime
) -> bool:
    return (
        row.passed <= evidence.passed.keys()
        and not row.contradicted_by & evidence.passed.keys()
        and not any(evidence.has_seen(sign) for sign in row.contradicting)
        and (row.is_for_young or not is_younger(state, policy.thresholds.boot_grace, now))
    )


def _tells(evidence: Evidence, since: datetime, policy: Policy, now: datetime) -> bool:
    """True while an answer from inside may still come that tells why."""
    return evidence.knows(Source.SSH) and now - since <= policy.thresholds.slow_stale_after


def _has_passed_since(memory: ProbeMemory | None, since: datetime) -> bool:
    known = memory.last_known if memory is not None else None
    return known is not None and isinstance(known.verdict, Passed) and known.observed_at > since


def _diagnosis(
    row: Row, state: TargetState, evidence: Evidence, since: datetime, around: FleetView
) -> Diagnosis:
    lines = evidence_lines(row, state, evidence, around)
    words = row_words(state) | {"evidence": "; ".join(lines)}
    return Diagnosis(
        code=row.code,
        subject=Subject(target_id=state.target.id),
        since=since,
        sentence=row.sentence.format_map(words),
        evidence=lines,
        variant=rows_of(row.code).index(row),
    )


def row_words(state: TargetState) -> dict[str, str]:
    """What the templates of a row may name of one target."""
    target = state.target
    work = _WORK[target.role]
    return {
        "role": target.role.spoken,
        "name": target.name,
        "zone": target.zone_name,
        "host": target.host_name or "(no host)",
        "leg": state.path.leg.spoken if state.path and state.path.leg else "open",
        "template": target.template_id or "TEMPLATE-ID",
        "work": work,
        "Work": work[0].upper() + work[1:],
    }


def evidence_lines(
    row: Row, state: TargetState, evidence: Evidence, around: FleetView
) -> tuple[str, ...]:
    """What a diagnosis rests on, one line for each witness's word."""
    wanted = frozenset[object]().union(*row.groups, row.corroborating)
    lines = [
        f"{memory.source.value}: {plain(memory.verdict.evidence)}"
        for sign, memory in sorted(evidence.believed.items())
        if sign in wanted and isinstance(memory.verdict, Failed)
    ]
    if row.legs and state.path is not None:
        lines.append(plain(state.path.detail) or f"{state.path.failed_in_a_row} attempts failed")
        lines.append(
            f"CloudStack says {state.target.cloud_state.value}, agent "
            f"{state.target.agent_state.value}"
        )
    host = around.hosts.get(state.target.host_id) if state.target.host_id is not None else None
    if host is not None and host.is_up is False:
        lines.append(f"hypervisor {host.name} is {host.detail or 'not Up'}")
    return tuple(lines)


def diagnose_fleet(
    fleet: FleetView,
    per_target: Mapping[TargetId, Sequence[Diagnosis]],
    health: Mapping[TargetId, Health],
    policy: Policy,
    now: datetime,
) -> tuple[Diagnosis, ...]:
    """The causes that many targets share, in the order of the table.

    `health` and `per_target` need to hold only those that are not plainly well.
    """
    found = [
        *_cloud_api(fleet, policy, now),
        *_storm(fleet, per_target, health, policy, now),
        *_zones(fleet, per_target),
        *_jumps(fleet, health, policy, now),
    ]
    order = [row.code for row in FLEET_ROWS]
    return tuple(sorted(found, key=lambda one: (order.index(one.code), one.sentence)))


def _cloud_api(fleet: FleetView, policy: Policy, now: datetime) -> Iterable[Diagnosis]:
    api = fleet.sources.get(Source.API)
    if api is None or api.is_up or now - api.since < policy.thresholds.stale_after:
        return
    yield _fleet_diagnosis(
        DiagnosisCode.CLOUD_API_UNREACHABLE,
        Subject(),
        api.since,
        (),
        {"evidence": plain(api.detail)},
    )


def _storm(
    fleet: FleetView,
    per_target: Mapping[TargetId, Sequence[Diagnosis]],
    health: Mapping[TargetId, Health],
    policy: Policy,
    now: datetime,
) -> Iterable[Diagnosis]:
    sick = [
        target_id
        for target_id, one in health.items()
        if one.state is HealthState.UNHEALTHY and target_id in fleet.targets
    ]
    if not is_storm(len(sick), len(fleet.targets), policy.limits):
        return
    leads = [found[0] for target_id in sick if (found := per_target.get(target_id))]
    codes = Counter(one.code.value for one in leads)
    unsure = len(sick) - len(leads)
    seen = [f"{code} on {count}" for code, count in sorted(codes.items())]
    seen += [f"no cause is sure yet on {unsure}"] if unsure else []
    counts = {"count": str(len(sick)), "total": str(len(fleet.targets))}
    since = max((one.since for one in leads), default=now)
    words = counts | {"evidence": ", ".join(seen)}
    yield _fleet_diagnosis(DiagnosisCode.STORM, Subject(), since, (), words)


def is_storm(sick: int, total: int, limits: Limits) -> bool:
    """True when too many are sick at once for the cause to be in each of them."""
    return sick > 0 and sick >= limits.storm_count and sick / total >= limits.storm_share


def _zones(
    fleet: FleetView, per_target: Mapping[TargetId, Sequence[Diagnosis]]
) -> Iterable[Diagnosis]:
    sick: dict[ZoneId, list[Diagnosis]] = defaultdict(list)
    for target_id, diagnoses in per_target.items():
        if not diagnoses or row_of(diagnoses[0]).is_local:
            continue
        state = fleet.targets.get(target_id)
        if state is not None:
            sick[state.target.zone_id].append(diagnoses[0])
    if not any(len(found) > 1 for found in sick.values()):
        return
    members: dict[ZoneId, list[TargetState]] = defaultdict(list)
    for state in fleet.targets.values():
        members[state.target.zone_id].append(state)
    for zone_id, found in sick.items():
        if len(found) < 2 or len(found) < len(members[zone_id]):
            continue
        names = sorted(state.target.name for state in members[zone_id])
        codes = sorted({one.code.value for one in found})
        yield _fleet_diagnosis(
            DiagnosisCode.ZONE_WIDE_FAILURE,
            Subject(zone_id=zone_id),
            max(one.since for one in found),
            members[zone_id],
            {
                "zone": members[zone_id][0].target.zone_name,
                "evidence": f"{', '.join(codes)} on {_few(names)}",
            },
        )


def _jumps(
    fleet: FleetView, health: Mapping[TargetId, Health], policy: Policy, now: datetime
) -> Iterable[Diagnosis]:
    # Nobody is plainly well to whom the way is broken.
    unwell = (fleet.targets[target_id].path for target_id in health if target_id in fleet.targets)
    if not any(path is not None and path.leg in _SHARED_LEGS for path in unwell):
        return
    by_host: dict[HostId, list[TargetState]] = defaultdict(list)
    for state in fleet.targets.values():
        if state.target.host_id is not None and state.target.route is SshRoute.JUMP:
            by_host[state.target.host_id].append(state)
    for host_id, states in by_host.items():
        asked = [state for state in states if state.target.is_running]
        paths = [state.path for state in asked if state.path is not None]
        broken = _broken_by_jump(paths, policy, now)
        if not broken:
            continue
        host = fleet.hosts.get(host_id)
        details = sorted({_way(path) for path in broken})
        yield _fleet_diagnosis(
            DiagnosisCode.JUMP_UNREACHABLE,
            Subject(host_id=host_id),
            max(path.since for path in broken),
            states,
            {
                "host": host.name if host else states[0].target.host_name or host_id,
                "count": str(sum(path.leg in _SHARED_LEGS for path in paths)),
                "evidence": _few(details),
            },
        )


def _broken_by_jump(paths: Sequence[PathMemory], policy: Policy, now: datetime) -> list[PathMemory]:
    """The ways that are broken where all of one hypervisor share them; empty: the jump is well.

    The first VM that is sure of it speaks for all, unless somebody has come through since: its
    neighbours are asked a moment later, and each would be called sick for itself. When the jump is
    back they come through one by one; until that is done, or has had its time, the outage lasts.
    """
    fall, grace = policy.thresholds.fall, policy.thresholds.stale_after
    failing = [path for path in paths if path.leg in _SHARED_LEGS]
    broken = [
        path for path in failing if path.failed_in_a_row >= fall or path.leg is Leg.JUMP_HOST_KEY
    ]
    if not broken:
        return []
    first, last = min(path.since for path in broken), max(path.since for path in broken)
    through = [path for path in paths if path.leg is None and path.told_at > last]
    back = [path for path in through if path.since > first and now - path.since < grace]
    if len(back) < len(through):
        return []
    is_shared = len(failing) + len(back) > 1 or any(path.leg in JUMP_LEGS for path in broken)
    return broken if is_shared else []


def _way(path: PathMemory) -> str:
    leg = path.leg.spoken if path.leg is not None else "open"
    return f"{leg}: {plain(path.detail)}"


def _few(words: Sequence[str]) -> str:
    more = f" and {len(words) - 5} more" if len(words) > 5 else ""
    return ", ".join(words[:5]) + more


def _fleet_diagnosis(
    code: DiagnosisCode,
    subject: Subject,
    since: datetime,
    states: Sequence[TargetState],
    words: Mapping[str, str],
) -> Diagnosis:
    row = rows_of(code)[0]
    return Diagnosis(
        code=code,
        subject=subject,
        since=since,
        sentence=row.sentence.format_map({"count": str(len(states)), **words}),
        evidence=(words["evidence"],),
        suppresses=frozenset(state.target.id for state in states),
    )


def suppress(
    per_target: Mapping[TargetId, tuple[Diagnosis, ...]], fleet_diagnoses: Sequence[Diagnosis]
) -> dict[TargetId, tuple[Diagnosis, ...]]:
    """The diagnoses of each target, those marked that a wider cause explains."""
    marked = dict(per_target)
    for cause in fleet_diagnoses:
        explains = rows_of(cause.code)[0].suppresses
        for target_id in cause.suppresses & marked.keys():
            marked[target_id] = tuple(
                replace(one, suppressed_by=cause.code)
                if one.code in explains and one.suppressed_by is None
                else one
                for one in marked[target_id]
            )
    return marked
