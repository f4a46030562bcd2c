"""Follows the logs of management servers and tells what they say of system VMs.

A log that cannot be followed is told, and is no sickness of anything. Each is read in slices, its
records joined as the files' are; what is held for its trace waits for a moment and no longer. The
server's clock is measured by the lines themselves: one that was just read was just written.

The containment wall stands round one record: it is counted, and the place moves on.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from stackward.catalog.log_files import FileAssembler, LogSource, read_line
from stackward.catalog.mentions import taught_in
from stackward.catalog.records import Record
from stackward.catalog.signatures import LogReading, SignatureSet
from stackward.core.timeline import moment
from stackward.errors import TransportError
from stackward.model.event import ManagementLogTold, ManagementSaid
from stackward.model.guest import LogChunk, LogPosition
from stackward.observe.equipment import Equipment
from stackward.observe.joining import Directory, Joined, Joiner
from stackward.ports import LogFiles

HELD_SECONDS = 0.3
LINES_SEARCHED = 50  # for the time of the last line
LINE_BYTES_SEARCHED = 1000
MEASURES_KEPT = 64
MEASURES_FOR = timedelta(minutes=10)
OWN_CLOCK_WITHIN = timedelta(seconds=2)  # a log of this machine has no other clock than ours


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowedLog:
    """One log: its name, the zone of its times, and who reads it."""

    name: str
    zone: tzinfo
    files: LogFiles
    is_local: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementLogsSettings:
    """Seconds to wait before following again; it doubles up to the longest."""

    pause_seconds_min: float = 1.0
    pause_seconds_max: float = 60.0
    lines_per_slice: int = 50


class ManagementLogs:
    """Follows them all. `lines` counts those read, `positions` says where each log is."""

    def __init__(
        self,
        logs: Sequence[FollowedLog],
        equipment: Equipment,
        settings: ManagementLogsSettings,
        signatures: SignatureSet,
        resume: Mapping[str, LogPosition] | None = None,
    ) -> None:
        self._logs = tuple(logs)
        self._equipment = equipment
        self._settings = settings
        self._directory = Directory()
        self.signatures = signatures
        self.positions: dict[str, LogPosition] = dict(resume or {})
        self.lines = 0

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_directory())
            for log in self._logs:
                group.create_task(self._follow_for_ever(log))

    async def _keep_directory(self) -> None:
        round_number, listed_at = -1, None
        while True:
            snapshot = await self._equipment.snapshots.next_after(round_number)
            round_number = snapshot.round_number
            if snapshot.fleet.inventory_at != listed_at:
                listed_at = snapshot.fleet.inventory_at
                self._directory.update(snapshot.fleet)

    async def _follow_for_ever(self, log: FollowedLog) -> None:
        clock, settings = self._equipment.clock, self._settings
        pause = settings.pause_seconds_min
        while True:
            started = clock.monotonic()
            reader = _Reader(log, self._equipment, self._directory, self.signatures)
            try:
                await self._follow(log, reader)
                reason = "it ended"
            except TransportError as trouble:
                reason = str(trouble)
            finally:
                reader.close()
            reader.tell_state(is_followed=False, detail=reason)
            self._equipment.log.debug("management log not followed", name=log.name, reason=reason)
            if clock.monotonic() - started > 2 * pause:  # it went well for a while
                pause = settings.pause_seconds_min
            await clock.sleep(pause * self._equipment.random.uniform(0.5, 1.0))
            pause = min(2 * pause, settings.pause_seconds_max)

    async def _follow(self, log: FollowedLog, reader: "_Reader") -> None:
        resume = self.positions.get(log.name)
        async with aclosing(log.files.follow(log.name, resume)) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                lines = chunk.lines
                for begin in range(0, max(len(lines), 1), self._settings.lines_per_slice):
                    reader.signatures = self.signatures
                    reader.read(lines[begin : begin + self._settings.lines_per_slice], chunk)
                    # A long burst is read in slices so that nobody waits for it.
                    await self._equipment.clock.sleep(0)
                reader.chunk_is_read(chunk)
                self.lines += len(lines)
                self.positions[log.name] = chunk.end


class _Reader:
    """One log while it is followed."""

    def __init__(
        self,
        log: FollowedLog,
        equipment: Equipment,
        directory: Directory,
        signatures: SignatureSet,
    ) -> None:
        self._log = log
        self._equipment = equipment
        self._directory = directory
        self._joiner = Joiner(log.name, directory)
        now = equipment.clock.now()
        self._assembler = FileAssembler(LogSource.MANAGEMENT, read_at=now, zone=log.zone)
        self._reading = LogReading(signatures, None)
        self._signatures = signatures
        self._meter = ClockMeter(is_own_clock=log.is_local)
        self._minute: datetime | None = None
        self.place: LogPosition | None = None
        self._chunks = 0
        self._flush: asyncio.TimerHandle | None = None

    @property
    def signatures(self) -> SignatureSet:
        """What the lines are read by; a reload may bring others."""
        return self._signatures

    @signatures.setter
    def signatures(self, signatures: SignatureSet) -> None:
        if signatures is not self._signatures:
            self._signatures = signatures
            self._reading = LogReading(signatures, None)

    def read(self, lines: Sequence[bytes], chunk: LogChunk) -> None:
        """Take some lines of a chunk."""
        self._hold(None)
        joined = Joined()
        for line in lines:
            if b"via: " in line:
                self._directory.learn(taught_in(line.decode("utf-8", "replace")))
            record = self._assembler.take(line)
            if record is not None:
                self._take(record, chunk.received_at, joined)
        self._tell(joined, chunk.received_at)
        if lines:
            self._hold(HELD_SECONDS)

    def chunk_is_read(self, chunk: LogChunk) -> None:
        """Measure the clock by the last line, if it can have been written only now."""
        self.place = chunk.end
        if self._chunks == 0:
            self.tell_state(is_followed=True)
        newest = self._newest_time(chunk)
        if newest is not None:
            self._chunks += 1
            # What stood there before we came is of any age.
            if self._chunks > 1 and chunk.behind_bytes == 0:
                self._meter.take(newest, chunk.received_at)
            self._tell_minute(moment(newest, chunk.received_at, self._meter.offset))

    def _newest_time(self, chunk: LogChunk) -> datetime | None:
        """What the last line that names a time says of it."""
        for line in reversed(chunk.lines[-LINES_SEARCHED:]):
            text = line[:LINE_BYTES_SEARCHED].decode("utf-8", "replace")
            zone, at = self._log.zone, chunk.received_at
            record = read_line(text, 0, LogSource.MANAGEMENT, read_at=at, zone=zone)
            if record is not None and record.logged_at is not None:
                return record.logged_at
        return None

    def close(self) -> None:
        """Nothing more comes."""
        self._flush_now()

    def tell_state(self, *, is_followed: bool, detail: str = "") -> None:
        """Say whether the log is followed."""
        self._put(self._equipment.clock.now(), is_followed=is_followed, detail=detail)

    def _take(self, record: Record, seen_at: datetime, joined: Joined) -> None:
        try:
            sighting = self._reading.read(record, seen_at)
            self._joiner.take(record, sighting, self._meter.offset, joined)
        except Exception:  # the wall round one log record
            self._equipment.walls.hit("management-record")
            self._equipment.log.exception("log record could not be read", log=self._log.name)

    def _tell(self, joined: Joined, at: datetime) -> None:
        for target_id, lines in joined.of_vms.items():
            self._equipment.sink.put(ManagementSaid(target_id=target_id, lines=tuple(lines), at=at))
        if joined.of_server:
            self._equipment.sink.put(
                ManagementLogTold(
                    name=self._log.name,
                    is_followed=True,
                    at=at,
                    clock_offset=self._meter.offset,
                    lines=tuple(joined.of_server),
                )
            )

    def _tell_minute(self, at: datetime) -> None:
        """Once a minute: the log has spoken."""
        minute = at.replace(second=0, microsecond=0)
        if minute != self._minute:
            self._minute = minute
            self._put(self._equipment.clock.now(), is_followed=True, spoke_at=minute)

    def _put(
        self,
        at: datetime,
        *,
        is_followed: bool,
        detail: str = "",
        spoke_at: datetime | None = None,
    ) -> None:
        self._equipment.sink.put(
            ManagementLogTold(
                name=self._log.name,
                is_followed=is_followed,
                at=at,
                detail=detail,
                clock_offset=self._meter.offset,
                spoke_at=spoke_at,
                position=self.place,
            )
        )

    def _hold(self, seconds: float | None) -> None:
        """A record that waits for its trace waits so long; None: not at all."""
        if self._flush is not None:
            self._flush.cancel()
        self._flush = None
        if seconds is not None:
            self._flush = asyncio.get_running_loop().call_later(seconds, self._flush_now)

    def _flush_now(self) -> None:
        self._hold(None)
        record = self._assembler.end()
        if record is not None:
            joined, now = Joined(), self._equipment.clock.now()
            self._take(record, now, joined)
            self._tell(joined, now)


class ClockMeter:
    """A server's clock less ours, by lines that were read as soon as they were written.

    A line can be read late and never early, so of the last measures the largest is the best.
    """

    def __init__(self, *, is_own_clock: bool) -> None:
        self._is_own_clock = is_own_clock
        self._measures: deque[tuple[datetime, timedelta]] = deque(maxlen=MEASURES_KEPT)
        self._offset = timedelta(0) if is_own_clock else None

    @property
    def offset(self) -> timedelta | None:
        """None: not measured yet."""
        return self._offset

    def take(self, logged_at: datetime, read_at: datetime) -> None:
        """One line's own time, and when it was read."""
        self._measures.append((read_at, logged_at - read_at))
        while self._measures and abs(read_at - self._measures[0][0]) > MEASURES_FOR:
            self._measures.popleft()
        best = max(measure for _, measure in self._measures)
        if self._is_own_clock and abs(best) <= OWN_CLOCK_WITHIN:
            best = timedelta(0)
        self._offset = best
