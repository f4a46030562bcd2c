"""What became of a request: find it, wait for it, prove its effect. Nothing is ever sent here.

The executor comes here right after sending, recovery after a restart; it is the same way.
"""

import asyncio
from datetime import datetime, timedelta
from typing import assert_never

from stackward.act.errand import Errand, note_accepted
from stackward.act.proof import Proof, weigh
from stackward.act.sending import Accepted, MaybeSent, Sent, Taken
from stackward.act.tools import Tools
from stackward.catalog.action import Means
from stackward.catalog.actions.reboot_system_vm import is_reboot_job
from stackward.core.snapshot import Snapshot
from stackward.errors import TransportError
from stackward.model.identity import JobId
from stackward.model.outcome import Outcome, OutcomeKind
from stackward.ports import JobReply, JobStatus


async def follow(tools: Tools, errand: Errand, sent: Sent) -> Outcome:
    """See an errand through to its outcome. Takes a few times `verify_within` at most."""
    match sent:
        case Taken():
            await _settle(tools, errand)
            proof = await _wait_for_proof(tools, errand, _time_left(tools, errand))
            return _outcome(proof, OutcomeKind.FAILED, "it was done, and there is no proof")
        case Accepted(job_id):
            return await _follow_job(tools, errand, job_id)
        case MaybeSent(reason):
            return await _look_for(tools, errand, reason)
        case _:
            assert_never(sent)


async def _look_for(tools: Tools, errand: Errand, reason: str) -> Outcome:
    """It may have been sent. Found: go on from there. Not found, not proved: nobody knows."""
    if errand.action.means is Means.API:
        job_id = await _search(tools, errand)
        if job_id is not None:
            await note_accepted(tools, errand, job_id)
            return await _follow_job(tools, errand, job_id)
    proof = await _wait_for_proof(tools, errand, _time_left(tools, errand))
    if proof.is_new_life:
        return _outcome(proof, OutcomeKind.FAILED, f"it was done after all ({reason})")
    return _outcome(proof, OutcomeKind.UNKNOWN, f"it may have been sent ({reason})")


# --- jobs


async def _follow_job(tools: Tools, errand: Errand, job_id: JobId) -> Outcome:
    job = await _wait_for_job(tools, errand, job_id)
    if job is None or job.status is JobStatus.PENDING:
        proof = await _wait_for_proof(tools, errand, timedelta(0))
        return _outcome(proof, OutcomeKind.UNKNOWN, f"job {job_id} did not end in time")
    await _settle(tools, errand)
    window = max(errand.verify_within, timedelta(seconds=tools.settings.failed_job_look))
    match job.status:
        case JobStatus.SUCCEEDED:
            proof = await _wait_for_proof(tools, errand, window)
            return _outcome(proof, OutcomeKind.FAILED, f"job {job_id} succeeded, which is no proof")
        case JobStatus.FORGOTTEN:
            proof = await _wait_for_proof(tools, errand, window)
            return _outcome(proof, OutcomeKind.UNKNOWN, f"CloudStack knows job {job_id} no more")
        case JobStatus.FAILED | JobStatus.CANCELLED:
            return await _judge_failed_job(tools, errand, job, window)


async def _judge_failed_job(
    tools: Tools, errand: Errand, job: JobReply, window: timedelta
) -> Outcome:
    """A job is marked failed when its management server restarts: the VM may have rebooted."""
    text = f"job {job.job_id} {job.status}: {job.detail}"
    look = timedelta(seconds=tools.settings.failed_job_look)
    if not await _has_new_life(tools, errand, look):
        return Outcome(OutcomeKind.FAILED, text)
    return _outcome(await _wait_for_proof(tools, errand, window), OutcomeKind.FAILED, text)


async def _wait_for_job(tools: Tools, errand: Errand, job_id: JobId) -> JobReply | None:
    """Poll until the job has ended or time is up. None: it was never told."""
    until = tools.clock.monotonic() + _time_left(tools, errand).total_seconds()
    job: JobReply | None = None
    while True:
        job = await _ask_job(tools, job_id) or job
        if job is not None and job.status is not JobStatus.PENDING:
            return job
        if tools.clock.monotonic() >= until:
            return job
        await tools.clock.sleep(tools.settings.job_poll_every)


