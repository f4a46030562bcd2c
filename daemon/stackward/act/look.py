"""Asks again right before acting: CloudStack first, then the VM. The judgement is in recheck.py."""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from stackward.act.recheck import (
    Fit,
    NotYet,
    Unfit,
    judge_cloud,
    judge_facts,
    judge_permission,
)
from stackward.act.tools import Tools
from stackward.catalog.action import Action
from stackward.errors import TransportError
from stackward.model.plan import Step
from stackward.model.target import HypervisorHost, Target
from stackward.ports import Clock


@dataclass(frozen=True, slots=True)
class StillSo:
    """Looked at again, and it is as the step says. `target` and `host` as they are right now.

    `looked_at` and `looked_at_monotonic` say when CloudStack was asked, on both clocks.
    """

    fit: Fit
    target: Target
    host: HypervisorHost | None
    looked_at: datetime
    looked_at_monotonic: float

    def age(self, clock: Clock) -> float:
        """Seconds since the look.

        A process that was stopped or a machine that slept looked long ago, whichever clock noticed.
        """
        by_wall = (clock.now() - self.looked_at).total_seconds()
        return max(by_wall, clock.monotonic() - self.looked_at_monotonic)


async def look_again(tools: Tools, step: Step, action: Action) -> StillSo | Unfit:
    """One fresh look from each side. What cannot be asked is a reason not to act."""
    unfit = judge_permission(step, action, tools.snapshots.latest())
    if unfit is not None:
        return unfit
    first = await _look_at_cloud(tools, step)
    if isinstance(first, Unfit):
        return first
    fit = await _ask_until_fresh(tools, step, first.target, first.host)
    if not isinstance(fit, Fit):
        return fit
    if first.age(tools.clock) <= tools.settings.cloud_look_age_max:
        return replace(first, fit=fit)
    # Waiting for facts took its time: a job, a migration or a maintenance may have begun meanwhile.
    again = await _look_at_cloud(tools, step)
    if isinstance(again, Unfit):
        return again
    if _way(again) != _way(first):
        return Unfit("changed: the VM has moved while it was looked at")
    return replace(again, fit=fit)


async def _look_at_cloud(tools: Tools, step: Step) -> StillSo | Unfit:
    """What CloudStack says; the facts from inside are still to come."""
    looked_at, looked_at_monotonic = tools.clock.now(), tools.clock.monotonic()
    try:
        async with asyncio.timeout(tools.settings.cloud_look):
            look = await tools.api.look(step.target_id)
    except (TransportError, TimeoutError) as trouble:
        return Unfit(f"cannot tell: CloudStack could not be asked: {_said(trouble)}")
    unfit = judge_cloud(look, step)
    if unfit is not None:
        return unfit
    assert look.target is not None  # judge_cloud has seen to it
    return StillSo(
        fit=Fit(step.marks, ()),
        target=look.target,
        host=look.host,
        looked_at=looked_at,
        looked_at_monotonic=looked_at_monotonic,
    )


def _way(look: StillSo) -> tuple[object, ...]:
    host = look.host
    return (look.target.host_id, look.target.control_address, host.address if host else None)


async def _ask_until_fresh(
    tools: Tools, step: Step, target: Target, host: HypervisorHost | None
) -> Fit | Unfit:
    """Ask until the facts that count are young enough, or time is up."""
    settings = tools.settings
    not_before = tools.clock.now() - timedelta(seconds=settings.facts_age_max)
    until = tools.clock.monotonic() + settings.facts_within
    while True:
        judged = await _ask(tools, step, target, host, not_before)
        if not isinstance(judged, NotYet):
            return judged
        if tools.clock.monotonic() + settings.ask_every > until:
            return Unfit(f"cannot tell: {judged.reason}")
        await tools.clock.sleep(settings.ask_every)


async def _ask(
    tools: Tools, step: Step, target: Target, host: HypervisorHost | None, not_before: datetime
) -> Fit | Unfit | NotYet:
    timeout = tools.settings.ask
    try:
        async with asyncio.timeout(timeout + 5.0):  # the port ends by itself; this is the belt
            block = await tools.guests.ask(target, host, next(tools.ticks), timeout=timeout)
    except (TransportError, TimeoutError) as trouble:
        return Unfit(f"cannot tell: the VM could not be asked: {_said(trouble)}")
    observations, marks, _ = tools.read_facts(block, target)
    return judge_facts(step, observations, marks, not_before)


def _said(trouble: Exception) -> str:
    return str(trouble) or "no answer in time"
