"""One intent on its way: what the journal has of it, and the rows it adds.

The executor makes an errand from a step, recovery from the journal; from BEGUN on both go the same
way. Entries are made here alone, and written here with their two manners: an intent that cannot be
written stops everything, an outcome is written again until it is there.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from stackward.act.tools import Tools
from stackward.catalog.action import Action
from stackward.catalog.actions import ACTIONS
from stackward.errors import JournalError
from stackward.model.entry import Entry, EntryKind, OpenIntent
from stackward.model.event import StepFinished
from stackward.model.guest import GuestMarks, LogPosition
from stackward.model.identity import IntentId, JobId, TargetId
from stackward.model.outcome import Outcome, OutcomeKind
from stackward.model.plan import Step
from stackward.model.target import AgentState, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """An intent and what is needed to see it through.

    `marks` are those of the life that the request was meant for. `before` is the VM as CloudStack
    told it right before the request; None after a restart. `is_resumed`: the daemon has restarted
    since, so lines of the log may have been read by its earlier life.
    """

    intent: Entry
    intent_id: IntentId
    target_id: TargetId
    action: Action
    marks: GuestMarks
    log_position: LogPosition | None
    verify_within: timedelta
    begun_at: datetime
    before: Target | None = None
    is_resumed: bool = False

    @property
    def was_seen_down(self) -> bool:
        """True when CloudStack did not call the agent Up right before the request."""
        unsure = (AgentState.UP, AgentState.NOT_TOLD, AgentState.UNRECOGNISED)
        return self.before is not None and self.before.agent_state not in unsure


def intent_of(step: Step, intent_id: IntentId, now: datetime) -> Entry:
    """The INTENT row of a step."""
    return Entry(
        kind=EntryKind.INTENT,
        at=now,
        text=step.explanation,
        target_id=step.target_id,
        target_name=step.target_name,
        zone_id=step.zone_id,
        intent_id=intent_id,
        episode_id=step.episode_id,
        action=step.action,
        diagnosis=step.diagnosis.code,
        rule=step.rule,
        rung=step.rung,
        attempt=step.attempt,
        marks=step.marks,
        log_position=step.log_position,
        verify_within_seconds=step.verify_within.total_seconds(),
        evidence=step.diagnosis.evidence,
    )


def resumed(found: OpenIntent) -> Errand | None:
    """The errand of an intent found in the journal; None: its row lacks what is needed."""
    intent, begun = found.intent, found.begun or found.accepted
    if intent.intent_id is None or intent.target_id is None or intent.action is None:
        return None
    at_last = begun or intent
    return Errand(
        intent=intent,
        intent_id=intent.intent_id,
        target_id=intent.target_id,
        action=ACTIONS[intent.action],
        marks=at_last.marks or intent.marks or GuestMarks(),
        log_position=intent.log_position,
        verify_within=timedelta(seconds=intent.verify_within_seconds or 0.0),
        begun_at=at_last.at,
        is_resumed=True,
    )


async def write(tools: Tools, entry: Entry) -> None:
    """On disk, or JournalError."""
    redacted = replace(
        entry,
        text=tools.redact(entry.text),
        evidence=tuple(tools.redact(line) for line in entry.evidence),
    )
    try:
        async with asyncio.timeout(tools.settings.journal_write):
            await tools.journal.append(redacted)
    except TimeoutError as error:
        raise JournalError("the journal did not answer in time") from error


async def write_begun(tools: Tools, errand: Errand, evidence: tuple[str, ...]) -> None:
    """The row that must be on disk before anything is sent. Raises JournalError."""
    text = f"{errand.action.name} is about to be sent, once"
    await write(tools, _row(errand, EntryKind.BEGUN, errand.begun_at, text, evidence=evidence))


async def note_accepted(tools: Tools, errand: Errand, job_id: JobId) -> None:
    """Note the job. Without the row a restart has to search for it: a pity, and no more."""
    text = f"CloudStack took it as job {job_id}"
    entry = _row(errand, EntryKind.ACCEPTED, tools.clock.now(), text, job_id=job_id)
    try:
        await write(tools, entry)
    except JournalError as error:
        tools.log.warning("job not journalled", intent=errand.intent_id, reason=str(error))


async def conclude(tools: Tools, intent: Entry, outcome: Outcome) -> Outcome:
    """Journal the outcome, however long that takes, then tell it. Returns it, redacted."""
    outcome = Outcome(outcome.kind, tools.redact(outcome.reason))
    is_advice = outcome.kind is OutcomeKind.WOULD_HAVE
    entry = replace(
        intent,
        kind=EntryKind.WOULD_HAVE if is_advice else EntryKind.OUTCOME,
        at=tools.clock.now(),
        text=f"{outcome.kind}: {outcome.reason}",
        outcome=outcome,
        evidence=(),
    )
    await _write_until_written(tools, entry)
    tools.log.info(
        "step finished",
        vm=intent.target_name,
        intent=intent.intent_id,
        action=intent.action,
        outcome=outcome.kind.value,
        reason=outcome.reason,
    )
    tell(tools, intent, outcome)
    return outcome


def tell(tools: Tools, intent: Entry, outcome: Outcome) -> None:
    """The outcome is an event like any other."""
    if intent.target_id is None or intent.intent_id is None or intent.action is None:
        return  # a row of the journal that does not say whose outcome this is
    tools.sink.put(
        StepFinished(
            target_id=intent.target_id,
            intent_id=intent.intent_id,
            action=intent.action,
            outcome=outcome,
            at=tools.clock.now(),
        )
    )


async def _write_until_written(tools: Tools, entry: Entry) -> None:
    """Until then the step counts as under way, and nothing else is done to its target."""
    was_told = False
    while True:
        try:
            await write(tools, entry)
        except JournalError as error:
            if not was_told:
                tools.log.warning(
                    "outcome not journalled", intent=entry.intent_id, reason=str(error)
                )
                was_told = True
            await tools.clock.sleep(tools.settings.journal_retry)
        else:
            return


def _row(
    errand: Errand,
    kind: EntryKind,
    at: datetime,
    text: str,
    *,
    job_id: JobId | None = None,
    evidence: tuple[str, ...] = (),
) -> Entry:
    return replace(
        errand.intent,
        kind=kind,
        at=at,
        text=text,
        marks=errand.marks,
        job_id=job_id,
        evidence=evidence,
    )