async def _ask_job(tools: Tools, job_id: JobId) -> JobReply | None:
    try:
        async with asyncio.timeout(tools.settings.job_ask):
            return await tools.api.job(job_id)
    except (TransportError, TimeoutError) as trouble:
        tools.log.debug("job not told", job=job_id, reason=str(trouble))
        return None


async def _search(tools: Tools, errand: Errand) -> JobId | None:
    """Look for our job until a look made after the request can still arrive has not found it.

    While CloudStack does not answer, the search goes on until there is no time left to verify.
    """
    slack = timedelta(seconds=tools.settings.arrival_slack)
    give_up = tools.clock.monotonic() + _time_left(tools, errand).total_seconds()
    arrived_by = min(errand.begun_at, tools.clock.now()) + errand.action.deadline + slack
    while True:
        is_late_enough = tools.clock.now() > arrived_by
        try:
            async with asyncio.timeout(tools.settings.cloud_look):
                job_id = await _find_job(tools, errand)
        except (TransportError, TimeoutError) as trouble:
            tools.log.debug("jobs not told", intent=errand.intent_id, reason=str(trouble))
            job_id, is_late_enough = None, False
        if job_id is not None or is_late_enough or tools.clock.monotonic() >= give_up:
            return job_id
        await tools.clock.sleep(tools.settings.search_every)


async def _find_job(tools: Tools, errand: Errand) -> JobId | None:
    """The newest reboot job of this VM since the request; on the VM itself, or in the list."""
    since = errand.begun_at - timedelta(seconds=tools.settings.clock_slack)
    found = [
        job
        for job in await tools.api.jobs_since(since)
        if job.target_id == errand.target_id
        and is_reboot_job(job.command)
        and _is_recent(job, since)
    ]
    if found:
        return max(found, key=lambda job: job.created_at or since).job_id
    target = (await tools.api.look(errand.target_id)).target
    if target is None or target.job_id is None:
        return None
    job = await tools.api.job(target.job_id)
    return job.job_id if is_reboot_job(job.command) else None


def _is_recent(job: JobReply, since: datetime) -> bool:
    """A job without a readable birth counts while it is pending: then it cannot be old."""
    if job.created_at is None:
        return job.status is JobStatus.PENDING
    return job.created_at >= since


# --- proof


async def _settle(tools: Tools, errand: Errand) -> None:
    await tools.clock.sleep(errand.action.settle.total_seconds())


def _time_left(tools: Tools, errand: Errand) -> timedelta:
    """Until `verify_within` after the request; after a restart at least `recovery_look` from now.

    Never more than the whole: a wall clock that was set back must not make it wait for days.
    """
    left = errand.begun_at + errand.verify_within - tools.clock.now()
    left = max(timedelta(0), min(left, errand.verify_within))
    if errand.is_resumed:
        left = max(left, timedelta(seconds=tools.settings.recovery_look))
    return left


async def _wait_for_proof(tools: Tools, errand: Errand, window: timedelta) -> Proof:
    """The first complete proof, or the last incomplete one when time is up."""
    until = tools.clock.monotonic() + window.total_seconds()
    snapshot = tools.snapshots.latest()
    while True:
        proof = weigh(errand, snapshot)
        left = until - tools.clock.monotonic()
        if proof.is_complete or left <= 0:
            return proof
        snapshot = await _newer(tools, snapshot, left)


async def _has_new_life(tools: Tools, errand: Errand, window: timedelta) -> bool:
    until = tools.clock.monotonic() + window.total_seconds()
    snapshot = tools.snapshots.latest()
    while True:
        if weigh(errand, snapshot).is_new_life:
            return True
        left = until - tools.clock.monotonic()
        if left <= 0:
            return False
        snapshot = await _newer(tools, snapshot, left)


async def _newer(tools: Tools, snapshot: Snapshot | None, left: float) -> Snapshot | None:
    """A newer picture, or the same one when none comes in time."""
    try:
        async with asyncio.timeout(left):
            return await tools.snapshots.next_after(
                -1 if snapshot is None else snapshot.round_number
            )
    except TimeoutError:
        return snapshot


def _outcome(proof: Proof, otherwise: OutcomeKind, why: str) -> Outcome:
    if proof.is_complete:
        return Outcome(OutcomeKind.SUCCEEDED, "; ".join(proof.seen))
    seen = f"; seen: {'; '.join(proof.seen)}" if proof.seen else ""
    return Outcome(otherwise, f"{why}; missing: {'; '.join(proof.missing)}{seen}")
