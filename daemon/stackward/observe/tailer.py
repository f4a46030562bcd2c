"""Follows the log of every reachable VM and tells what its lines mean.

At least once into the reader, once in effect: every event carries the place of its line, and the
place read up to is kept in the durable memory only after the events before it were handed on.
The containment wall stands round one record: it is counted, and the place moves on.

No log takes more than its share: a stretch is read in slices between which the loop is given back,
of a storm only so much is told one by one, and beyond so many bytes a second a log waits, which its
VM feels through the window of its channel.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from stackward.catalog.log_lines import slices
from stackward.catalog.records import RecordAssembler
from stackward.catalog.sieve import Known, Sieve
from stackward.catalog.signatures import Hit, SignatureSet
from stackward.catalog.telling import Telling
from stackward.core.state import LogMemory
from stackward.errors import TransportError
from stackward.model.event import Sighted
from stackward.model.guest import LogChunk, LogPosition
from stackward.model.identity import TargetId, VmRole
from stackward.model.log_flow import DropReason, LogFlow
from stackward.model.sighting import Sighting
from stackward.model.target import Target
from stackward.observe.equipment import Equipment
from stackward.observe.roster import Roster
from stackward.ports import Clock, Guests

# The loop is given back after so long. A slice takes less, so that both together stay under 5 ms.
HOLD_SECONDS = 0.0015


@dataclass(frozen=True, slots=True, kw_only=True)
class TailerSettings:
    """Seconds to wait before following again; it doubles up to the longest.

    `bytes_per_second_max` is for one log, over some seconds: what is more waits.
    """

    pause_seconds_min: float = 1.0
    pause_seconds_max: float = 60.0
    bytes_per_second_max: int = 8 << 20


class Tailer:
    """Follows the fleet's logs.

    `lines` counts those read, `positions` says where each log is, `flows` how its reading goes.
    """

    def __init__(
        self,
        guests: Guests,
        equipment: Equipment,
        settings: TailerSettings,
        signatures: SignatureSet,
        resume: Mapping[TargetId, LogPosition],
    ) -> None:
        self._guests = guests
        self._sink = equipment.sink
        self._clock = equipment.clock
        self._log = equipment.log
        self._random = equipment.random
        self._walls = equipment.walls
        self._settings = settings
        self.signatures = signatures
        self._known: tuple[SignatureSet, dict[VmRole, Known]] = signatures, {}
        self.positions: dict[TargetId, LogPosition] = dict(resume)
        self._snapshots = equipment.snapshots
        self._roster = Roster(equipment.snapshots, self._follow_for_ever, self._retain)
        self.flows: dict[TargetId, LogFlow] = {}
        self.lines = 0

    async def run(self) -> None:
        """Follow until cancelled."""
        await self._roster.run()

    async def _retain(self, target_ids: frozenset[TargetId]) -> None:
        """Forget the places of those who are not followed: the fleet's memory knows them too."""
        for known in (self.positions, self.flows):
            for target_id in known.keys() - target_ids:
                del known[target_id]

    def _remembered(self, target_id: TargetId) -> LogMemory:
        snapshot = self._snapshots.latest()
        state = snapshot.fleet.targets.get(target_id) if snapshot is not None else None
        return state.log if state is not None else LogMemory()

    async def _follow_for_ever(self, target_id: TargetId) -> None:
        pause = self._settings.pause_seconds_min
        while True:
            started = self._clock.monotonic()
            try:
                await self._follow(target_id)
                reason = "the log ended"
            except* TransportError as group:
                reason = "; ".join(str(trouble) for trouble in group.exceptions)
            _obey_cancellation()
            self._sink.put(
                Sighted(target_id=target_id, sightings=(), position=None, at=self._clock.now())
            )
            if self._clock.monotonic() - started > 2 * pause:  # it went well for a while
                pause = self._settings.pause_seconds_min
            self._log.debug("log not followed", target=target_id, reason=reason)
            await self._clock.sleep(pause * self._random.uniform(0.5, 1.0))
            pause = min(2 * pause, self._settings.pause_seconds_max)

    async def _follow(self, target_id: TargetId) -> None:
        way = self._roster.way(target_id)
        reader = _LogReader(way.target, self._clock, self._crashed)
        share = _Share(self._clock, self._settings.bytes_per_second_max)
        remembered = self._remembered(target_id)
        flow = self.flows.get(target_id, remembered.flow)
        reader.flow = flow._replace(behind_bytes=0, last_line_at=None)
        async with asyncio.TaskGroup() as group:
            flushing = group.create_task(self._flush_held(reader))
            resume = self.positions.get(target_id, remembered.read_to)
            async for chunk in self._guests.follow(way.target, way.host, resume):
                async with reader.turn:
                    await self._take(reader, chunk)
                if reader.assembler.due_at is not None:
                    reader.has_held.set()
                # However little it was: a long burst must not keep others waiting.
                await self._clock.sleep(share.wait_after(len(chunk.data)))
            flushing.cancel()

    async def _take(self, reader: "_LogReader", chunk: LogChunk) -> None:
        """Read a chunk, and tell what is in it."""
        if self._known[0] is not self.signatures:
            self._known = self.signatures, {}
        reader.begin(self.signatures, self._known[1], chunk)
        patience = _Patience(self._clock)
        for start, end, lines in slices(chunk.data):
            self.lines += lines
            reader.lines += lines
            for hit in reader.read_slice(chunk, start, end):
                if hit is None:
                    await patience.breathe()
                else:
                    reader.telling.add(hit)
            await patience.breathe()
        reader.telling.count(reader.sieve.shed)
        reader.end(chunk)
        await self._tell(reader, chunk.gap_bytes_min, patience)

    async def _flush_held(self, reader: "_LogReader") -> None:
        """Give a record that waits for the rest of its trace out when its time is up."""
        while True:
            await reader.has_held.wait()
            due_at = reader.assembler.due_at
            if due_at is None:
                reader.has_held.clear()
                continue
            now = self._clock.now()
            if now < due_at:
                await self._clock.sleep((due_at - now).total_seconds())
                continue
            async with reader.turn:
                reader.flush(now)
                await self._tell(reader, 0, _Patience(self._clock))

    async def _tell(
        self, reader: "_LogReader", gap_bytes_min: int | None, patience: "_Patience"
    ) -> None:
        sightings: list[Sighting] = []
        for hit in reader.telling.told():
            sighting = reader.sieve.tell(hit, reader.at)
            if sighting is not None:
                sightings.append(sighting)
            await patience.breathe()
        sightings.sort(key=lambda each: (each.line_start.generation, each.line_start.offset))
        # A record that is held back is not read yet: the place stays before it.
        position = reader.assembler.held_from or reader.place
        target_id = reader.target.id
        self._sink.put(
            Sighted(
                target_id=target_id,
                sightings=tuple(sightings),
                position=position,
                at=reader.at,
                gap_bytes_min=gap_bytes_min,
                counted=dict(reader.telling.counted),
                flow=reader.account(),
            )
        )
        self.flows[target_id] = reader.flow
        if position is not None:
            self.positions[target_id] = position

    def _crashed(self, reader: "_LogReader", error: Exception) -> None:
        self._walls.hit("log-record")
        reader.dropped[DropReason.UNREADABLE] += 1
        self._log.error("log record could not be read", target=reader.target.id, exc_info=error)


