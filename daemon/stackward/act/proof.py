"""What proves that a request helped: things newer than it, from more than one side. Pure.

A job's success, an exit status, an Up that nobody has renewed: none of them proves anything.
"""

from dataclasses import dataclass
from datetime import timedelta

from stackward.act.errand import Errand
from stackward.core.snapshot import Snapshot
from stackward.core.state import FleetView, TargetState
from stackward.model.guest import GuestMarks, LogPosition
from stackward.model.plan import ActionName
from stackward.model.target import AgentState
from stackward.model.verdict import Passed, ProbeName, Source

# CloudStack takes an agent for Up until it has missed 2.5 pings of 60 s. An Up that was never
# anything else is news only when it has outlived that.
STALE_UP = timedelta(seconds=150)


@dataclass(frozen=True, slots=True)
class Proof:
    """What was seen and what is missing. `is_new_life`: the mark that must change has changed."""

    is_new_life: bool
    seen: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        return not self.missing


def weigh(errand: Errand, snapshot: Snapshot | None) -> Proof:
    """What a picture of the fleet proves about an errand."""
    if snapshot is None:
        return Proof(is_new_life=False, seen=(), missing=("nothing is known of the VM yet",))
    state = snapshot.fleet.targets.get(errand.target_id)
    if state is None:
        return Proof(is_new_life=False, seen=(), missing=("the VM is not listed",))
    new_life = _new_life(errand, state)
    ready = _ready(errand, state)
    checks = [
        (new_life, f"no new {_mark(errand)}"),
        (ready, "no ready line in the log after the request"),
    ]
    if errand.action.name is ActionName.RESTART_AGENT:
        checks.append((_witness(errand, state, snapshot.fleet), "no witness calls the agent Up"))
    return Proof(
        is_new_life=bool(new_life),
        seen=tuple(seen for seen, _ in checks if seen),
        missing=tuple(missing for seen, missing in checks if not seen),
    )


def _mark(errand: Errand) -> str:
    return "InvocationID" if errand.action.name is ActionName.RESTART_AGENT else "boot_id"


def _new_life(errand: Errand, state: TargetState) -> str:
    if state.marks_at is None or state.marks_at <= errand.begun_at:
        return ""
    before, now = errand.marks, state.marks
    if _differs(before.boot_id, now.boot_id):
        return f"boot_id is now {now.boot_id}"
    if errand.action.name is ActionName.RESTART_AGENT and _is_new_start(before, now):
        return f"InvocationID is now {now.invocation_id}, JVM {now.agent_pid}"
    return ""


def _differs(before: str | None, now: str | None) -> bool:
    return before is not None and now is not None and before != now


def _is_new_start(before: GuestMarks, now: GuestMarks) -> bool:
    """A unit that had no InvocationID was never started; then any is a new one.

    Where systemd is too old to tell one at all, a JVM that was not there has to do.
    """
    if now.invocation_id is None and before.invocation_id is None:
        return now.agent_pid is not None and now.agent_pid != before.agent_pid
    return now.invocation_id is not None and now.invocation_id != before.invocation_id


def _ready(errand: Errand, state: TargetState) -> str:
    log = state.log
    if (
        errand.log_position is not None
        and log.ready_position is not None
        and log.ready_seen_at is not None
        and log.ready_seen_at > errand.begun_at
        and _place(log.ready_position) >= _place(errand.log_position)
    ):
        return f"ready line in the log at byte {log.ready_position.offset}"
    if errand.is_resumed and (link := _passed(errand, state, ProbeName.AGENT_LINK)):
        return f"the ready line may have been read before the restart; {link}"
    return ""


def _place(position: LogPosition) -> tuple[int, int]:
    return (position.generation, position.offset)


def _witness(errand: Errand, state: TargetState, fleet: FleetView) -> str:
    """A second side: the API; where it cannot be asked or does not say, whoever else can."""
    api = fleet.sources.get(Source.API)
    if api is not None and api.is_up and state.target.agent_state is not AgentState.NOT_TOLD:
        return _renewed(errand, state, ProbeName.CLOUD_AGENT)
    if ProbeName.DATABASE_AGENT in state.probes:
        return _renewed(errand, state, ProbeName.DATABASE_AGENT)
    return _passed(errand, state, ProbeName.AGENT_LINK)


def _renewed(errand: Errand, state: TargetState, probe: ProbeName) -> str:
    """Up, said after the request, and not merely never withdrawn."""
    said = _passed(errand, state, probe)
    if not said:
        return ""
    outlived = state.probes[probe].observed_at >= errand.begun_at + STALE_UP
    return said if errand.was_seen_down or _was_lost_since(errand, state) or outlived else ""


def _was_lost_since(errand: Errand, state: TargetState) -> bool:
    """True when CloudStack has noted a loss of the agent that is newer than the request."""
    lost_at = state.target.disconnected_at
    if lost_at is None:
        return False
    if errand.before is None:
        return lost_at > errand.intent.at
    return lost_at != errand.before.disconnected_at


def _passed(errand: Errand, state: TargetState, probe: ProbeName) -> str:
    memory = state.probes.get(probe)
    if memory is None or memory.observed_at <= errand.begun_at:
        return ""
    match memory.verdict:
        case Passed(evidence):
            return f"{probe}: {evidence or 'passed'}"
        case _:
            return ""
