"""A small daemon that follows logs, made to be killed: the real tailer, control loop and journal.

Started as a program it is a nursery: it forks such daemons, so that many lives take the time of one
start. Commands on standard input, one a line: `start` answers with the pid; `kill PID` (SIGKILL)
and `stop PID` (SIGTERM) answer with how the child ended. With `--places-first` a daemon saves the
places of logs at once and what their lines did later: the bug that the suite is there to find.
"""

import asyncio
import ctypes
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, cast

from tests.builders import a_target, an_inventory
from tests.component.app.room import Room
from tests.component.log_tail.following import SETTINGS, following
from tests.component.log_tail.oracle import GAP, KINDS, numbers_in

from stackward.catalog.signatures import Signature, SignatureSet
from stackward.core.replay import Remembered
from stackward.core.state import LogMemory
from stackward.journal.store import SqliteJournal
from stackward.model.event import Event, Sighted, TargetsListed
from stackward.model.guest import LogChunk, LogPosition
from stackward.model.identity import TargetId
from stackward.model.sighting import EventClass, Severity
from stackward.model.target import HypervisorHost, Target
from stackward.observe.equipment import Equipment
from stackward.observe.tailer import Tailer, TailerSettings
from stackward.ports import Clock, EventSink, Guests
from stackward.transports.local_logs import LocalLogs

PR_SET_PDEATHSIG = 1
ROUND_SECONDS = 0.05
BUG_SECONDS = 1.0

# The kind of a line is its class: a line that counts twice is seen in its class's counter.
CLASSES = [event for event in EventClass if event is not EventClass.BENIGN][:KINDS]


def _looks_for(kind: int) -> Signature:
    word = f" kind {kind:02} "
    return Signature(
        name=f"kind-{kind}",
        event=CLASSES[kind],
        severity=Severity.INFO,
        match=lambda text: {} if word in text else None,
    )


def _scan(text: str) -> list[int]:
    _, found, rest = text.partition(" kind ")
    return [int(rest[:2])] if found else []


SIGNATURES = SignatureSet(tuple(_looks_for(kind) for kind in range(KINDS)), scan=_scan)


@dataclass(frozen=True)
class Plan:
    """What a daemon follows, how, and where it keeps and tells things."""

    tail: str
    roots: dict[str, str]  # by the name of the VM
    directory: str

    @property
    def journal(self) -> Path:
        return Path(self.directory) / "journal.db"

    def trace(self, name: str) -> Path:
        """What was told of one log, a number a line; `start` where a life begins."""
        return Path(self.directory) / f"trace of {name}"

    @property
    def published(self) -> Path:
        """The sum of all counters, round by round."""
        return Path(self.directory) / "published"


def target_id(name: str) -> TargetId:
    return a_target(name).id


class FileGuests:
    """The ways into VMs whose files are here."""

    def __init__(self, plan: Plan, clock: Clock) -> None:
        self._roots = {target_id(name): root for name, root in plan.roots.items()}
        self._is_script = plan.tail == "script"
        self._clock = clock
        paths = {str(name): f"{root}{SETTINGS.path}" for name, root in self._roots.items()}
        self._local = LocalLogs(paths, clock, SETTINGS)

    async def follow(
        self, target: Target, host: HypervisorHost | None, resume: LogPosition | None
    ) -> AsyncIterator[LogChunk]:
        del host
        if not self._is_script:
            async with aclosing(cast("Any", self._local.follow(target.id, resume))) as chunks:
                async for chunk in chunks:
                    yield chunk
        async with following(Path(self._roots[target.id]), resume) as tail:
            while True:
                for raw in tail.reader.feed(await tail.more()):
                    yield LogChunk(
                        data=raw.data,
                        start=raw.start,
                        end=raw.end,
                        received_at=self._clock.now(),
                        gap_bytes_min=raw.gap_bytes_min,
                        behind_bytes=raw.behind_bytes,
                    )


class Tracing:
    """Notes what is told before it is handed on."""

    def __init__(self, plan: Plan, sink: EventSink) -> None:
        self._sink = sink
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._traces = {
            target_id(name): os.open(plan.trace(name), flags, 0o600) for name in plan.roots
        }
        for trace in self._traces.values():
            os.write(trace, b"start\n")

    def put(self, event: Event) -> None:
        if isinstance(event, Sighted):
            told = [GAP] if event.gap_bytes_min != 0 else []
            told += numbers_in(sighting.text.encode() for sighting in event.sightings)
            if told:
                os.write(self._traces[event.target_id], b"".join(b"%d\n" % n for n in told))
        self._sink.put(event)


