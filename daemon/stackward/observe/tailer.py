"""Follows the log of every reachable VM and tells what its lines mean.

At least once into the reader, once in effect: every event carries the place of its line, and the
place read up to is kept in the durable memory only after the events before it were handed on.
The containment wall stands round one record: it is counted, and the place moves on.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from stackward.catalog.records import Record, RecordAssembler
from stackward.catalog.signatures import LogReading, SignatureSet
from stackward.errors import TransportError
from stackward.model.event import Sighted
from stackward.model.guest import LogPosition
from stackward.model.identity import TargetId
from stackward.model.sighting import Sighting
from stackward.model.target import Target
from stackward.observe.equipment import Equipment
from stackward.observe.roster import Roster
from stackward.ports import Guests


@dataclass(frozen=True, slots=True, kw_only=True)
class TailerSettings:
    """Seconds to wait before following again; it doubles up to the longest."""

    pause_seconds_min: float = 1.0
    pause_seconds_max: float = 60.0
    lines_per_slice: int = 500


class Tailer:
    """Follows the fleet's logs. `lines` counts those read, `positions` where each log is."""

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
        self.positions: dict[TargetId, LogPosition] = dict(resume)
        self._roster = Roster(equipment.snapshots, self._follow_for_ever)
        self.lines = 0

    async def run(self) -> None:
        """Follow until cancelled."""
        await self._roster.run()

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
        reader = _LogReader(way.target, self.signatures)
        async with asyncio.TaskGroup() as group:
            flushing = group.create_task(self._flush_held(reader))
            resume = self.positions.get(target_id)
            async for chunk in self._guests.follow(way.target, way.host, resume):
                reader.place = chunk.end
                records = reader.assembler.feed(chunk)
                reader.has_held.set()
                self.lines += len(chunk.lines)
                self._tell(reader, records, chunk.received_at, chunk.gap_bytes_min)
                # A long burst is read in slices so that no other VM waits for it.
                await self._clock.sleep(0)
            flushing.cancel()

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
            self._tell(reader, reader.assembler.flush(now), now, 0)

    def _tell(
        self,
        reader: "_LogReader",
        records: tuple[Record, ...],
        at: datetime,
        gap_bytes_min: int | None,
    ) -> None:
        reader.take(self.signatures)
        # Lines that waited to be read may be older than the last flush: time must not go back.
        at = reader.told_at = max(at, reader.told_at or at)
        sightings = [
            sighting
            for record in records
            if (sighting := self._read(reader, record, at)) is not None
        ]
        # A record that is held back is not read yet: the place stays before it.
        position = reader.assembler.held_from or reader.place
        self._sink.put(
            Sighted(
                target_id=reader.target.id,
                sightings=tuple(sightings),
                position=position,
                at=at,
                gap_bytes_min=gap_bytes_min,
            )
        )
        if position is not None:
            self.positions[reader.target.id] = position

    def _read(self, reader: "_LogReader", record: Record, at: datetime) -> Sighting | None:
        try:
            return reader.reading.read(record, at)
        except Exception:  # the wall round one log record
            self._walls.hit("log-record")
            self._log.exception("log record could not be read", target=reader.target.id)
            return None


class _LogReader:
    """One log while it is followed."""

    def __init__(self, target: Target, signatures: SignatureSet) -> None:
        self.target = target
        self.assembler = RecordAssembler()
        self.place: LogPosition | None = None
        self.told_at: datetime | None = None
        self.has_held = asyncio.Event()
        self._signatures = signatures
        self.reading = LogReading(signatures, target.role)

    def take(self, signatures: SignatureSet) -> None:
        """Go on with other signatures, if a reload has brought some."""
        if signatures is not self._signatures:
            self._signatures = signatures
            self.reading = LogReading(signatures, self.target.role)


def _obey_cancellation() -> None:
    """A task group of Python 3.11 that ends by an error forgets a cancellation that comes then.

    It does come then: who is not watched any more is cancelled, and its connection closed.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
