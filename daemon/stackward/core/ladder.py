"""Which rung is next, given what was tried in this episode; and which actions disturb a VM.

A ladder only goes up within one episode, and ends with a person.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from stackward.core.policy import Rule, Rung
from stackward.core.state import ATTEMPTS_KEPT, Attempt, Episode
from stackward.model.outcome import OutcomeKind
from stackward.model.plan import ActionName

# Both end what the VM serves at that moment, should it serve after all. Both count as disruptive.
DISRUPTIVE: frozenset[ActionName] = frozenset(ActionName)

# What the daemon must be allowed to call before it may begin: also what tells it later whether the
# request arrived. A restart of the agent needs no call.
API_COMMANDS: Mapping[ActionName, frozenset[str]] = {
    ActionName.RESTART_AGENT: frozenset(),
    ActionName.REBOOT_SYSTEM_VM: frozenset(
        {"rebootSystemVm", "listAsyncJobs", "queryAsyncJobResult"}
    ),
}

# Needs two independent kinds of evidence: it ends everything in the VM, not the agent alone.
DRASTIC: frozenset[ActionName] = frozenset({ActionName.REBOOT_SYSTEM_VM})


@dataclass(frozen=True, slots=True)
class NextRung:
    """The rung to stand on now; `attempt` counts from 1 on each rung."""

    number: int
    rung: Rung
    attempt: int


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Everything that the rule allows was tried."""

    tried: tuple[ActionName, ...]


def counted(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """The attempts that use up a rung: all but those of which it is certain that nothing left."""
    idle = (OutcomeKind.WITHDRAWN, OutcomeKind.WOULD_HAVE)
    return tuple(attempt for attempt in attempts if attempt.outcome not in idle)


def next_rung(rule: Rule, episode: Episode) -> NextRung | Exhausted:
    """Walk the attempts up the ladder. What is not on it uses up the rung it was made on."""
    attempts = counted(episode.attempts)
    actions = tuple(attempt.action for attempt in attempts)
    ladder = rule.ladder
    number, used = 0, 0
    for action in actions:
        number, used = _settle(ladder, number, used)
        above = [n for n in range(number, len(ladder)) if ladder[n].action is action]
        if above and above[0] != number:
            number, used = above[0], 1
        else:
            used += 1
    number, used = _settle(ladder, number, used)
    if number >= len(ladder) or len(episode.attempts) >= ATTEMPTS_KEPT:
        return Exhausted(actions)
    return NextRung(number, ladder[number], used + 1)


def _settle(ladder: tuple[Rung, ...], number: int, used: int) -> tuple[int, int]:
    """Step up from a rung that is used up."""
    if number < len(ladder) and used >= ladder[number].attempts_max:
        return number + 1, 0
    return number, used
