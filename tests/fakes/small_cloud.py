"""One system VM in one zone, on the loop's time, with a ledger of all that was done to it.

It stands behind the ports CloudApi, Guests and SnapshotSource. It is small and does what counts:
compare and act, jobs that succeed without a reboot, requests that arrive late, replies that are
lost. Everything takes time, and everything that was asked for happens whoever has died meanwhile.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from stackward.core.snapshot import Snapshot, Totals
from stackward.core.state import LogMemory, ProbeMemory, TargetState
from stackward.model.entry import EntryKind
from stackward.model.guest import (
    CommandReply,
    FactBlock,
    GuestMarks,
    GuestReadings,
    LogPosition,
)
from stackward.model.identity import JobId, TargetId
from stackward.model.plan import Plan
from stackward.model.target import AgentState, Capabilities, HypervisorHost, Inventory, Target
from stackward.model.verdict import Failed, Observation, Passed, ProbeName, Sign, Source, Verdict
from stackward.ports import JobReply, JobStatus, Look
from tests.builders import HOST, ZONE, a_fleet, a_policy, a_position, a_state, a_target, ages_of
from tests.fakes.clock import LoopClock
from tests.fakes.journal import MemoryJournal

REBOOT_CLASS = "org.apache.cloudstack.api.command.admin.systemvm.RebootSystemVmCmd"
TARGET = a_target("v-2-VM", agent_state=AgentState.ALERT)
STATE = a_state(target=TARGET)
FLEET = a_fleet()
POLICY = a_policy()
ROUND_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request that arrived. `begun_before`: how many BEGUN rows there were when it left.

    `has_effect` False: it compared, found another life, and did nothing.
    """

    what: str
    left_at: datetime
    begun_before: int
    has_effect: bool = True


@dataclass(slots=True)
class Job:
    """An async job of the cloud."""

    id: JobId
    created_at: datetime
    ends_at: datetime
    ends_as: JobStatus
    detail: str = ""


@dataclass(slots=True)
class Faults:
    """What goes wrong. Times are seconds; errors are raised when their call is made."""

    look: Exception | None = None
    ask: Exception | None = None
    jobs: Exception | None = None
    request: Exception | None = None  # instead of the request: it never arrives
    reply: Exception | None = None  # instead of the reply: the request has arrived
    reply_text: str | None = None  # what the command says instead of what it did
    arrival: float = 0.0  # how long a request is on its way
    hangs: bool = False  # the request never arrives, and no reply comes
    job_ends_as: JobStatus = JobStatus.SUCCEEDED
    job_lies: bool = False  # succeeds, and nothing was rebooted
    job_vanishes: bool = False
    agent_stays_dead: bool = False
    is_silent: bool = False  # no ready line is written
    api_agent_stays: bool = False  # CloudStack goes on saying what it said


