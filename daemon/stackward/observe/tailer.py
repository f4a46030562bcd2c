"""Follows the log of every reachable VM and tells what its lines mean.

At least once into the reader, once in effect: every event carries the place of its line, and the
place read up to is kept in the durable memory only after the events before it were handed on.
The containment wall stands round one record: it is counted, and the place moves on.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from stackward.catalog.records import Record, RecordAssembler
from stackward.catalog.signatures import SignatureSet
from stackward.errors import TransportError
from stackward.model.event import Sighted
from stackward.model.guest import LogChunk, LogPosition
from stackward.model.identity import TargetId
from stackward.model.sighting import Sighting
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
            except TransportError as trouble:
                reason = str(trouble)
            self._sink.put(
                Sighted(target_id=target_id, sightings=(), position=None, at=self._clock.now())
            )
            if self._clock.monotonic() - started > 2 * self._settings.pause_seconds_max:
                pause = self._settings.pause_seconds_min
            self._log.debug("log not followed", target=target_id, reason=reason)
            await self._clock.sleep(pause * self._random.uniform(0.5, 1.0))
            pause = min(2 * pause, self._settings.pause_seconds_max)

    async def _follow(self, target_id: TargetId) -> None:
        way = self._roster.way(target_id)
        assembler = RecordAssembler()
        async for chunk in self._guests.follow(way.target, way.host, self.positions.get(target_id)):
            sightings: list[Sighting] = []
            for record in assembler.feed(chunk):
                sighting = self._read(target_id, record, chunk)
                if sighting is not None:
                    sightings.append(sighting)
            self.lines += len(chunk.lines)
            self._sink.put(
                Sighted(
                    target_id=target_id,
                    sightings=tuple(sightings),
                    position=chunk.end,
                    at=chunk.received_at,
                    gap_bytes_min=chunk.gap_bytes_min,
                )
            )
            self.positions[target_id] = chunk.end
            # A long burst is read in slices so that no other VM waits for it.
            await self._clock.sleep(0)

    def _read(self, target_id: TargetId, record: Record, chunk: LogChunk) -> Sighting | None:
        try:
            return self.signatures.classify(
                record, self._roster.way(target_id).target.role, chunk.received_at
            )
        except Exception:  # the wall round one log record
            self._walls.hit("log-record")
            self._log.exception("log record could not be read", target=target_id)
            return None
