"""Open intents after a restart: each is looked at before anything new is done to its target.

Nothing is sent here, ever. Observers must be running: the proof comes from the published picture.
"""

import asyncio
from collections.abc import Sequence

from stackward.act.errand import Errand, conclude, resumed
from stackward.act.follow import follow
from stackward.act.sending import Accepted, MaybeSent, Sent
from stackward.act.tools import Tools
from stackward.model.entry import OpenIntent
from stackward.model.outcome import Outcome, OutcomeKind


async def recover(open_intents: Sequence[OpenIntent], tools: Tools) -> None:
    """Bring every open intent to its outcome. Cancellation leaves the rest open."""
    async with asyncio.TaskGroup() as group:
        for found in open_intents:
            group.create_task(_recover_one(found, tools))


async def _recover_one(found: OpenIntent, tools: Tools) -> None:
    intent = found.intent
    tools.log.warning("open intent found", vm=intent.target_name, intent=intent.intent_id)
    if found.begun is None and found.accepted is None:
        outcome = Outcome(OutcomeKind.WITHDRAWN, "the daemon stopped before; nothing was sent")
        await conclude(tools, intent, outcome)
        return
    errand = resumed(found)
    if errand is None:
        outcome = Outcome(OutcomeKind.UNKNOWN, "its row does not say to what it was done")
        await conclude(tools, intent, outcome)
        return
    with tools.leases.lease(errand.target_id, None):
        await conclude(tools, intent, await _behind_wall(tools, errand, _sent(found)))


def _sent(found: OpenIntent) -> Sent:
    """What the journal says of the request. It never says that it was not sent."""
    if found.accepted is not None and found.accepted.job_id is not None:
        return Accepted(found.accepted.job_id)
    return MaybeSent("the daemon stopped before it knew")


async def _behind_wall(tools: Tools, errand: Errand, sent: Sent) -> Outcome:
    try:
        return await follow(tools, errand, sent)
    except Exception as crash:  # the wall round one step
        tools.count_crash("step")
        tools.log.exception("recovery crashed", intent=errand.intent_id)
        return Outcome(OutcomeKind.UNKNOWN, f"crashed: {type(crash).__name__}: {crash}")