class _LogReader:
    """One log while it is followed. Who reads or tells has its `turn`."""

    def __init__(
        self,
        target: Target,
        clock: Clock,
        crashed: Callable[["_LogReader", Exception], None],
    ) -> None:
        self.target = target
        self.turn = asyncio.Lock()
        self.has_held = asyncio.Event()
        self.assembler = RecordAssembler()
        self.place: LogPosition | None = None
        self.at = clock.now()
        self.telling = Telling()
        self.flow = LogFlow()
        self.lines = self.bytes = 0  # since the last account
        self.dropped: Counter[DropReason] = Counter()
        self._crashed = crashed
        self._signatures: SignatureSet | None = None
        self._orphans = 0
        self.sieve = Sieve(SignatureSet(), target.role, self.assembler, self._broken)

    def begin(self, signatures: SignatureSet, known: dict[VmRole, Known], chunk: LogChunk) -> None:
        """A chunk comes, perhaps with other signatures, if a reload has brought some.

        `known` is what all readers know of messages, by role.
        """
        if signatures is not self._signatures:
            self._signatures, role = signatures, self.target.role
            known_here = known.setdefault(role, {})
            self.sieve = Sieve(signatures, role, self.assembler, self._broken, known_here)
            self.sieve.may_shed = True
        self._turn_to(chunk.received_at)
        self.place = chunk.end
        self._add(self.sieve.judged(self.assembler.enter(chunk), self.at))

    def read_slice(self, chunk: LogChunk, start: int, end: int) -> Iterator[Hit | None]:
        """Some whole lines of the chunk; None where others may have their turn."""
        whole = start == 0 and end == len(chunk.data)
        part = chunk if whole else _part(chunk, start, end)
        self.assembler.enter(part)
        return self.sieve.steps(part.data, self.at)

    def end(self, chunk: LogChunk) -> None:
        """The chunk was read."""
        self._add(self.sieve.judged(self.assembler.settle(), self.at))
        size = chunk.end.offset - chunk.start.offset
        self.bytes += size
        if size > len(chunk.data):
            self.dropped[DropReason.LINE_CUT] += 1
        self.flow = self.flow._replace(
            behind_bytes=chunk.behind_bytes,
            last_line_at=chunk.received_at if chunk.data else self.flow.last_line_at,
        )

    def flush(self, now: datetime) -> None:
        """Time has passed."""
        self._turn_to(now)
        self._add(self.sieve.judged(self.assembler.flush(now), self.at))

    def account(self) -> LogFlow:
        """The counters after what was told now."""
        flow, orphans = self.flow, self.assembler.orphans
        dropped = flow.dropped
        if self.telling.shed:
            self.dropped[DropReason.TOLD_AS_COUNT] += self.telling.shed
        if self.dropped:
            dropped = {**Counter(dropped) + self.dropped}
            self.dropped.clear()
        self.flow = flow._replace(
            lines=flow.lines + self.lines,
            bytes=flow.bytes + self.bytes,
            unparsed=flow.unparsed + orphans - self._orphans,
            dropped=dropped,
            newest_logged_at=self.assembler.newest_logged_at or flow.newest_logged_at,
        )
        self.lines = self.bytes = 0
        self._orphans = orphans
        return self.flow

    def _turn_to(self, now: datetime) -> None:
        # Lines that waited to be read may be older than the last flush: time must not go back.
        self.at = max(now, self.at) if self._signatures is not None else now
        self.telling = Telling()

    def _add(self, hits: Iterable[Hit]) -> None:
        for hit in hits:
            self.telling.add(hit)

    def _broken(self, error: Exception) -> None:
        self._crashed(self, error)


def _part(chunk: LogChunk, start: int, end: int) -> LogChunk:
    place = chunk.start.at(chunk.start.offset + start)
    return chunk._replace(data=chunk.data[start:end], start=place, gap_bytes_min=0)


class _Patience:
    """Gives the loop back when it was held long enough."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.monotonic()

    async def breathe(self) -> None:
        """Call it between two pieces of work."""
        if self._clock.monotonic() - self._since >= HOLD_SECONDS:
            await self._clock.sleep(0)
            self._since = self._clock.monotonic()


class _Share:
    """The bytes of one log over time; a second's worth may come at once."""

    def __init__(self, clock: Clock, bytes_per_second: int) -> None:
        self._clock = clock
        self._bytes_per_second = bytes_per_second
        self._spent_until = clock.monotonic()

    def wait_after(self, size: int) -> float:
        """How long nothing may be read after so many bytes."""
        now = self._clock.monotonic()
        self._spent_until = max(self._spent_until, now) + size / self._bytes_per_second
        return max(0.0, self._spent_until - now - 1.0)


def _obey_cancellation() -> None:
    """A task group of Python 3.11 that ends by an error forgets a cancellation that comes then.

    It does come then: who is not watched any more is cancelled, and its connection closed.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
