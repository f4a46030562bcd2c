"""What of a target's memory counts as evidence at a moment.

Rule: only a fresh answer counts. What is stale, from the future, or could not be asked is silence.
Rule: a bad answer is believed after `fall` in a row, and not where it is to be expected. The one
exception: a lost link confirmed `fall` times is all the confirmation that a vain connect needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from stackward.core.policy import Policy, Thresholds
from stackward.core.state import ProbeMemory, TargetState
from stackward.model.verdict import Failed, Passed, ProbeName, Sign, Source

SLOW_PROBES = frozenset({ProbeName.STORAGE, ProbeName.DISK, ProbeName.MANAGEMENT})

# Worth showing, but no sickness: nothing that a system VM serves has stopped.
ADVISORY_SIGNS = frozenset({Sign.MEMORY_LOW, Sign.CLOCK_SKEWED})

# Two clocks never agree to the second. What lies further ahead was made before our clock went back.
CLOCK_TOLERANCE = timedelta(seconds=5)

_END_OF_TIME = datetime.max.replace(tzinfo=UTC)

_BOOTING_SIGNS = frozenset(
    {
        Sign.AGENT_NOT_UP,
        Sign.DATABASE_AGENT_NOT_UP,
        Sign.UNIT_FAILED,
        Sign.UNIT_RESTARTING,
        Sign.UNIT_EXITED,
        Sign.UNIT_STOPPED,
        Sign.JVM_MISSING,
        Sign.LINK_DOWN,
        Sign.MANAGEMENT_UNREACHABLE,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One target's memory, read at one moment.

    `believed`: bad answers that stand. `doubted`: bad answers not yet, or expected, with the
    reason. `silent`: probes whose newest answer is stale or Unknown, with the reason.
    """

    passed: Mapping[ProbeName, ProbeMemory]
    believed: Mapping[Sign, ProbeMemory]
    doubted: Mapping[Sign, tuple[ProbeMemory, str]]
    silent: Mapping[ProbeName, str]

    def knows(self, source: Source) -> bool:
        """True when this source has given any fresh answer, good or bad."""
        return any(memory.source is source for memory in self.fresh())

    def fresh(self) -> tuple[ProbeMemory, ...]:
        """Every fresh answer that was not Unknown."""
        doubted = (memory for memory, _ in self.doubted.values())
        return (*self.passed.values(), *self.believed.values(), *doubted)

    def has_seen(self, sign: Sign) -> bool:
        """True for a sign believed or not: a contradiction needs no confirmation."""
        return sign in self.believed or sign in self.doubted


def read_evidence(state: TargetState, policy: Policy, now: datetime) -> Evidence:
    """Sort what is remembered into good, bad, doubtful and silent."""
    passed: dict[ProbeName, ProbeMemory] = {}
    believed: dict[Sign, ProbeMemory] = {}
    doubted: dict[Sign, tuple[ProbeMemory, str]] = {}
    silent: dict[ProbeName, str] = {}
    disabled, thresholds = policy.disabled_probes, policy.thresholds
    for probe, memory in state.probes.items():
        if probe in disabled:
            continue
        if is_stale(probe, memory.observed_at, thresholds, now):
            silent[probe] = "stale"
            continue
        match memory.verdict:
            case Passed():
                passed[probe] = memory
            case Failed(sign=sign):
                doubt = _doubt(sign, memory, state, thresholds, now)
                if doubt is None:
                    believed[sign] = memory
                else:
                    doubted[sign] = (memory, doubt)
            case unknown:
                silent[probe] = unknown.reason
    return Evidence(passed=passed, believed=believed, doubted=doubted, silent=silent)


def is_stale(
    probe: ProbeName, observed_at: datetime, thresholds: Thresholds, now: datetime
) -> bool:
    """True for an answer too old to count, and for one from a future that a clock took back."""
    age = now - observed_at
    return age > _lasts(probe, thresholds) or age < -CLOCK_TOLERANCE


def fresh_until(state: TargetState, policy: Policy) -> datetime:
    """The last moment at which no answer is too old; the end of time where there is no answer.

    Whoever is plainly well stays so until then, unless something is told: it has no bad answer that
    time alone could make believed or doubted.
    """
    disabled, thresholds = policy.disabled_probes, policy.thresholds
    until = _END_OF_TIME
    for probe, memory in state.probes.items():
        if probe not in disabled:
            until = min(until, memory.observed_at + _lasts(probe, thresholds))
    return until


def _lasts(probe: ProbeName, thresholds: Thresholds) -> timedelta:
    """How long an answer counts; also one that was Unknown: silence has its time too."""
    return thresholds.slow_stale_after if probe in SLOW_PROBES else thresholds.stale_after


def running_since(state: TargetState) -> datetime | None:
    """The latest birth of this VM that we know of: created, booted, or seen to change state."""
    moments = [moment for moment in (state.target.created_at, state.booted_at) if moment]
    if state.state_since > state.first_seen_at:
        moments.append(state.state_since)
    return max(moments, default=None)


def is_younger(state: TargetState, span: timedelta, now: datetime) -> bool:
    """True when the VM has run for less than `span`; False when nobody can tell."""
    since = running_since(state)
    return since is not None and now - since < span


def _doubt(
    sign: Sign, memory: ProbeMemory, state: TargetState, thresholds: Thresholds, now: datetime
) -> str | None:
    """Why a bad answer is not believed (yet); None when it is."""
    is_sure = sign is Sign.MANAGEMENT_UNREACHABLE and _is_link_lost(state, thresholds, now)
    if memory.failed_in_a_row < thresholds.fall and not is_sure:
        return f"{memory.failed_in_a_row} of {thresholds.fall} bad answers"
    if sign is Sign.VM_NOT_RUNNING:
        is_passing = now - state.state_since < thresholds.starting_warn_after
        return "CloudStack may still be at work on it" if is_passing else None
    if state.episode is not None:
        return None
    if sign is Sign.AGENT_ABSENT and is_younger(state, thresholds.agent_grace, now):
        return "the VM is young"
    if sign in _BOOTING_SIGNS and is_younger(state, thresholds.boot_grace, now):
        return "the VM has just booted"
    return None


def _is_link_lost(state: TargetState, thresholds: Thresholds, now: datetime) -> bool:
    """True when the agent's connection is known to be gone, `fall` times in a row."""
    link = state.probes.get(ProbeName.AGENT_LINK)
    known = link.last_known if link is not None else None
    if link is None or known is None or not isinstance(known.verdict, Failed):
        return False
    is_old = is_stale(ProbeName.AGENT_LINK, known.observed_at, thresholds, now)
    return link.failed_in_a_row >= thresholds.fall and not is_old