class SmallCloud:
    """The world. Its public fields are its state; tests change them as the world would."""

    def __init__(self, journal: MemoryJournal) -> None:
        self.journal = journal
        self.clock = LoopClock()
        self.faults = Faults()
        self.ledger: list[Request] = []
        self.target = TARGET
        self.zone = ZONE
        self.host = HOST
        self.is_gone = False
        self.boot = 1
        self.start = 1
        self.is_agent_dead = True
        self.sign = Sign.UNIT_FAILED
        self.facts_age = 1.0
        self.log_end = a_position(1000)
        self.ready_at: LogPosition | None = None
        self.ready_seen_at: datetime | None = None
        self.jobs: dict[JobId, Job] = {}
        self.capabilities_known: frozenset[str] | None = frozenset(
            {"rebootSystemVm", "listAsyncJobs", "queryAsyncJobResult"}
        )
        self.demotion: str | None = None
        self.policy = POLICY
        self.has_picture = True

    @property
    def marks(self) -> GuestMarks:
        return GuestMarks(boot_id=f"boot-{self.boot}", invocation_id=f"{self.start:032x}")

    @property
    def is_well(self) -> bool:
        return not self.is_agent_dead

    # --- what happens in it

    def later(self, seconds: float, happen: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, happen)

    def start_agent(self) -> None:
        """A new start of the unit: a ready line after 4 s, Up in CloudStack's eyes after 6 s."""
        self.start += 1
        self.sign = Sign.UNIT_FAILED
        if self.faults.agent_stays_dead:
            return
        self.is_agent_dead = False
        self.later(4, self.write_ready_line)
        self.later(6, self.connect)

    def write_ready_line(self) -> None:
        if self.faults.is_silent:
            return
        self.ready_at, self.ready_seen_at = self.log_end, self.clock.now()
        self.log_end = self.log_end.at(self.log_end.offset + 80)

    def connect(self) -> None:
        if not self.faults.api_agent_stays:
            self.target = replace(self.target, agent_state=AgentState.UP)

    def reboot(self) -> None:
        self.boot += 1
        self.start_agent()

    def _arrive(self, what: str, happen: Callable[[], bool]) -> None:
        """A request has left the daemon. From here on it happens, whoever dies."""
        request = Request(what, self.clock.now(), self.journal.count(EntryKind.BEGUN))

        def arrive() -> None:
            self.ledger.append(replace(request, has_effect=happen()))

        if self.faults.arrival:
            self.later(self.faults.arrival, arrive)
        else:
            arrive()

    async def _send(self, what: str, happen: Callable[[], bool]) -> None:
        if self.faults.request is not None:
            raise self.faults.request
        if self.faults.hangs:
            await asyncio.sleep(3600)
        self._arrive(what, happen)
        await asyncio.sleep(self.faults.arrival + 0.2)
        if self.faults.reply is not None:
            raise self.faults.reply

    # --- CloudApi

    async def capabilities(self) -> Capabilities:
        return Capabilities(version=None, commands={})

    async def inventory(self) -> Inventory:
        raise NotImplementedError

    async def look(self, target_id: TargetId) -> Look:
        await asyncio.sleep(0.1)
        if self.faults.look is not None:
            raise self.faults.look
        if self.is_gone or target_id != self.target.id:
            return Look(target=None, zone=None, host=None)
        pending = [job for job in self.jobs.values() if job.ends_at > self.clock.now()]
        job_id = pending[-1].id if pending else self.target.job_id
        return Look(target=replace(self.target, job_id=job_id), zone=self.zone, host=self.host)

    async def reboot_system_vm(self, target_id: TargetId) -> JobId:
        job_id = JobId(f"job-{len(self.jobs) + 1}")
        await self._send("reboot", lambda: self.create_job(job_id))
        return job_id

    def create_job(self, job_id: JobId) -> bool:
        now = self.clock.now()
        # CloudStack tells moments to the second.
        created_at = now.replace(microsecond=0)
        ends_at = now + timedelta(seconds=8)
        self.jobs[job_id] = Job(job_id, created_at, ends_at, self.faults.job_ends_as)
        if self.faults.job_ends_as is JobStatus.SUCCEEDED and not self.faults.job_lies:
            self.later(5, self.reboot)
        return True

    async def job(self, job_id: JobId) -> JobReply:
        await asyncio.sleep(0.1)
        if self.faults.jobs is not None:
            raise self.faults.jobs
        job = self.jobs.get(job_id)
        if job is None or self.faults.job_vanishes:
            return JobReply(job_id=job_id, status=JobStatus.FORGOTTEN)
        return self._told(job)

    async def jobs_since(self, since: datetime) -> tuple[JobReply, ...]:
        await asyncio.sleep(0.1)
        if self.faults.jobs is not None:
            raise self.faults.jobs
        return tuple(self._told(job) for job in self.jobs.values() if job.created_at >= since)

    def _told(self, job: Job) -> JobReply:
        has_ended = self.clock.now() >= job.ends_at
        return JobReply(
            job_id=job.id,
            status=job.ends_as if has_ended else JobStatus.PENDING,
            command=REBOOT_CLASS,
            target_id=self.target.id,
            created_at=job.created_at,
            detail=job.detail,
        )

    # --- Guests

    async def ask(
        self, target: Target, host: HypervisorHost | None, tick: int, *, timeout: float
    ) -> FactBlock:
        asked_at = self.clock.now()
        await asyncio.sleep(0.1)
        if self.faults.ask is not None:
            raise self.faults.ask
        return FactBlock(
            tick=tick,
            loop_version=1,
            sections={},
            asked_at=asked_at,
            received_at=self.clock.now(),
            ages=ages_of({"unit": timedelta(seconds=self.facts_age)}),
        )

    async def run(
        self,
        target: Target,
        host: HypervisorHost | None,
        command: str,
        *,
        timeout: float,
        output_bytes_max: int = 65536,
    ) -> CommandReply:
        expected = re.search(r"^expected=(\w+)$", command, re.MULTILINE)
        assert expected is not None
        said = "stackward: sent\n"

        def compare_and_act() -> bool:
            nonlocal said
            if expected[1] != self.marks.invocation_id:
                said = f"stackward: changed {self.marks.invocation_id}\n"
                return False
            self.start_agent()
            return True

        await self._send("restart", compare_and_act)
        return CommandReply(0, said if self.faults.reply_text is None else self.faults.reply_text)

    def follow(
        self, target: Target, host: HypervisorHost | None, resume: LogPosition | None
    ) -> AsyncIterator[object]:
        raise NotImplementedError

    async def retain(self, target_ids: frozenset[TargetId]) -> None:
        pass

    async def close(self) -> None:
        pass

    # --- the reader of facts

    def read_facts(
        self, block: FactBlock, target: Target
    ) -> tuple[tuple[Observation, ...], GuestMarks, GuestReadings]:
        at = block.received_at - block.ages["unit"]
        unit: Verdict = Passed("active")
        process: Verdict = Passed("java")
        if self.is_agent_dead:
            unit = Failed(self.sign, "cloud.service failed")
            process = Failed(Sign.JVM_MISSING, "no java")
        verdicts = ((ProbeName.AGENT_UNIT, unit), (ProbeName.AGENT_PROCESS, process))
        observations = tuple(
            Observation(target.id, probe, Source.SSH, verdict, at) for probe, verdict in verdicts
        )
        return observations, self.marks, GuestReadings()

    # --- SnapshotSource

    def latest(self) -> Snapshot | None:
        if not self.has_picture:
            return None
        now = self.clock.now()
        fleet = replace(
            FLEET,
            targets={self.target.id: self._state(now)},
            capabilities=self.capabilities_known,
            demotion=self.demotion,
        )
        return Snapshot(
            taken_at=now,
            started_at=now,
            round_number=int(self.clock.monotonic()),
            fleet=fleet,
            policy=self.policy,
            health={},
            diagnoses={},
            fleet_diagnoses=(),
            plan=Plan(made_at=now),
            totals=Totals(),
        )

    async def next_after(self, round_number: int) -> Snapshot:
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            snapshot = self.latest()
            if snapshot is not None and snapshot.round_number > round_number:
                return snapshot

    def _state(self, now: datetime) -> TargetState:
        is_up = self.target.agent_state is AgentState.UP
        not_up: Verdict = Failed(Sign.AGENT_NOT_UP, "Alert")
        link: Verdict = Failed(Sign.LINK_DOWN, "no socket")
        api = _memory(Passed("Up") if is_up else not_up, Source.API, now)
        inside = _memory(Passed("connected") if self.is_well else link, Source.SSH, now)
        return STATE._replace(
            target=self.target,
            probes={ProbeName.CLOUD_AGENT: api, ProbeName.AGENT_LINK: inside},
            marks=self.marks,
            marks_at=now,
            log=LogMemory(
                position=self.log_end,
                told_at=now,
                ready_position=self.ready_at,
                ready_seen_at=self.ready_seen_at,
            ),
        )

    def forget_the_log(self) -> None:
        """What a restart of the daemon does: lines already read are not seen again."""
        self.ready_at = self.ready_seen_at = None


def _memory(verdict: Verdict, source: Source, now: datetime) -> ProbeMemory:
    return ProbeMemory(verdict=verdict, source=source, observed_at=now, since=now)
