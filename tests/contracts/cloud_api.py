"""What everything behind `ports.CloudApi` keeps, be it a fake or the real client.

Each claim is a coroutine function over a stage; those who own a subject run them all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from stackward.model.identity import JobId, TargetId
from stackward.ports import Clock, CloudApi, JobReply, JobStatus, Look

NOWHERE = Look(target=None, zone=None, host=None)
JOB_SECONDS_MAX = 60.0


@dataclass(frozen=True)
class Stage:
    """A subject with a VM that runs on a host; `destroy` takes a VM out of its world."""

    api: CloudApi
    clock: Clock
    target_id: TargetId
    destroy: Callable[[TargetId], None]


async def ended(stage: Stage, job_id: JobId) -> JobReply:
    """The job's reply once it is no longer pending."""
    for _ in range(int(JOB_SECONDS_MAX / 0.2)):
        reply = await stage.api.job(job_id)
        if reply.status is not JobStatus.PENDING:
            return reply
        await stage.clock.sleep(0.2)
    raise AssertionError(f"{job_id} does not end")


async def a_vm_is_seen_with_its_zone_and_its_host(stage: Stage) -> None:
    seen = await stage.api.look(stage.target_id)
    assert seen.target is not None
    assert seen.target.id == stage.target_id
    assert seen.target.is_running
    assert seen.zone is not None
    assert seen.zone.id == seen.target.zone_id
    assert seen.host is not None
    assert seen.host.id == seen.target.host_id


async def a_vm_that_nobody_knows_is_seen_nowhere(stage: Stage) -> None:
    assert await stage.api.look(TargetId("no-such-vm")) == NOWHERE


async def a_vm_that_is_gone_is_seen_nowhere(stage: Stage) -> None:
    stage.destroy(stage.target_id)
    assert await stage.api.look(stage.target_id) == NOWHERE


async def a_reboot_is_a_job_that_ends(stage: Stage) -> None:
    job_id = await stage.api.reboot_system_vm(stage.target_id)
    reply = await ended(stage, job_id)
    assert reply.job_id == job_id
    assert reply.status is JobStatus.SUCCEEDED


async def a_reboot_is_found_again_among_the_jobs_since(stage: Stage) -> None:
    before = stage.clock.now()
    job_id = await stage.api.reboot_system_vm(stage.target_id)
    found = {job.job_id: job for job in await stage.api.jobs_since(before.replace(microsecond=0))}
    assert found[job_id].target_id == stage.target_id
    assert found[job_id].command.rsplit(".", 1)[-1] == "RebootSystemVmCmd"
    created_at = found[job_id].created_at
    assert created_at is not None
    assert created_at.microsecond == 0
    await ended(stage, job_id)


async def jobs_from_before_are_not_told(stage: Stage) -> None:
    job_id = await stage.api.reboot_system_vm(stage.target_id)
    await ended(stage, job_id)
    assert await stage.api.jobs_since(stage.clock.now() + timedelta(minutes=5)) == ()


async def a_job_that_nobody_knows_is_forgotten(stage: Stage) -> None:
    reply = await stage.api.job(JobId("no-such-job"))
    assert reply.job_id == JobId("no-such-job")
    assert reply.status is JobStatus.FORGOTTEN


CLAIMS = (
    a_vm_is_seen_with_its_zone_and_its_host,
    a_vm_that_nobody_knows_is_seen_nowhere,
    a_vm_that_is_gone_is_seen_nowhere,
    a_reboot_is_a_job_that_ends,
    a_reboot_is_found_again_among_the_jobs_since,
    jobs_from_before_are_not_told,
    a_job_that_nobody_knows_is_forgotten,
)
