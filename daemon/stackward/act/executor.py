"""Runs one step: the protocol, as straight-line code.

INTENT, lease, look again, BEGUN, send once, settle, prove, OUTCOME. A containment wall stands
round all but the first and the last: what crashes after BEGUN may have been sent.
"""

from dataclasses import dataclass

from stackward.act.errand import (
    Errand,
    conclude,
    intent_of,
    note_accepted,
    tell,
    write,
    write_begun,
)
from stackward.act.follow import follow
from stackward.act.look import StillSo, look_again
from stackward.act.recheck import Unfit, judge_permission
from stackward.act.sending import Accepted, NotSent, send
from stackward.act.tools import Tools
from stackward.catalog.actions import ACTIONS
from stackward.errors import JournalError
from stackward.model.entry import Entry
from stackward.model.event import StepBegun, StepStarted
from stackward.model.identity import IntentId
from stackward.model.outcome import Outcome, OutcomeKind
from stackward.model.plan import Mode, Step


@dataclass(slots=True)
class _Progress:
    """How far it came, for the wall: has anything possibly left this machine?"""

    may_have_left: bool = False


class Executor:
    """Carries out steps, each in the task of its caller; any number at a time."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def run(self, step: Step, intent_id: IntentId) -> Outcome:
        """One step from intent to outcome. Cancellation leaves the intent open."""
        tools = self._tools
        intent = intent_of(step, intent_id, tools.clock.now())
        try:
            await write(tools, intent)
        except JournalError as error:
            tools.log.warning("intent not journalled", vm=step.target_name, reason=str(error))
            outcome = _withdrawn(f"the intent could not be journalled: {error}")
            tell(tools, intent, outcome)
            return outcome
        tools.sink.put(
            StepStarted(
                target_id=step.target_id,
                intent_id=intent_id,
                action=step.action,
                episode_id=step.episode_id,
                at=intent.at,
            )
        )
        zone_id = step.zone_id if step.is_disruptive else None
        with tools.leases.lease(step.target_id, zone_id) as taken_by:
            outcome = _withdrawn(taken_by) if taken_by else await self._behind_wall(step, intent)
            return await conclude(tools, intent, outcome)

    async def _behind_wall(self, step: Step, intent: Entry) -> Outcome:
        progress = _Progress()
        try:
            return await self._carry_out(step, intent, progress)
        except Exception as crash:  # the wall round one step
            self._tools.count_crash("step")
            self._tools.log.exception("step crashed", vm=step.target_name, intent=intent.intent_id)
            text = f"crashed: {type(crash).__name__}: {crash}"
            kind = OutcomeKind.UNKNOWN if progress.may_have_left else OutcomeKind.WITHDRAWN
            return Outcome(kind, text)

    async def _carry_out(self, step: Step, intent: Entry, progress: _Progress) -> Outcome:
        tools = self._tools
        look = await look_again(tools, step, ACTIONS[step.action])
        if isinstance(look, Unfit):
            return _withdrawn(look.reason)
        if step.mode is not Mode.ACT:
            return Outcome(OutcomeKind.WOULD_HAVE, "; ".join(look.fit.evidence))
        if pause := tools.pause.read():
            return _withdrawn(f"paused by {pause.by}: {pause.reason}")
        errand = _errand(step, intent, look, self._tools)
        try:
            await write_begun(tools, errand, look.fit.evidence)
        except JournalError as error:
            return _withdrawn(f"it could not be journalled, so nothing was sent: {error}")
        tools.sink.put(
            StepBegun(target_id=errand.target_id, intent_id=errand.intent_id, at=errand.begun_at)
        )
        tools.log.info("step begun", vm=step.target_name, action=step.action.value)
        if unfit := _too_late(tools, step, look):
            return _withdrawn(unfit.reason)
        progress.may_have_left = True
        sent = await send(tools, errand, look.target, look.host)
        if isinstance(sent, NotSent):
            return _withdrawn(sent.reason)
        if isinstance(sent, Accepted):
            await note_accepted(tools, errand, sent.job_id)
        return await follow(tools, errand, sent)


def _too_late(tools: Tools, step: Step, look: StillSo) -> Unfit | None:
    """The last glance: writing takes time, and a person or a stop may have been quicker."""
    if pause := tools.pause.read():
        return Unfit(f"paused by {pause.by}: {pause.reason}")
    age = look.age(tools.clock)
    if age > tools.settings.look_age_max:
        return Unfit(f"the look is {age:.0f} s old: the daemon was held up")
    return judge_permission(step, ACTIONS[step.action], tools.snapshots.latest())


def _errand(step: Step, intent: Entry, look: StillSo, tools: Tools) -> Errand:
    assert intent.intent_id is not None
    return Errand(
        intent=intent,
        intent_id=intent.intent_id,
        target_id=step.target_id,
        action=ACTIONS[step.action],
        marks=look.fit.marks,
        log_position=step.log_position,
        verify_within=step.verify_within,
        begun_at=tools.clock.now(),
        before=look.target,
    )


def _withdrawn(reason: str) -> Outcome:
    return Outcome(OutcomeKind.WITHDRAWN, reason)
