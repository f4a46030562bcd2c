"""What has happened since the process started, counted; and the log lines of what is new.

The metrics read the totals. A hold or a call is logged and counted when it appears, not at each of
the rounds in which it stands.
"""

from collections import Counter
from dataclasses import dataclass, field, replace

from stackward.core.snapshot import Totals
from stackward.core.state import TargetState
from stackward.model.event import Event, SourceTold, StepBegun, StepFinished
from stackward.model.identity import TargetId
from stackward.model.plan import Plan
from stackward.ports import Log


@dataclass(slots=True)
class Tally:
    """Counters that only grow."""

    log: Log
    polls: Counter[str] = field(default_factory=Counter)
    poll_failures: Counter[str] = field(default_factory=Counter)
    steps_begun: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    escalations: Counter[str] = field(default_factory=Counter)
    _held_now: set[tuple[TargetId, str]] = field(default_factory=set)
    _called_now: set[tuple[object, str]] = field(default_factory=set)

    def note_event(self, event: Event, state: TargetState | None) -> None:
        """Count one event; `state` is its target after the event."""
        match event:
            case SourceTold():
                self.polls[event.source.value] += 1
                if not event.is_up:
                    self.poll_failures[event.source.value] += 1
            case StepBegun():
                action = state.last_action if state is not None else None
                self.steps_begun[action.value if action else "unknown"] += 1
            case StepFinished():
                self.outcomes[event.action.value, event.outcome.kind.value] += 1
            case _:
                pass

    def note_plan(self, plan: Plan) -> None:
        """Count and log what is new in a plan."""
        for hold in plan.holds:
            guard = hold.reason.guard.value
            if (hold.target_id, guard) in self._held_now:
                continue
            self.held[guard] += 1
            action = hold.action.value if hold.action else None
            self.log.info(
                "held", vm=hold.target_name, action=action, guard=guard, reason=hold.reason.text
            )
        self._held_now = {(hold.target_id, hold.reason.guard.value) for hold in plan.holds}
        for call in plan.escalations:
            if (call.subject, call.diagnosis.value) in self._called_now:
                continue
            self.escalations[call.diagnosis.value] += 1
            self.log.warning(
                "a person is needed",
                subject=call.subject_name,
                diagnosis=call.diagnosis.value,
                sentence=call.sentence,
                advice=call.advice,
            )
        self._called_now = {(call.subject, call.diagnosis.value) for call in plan.escalations}

    def totals(self, outside: Totals) -> Totals:
        """All totals; `outside` is what the other rooms have counted."""
        return replace(
            outside,
            polls={**outside.polls, **self.polls},
            poll_failures={**outside.poll_failures, **self.poll_failures},
            steps_begun=dict(self.steps_begun),
            outcomes=dict(self.outcomes),
            held=dict(self.held),
            escalations=dict(self.escalations),
        )