class PlacesFirst(SqliteJournal):
    """Saves each place at once, and what was done up to there a while later."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._effects: dict[str, tuple[float, LogMemory]] = {}

    async def save_logs(self, logs: Mapping[str, LogMemory]) -> None:
        now = asyncio.get_running_loop().time()
        for name, log in logs.items():
            if now - self._effects.get(name, (0.0, log))[0] > BUG_SECONDS:
                self._effects[name] = (now, log)
        await super().save_logs(
            {
                name: replace(self._effects[name][1], read_to=log.read_to)
                for name, log in logs.items()
            }
        )


async def watch(plan: Plan, *, is_broken: bool) -> None:
    """Follow until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    targets = [a_target(name) for name in plan.roots]
    make_journal = PlacesFirst if is_broken else SqliteJournal
    clock = Room().clock
    journal = make_journal(plan.journal, clock, deadline_seconds=25.0)
    await journal.open()
    logs = await journal.logs()
    remembered = replace(Remembered(), logs=logs)
    room = Room(*targets, journal=journal, remembered=remembered, round_seconds=ROUND_SECONDS)
    equipment = Equipment(
        sink=Tracing(plan, room.inbox),
        snapshots=room.bulletin,
        clock=room.clock,
        log=room.log,
        random=Random(1),
    )
    tailer = Tailer(
        cast("Guests", FileGuests(plan, room.clock)),
        equipment,
        TailerSettings(pause_seconds_min=0.05, pause_seconds_max=0.2),
        SIGNATURES,
        {TargetId(name): log.read_to for name, log in logs.items() if log.read_to is not None},
    )
    async with asyncio.TaskGroup() as group, room.running(is_telling=False):
        tasks = [
            group.create_task(work)
            for work in (tailer.run(), tell_listing(room, targets), tell_counts(plan, room))
        ]
        await stop.wait()
        latest = room.bulletin.latest()  # None: it is stopped before its first round
        number = -1 if latest is None else latest.round_number
        for _ in range(3):
            number = (await room.bulletin.next_after(number)).round_number
        for task in tasks:
            task.cancel()
    await journal.close()


async def tell_listing(room: Room, targets: list[Target]) -> None:
    while True:
        room.inbox.put(TargetsListed(an_inventory(*targets, at=room.clock.now())))
        await room.clock.sleep(1.0)


async def tell_counts(plan: Plan, room: Room) -> None:
    """What a scrape of each round would find."""
    published = os.open(plan.published, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    number = -1
    while True:
        snapshot = await room.bulletin.next_after(number)
        number = snapshot.round_number
        states = snapshot.fleet.targets.values()
        if len(states) == len(plan.roots):
            counted = sum(sum(state.log.counts.values()) for state in states)
            os.write(published, b"%d\n" % counted)


# --- the nursery


def die_with_parent() -> None:
    """Let the kernel end this process when its parent is gone (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(plan: Plan, *, is_broken: bool) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        die_with_parent()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        asyncio.run(watch(plan, is_broken=is_broken))
        code = 0
    except BaseException:
        traceback.print_exc()  # nobody else does: what is behind `os._exit` is never reached
        raise
    finally:
        os._exit(code)


def end(pid: int, number: signal.Signals) -> int:
    """Minus the signal that ended it, or its exit code."""
    os.kill(pid, number)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def nurse(plan: Plan, *, is_broken: bool) -> None:
    """Obey until standard input ends."""
    children: set[int] = set()
    for line in sys.stdin:
        match line.split():
            case ["start"]:
                answer = start(plan, is_broken=is_broken)
                children.add(answer)
            case ["kill", pid]:
                answer = end(int(pid), signal.SIGKILL)
                children.discard(int(pid))
            case ["stop", pid]:
                answer = end(int(pid), signal.SIGTERM)
                children.discard(int(pid))
            case _:
                raise ValueError(line)
        print(answer, flush=True)
    for pid in children:
        end(pid, signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent()
    gc.freeze()  # the children share these pages
    nurse(Plan(**json.loads(sys.argv[1])), is_broken="--places-first" in sys.argv[2:])
