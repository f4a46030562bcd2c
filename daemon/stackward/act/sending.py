"""The one moment at which the world is changed: one request, once, under a deadline.

No retry here, and none above. Four answers: surely not sent, taken, taken as a job, or perhaps.
"""

import asyncio
from dataclasses import dataclass
from typing import assert_never

from stackward.act.errand import Errand
from stackward.act.tools import Tools
from stackward.catalog.action import Changed, Declined, Done, Means, Unclear
from stackward.catalog.actions.restart_agent import read_restart_reply, restart_command
from stackward.errors import RefusalKind, Refused, TransportError
from stackward.model.identity import JobId
from stackward.model.target import HypervisorHost, Target

REPLY_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class NotSent:
    """Surely nothing was done."""

    reason: str


@dataclass(frozen=True, slots=True)
class Taken:
    """It will happen."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """CloudStack does it as this job."""

    job_id: JobId


@dataclass(frozen=True, slots=True)
class MaybeSent:
    """It may have been sent: look for it, never send it again."""

    reason: str


Sent = Taken | Accepted | MaybeSent

# Refusals that come before a job is made (ApiServer.java, ApiDispatcher.java). An internal error
# may come after.
_BEFORE_THE_JOB = frozenset(
    {
        RefusalKind.CREDENTIALS,
        RefusalKind.PARAMETER,
        RefusalKind.GONE,
        RefusalKind.NOT_ALLOWED,
        RefusalKind.THROTTLED,
        RefusalKind.STANDING_DOWN,
        RefusalKind.HOST_KEY,
        RefusalKind.AUTHENTICATION,
    }
)


async def send(
    tools: Tools, errand: Errand, target: Target, host: HypervisorHost | None
) -> Sent | NotSent:
    """Send the errand's request. Its BEGUN row is on disk."""
    try:
        async with asyncio.timeout(errand.action.deadline.total_seconds()):
            match errand.action.means:
                case Means.SSH:
                    return await _send_over_ssh(tools, errand, target, host)
                case Means.API:
                    return Accepted(await tools.api.reboot_system_vm(errand.target_id))
    except TimeoutError:
        return MaybeSent("no answer within the deadline")
    except Refused as refused:
        if refused.kind in _BEFORE_THE_JOB or not refused.maybe_sent:
            return NotSent(f"refused: {refused}")
        return MaybeSent(f"refused: {refused}")
    except TransportError as trouble:
        return MaybeSent(str(trouble)) if trouble.maybe_sent else NotSent(str(trouble))


async def _send_over_ssh(
    tools: Tools, errand: Errand, target: Target, host: HypervisorHost | None
) -> Sent | NotSent:
    try:
        command = restart_command(errand.marks.invocation_id)
    except ValueError as error:
        return NotSent(str(error))
    reply = await tools.guests.run(
        target,
        host,
        command,
        timeout=errand.action.deadline.total_seconds(),
        output_bytes_max=REPLY_BYTES_MAX,
    )
    reading = read_restart_reply(reply)
    match reading:
        case Done():
            return Taken()
        case Changed(found):
            return NotSent(f"changed: the unit is now {found}")
        case Declined(reason):
            return NotSent(f"declined: {reason}")
        case Unclear(reason):
            return MaybeSent(reason)
        case _:
            assert_never(reading)
