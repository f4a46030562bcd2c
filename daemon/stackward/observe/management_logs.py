"""Follows the logs of management servers and tells what they say of system VMs.

A log that cannot be followed is told, and is no sickness of anything. Each is read in slices, its
records joined as the files' are; what is held for its trace waits for a moment and no longer. The
server's clock is measured by the lines themselves: one that was just read was just written.

Containment walls stand round one record, which is counted and the place moves on, and round one
log: what it says only adds words, so nothing of it may end the daemon.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from stackward.catalog.log_files import FileAssembler, LogSource, read_line
from stackward.catalog.mentions import names_by_request, taught_in_lines
from stackward.catalog.records import Record
from stackward.catalog.sieve import Sieve
from stackward.catalog.signatures import SignatureSet
from stackward.core.timeline import is_idle, moment
from stackward.errors import TransportError
from stackward.model.correlation import LogLine
from stackward.model.event import ManagementLogTold, ManagementSaid
from stackward.model.guest import LogChunk, LogPosition
from stackward.model.log_flow import DropReason, LogFlow
from stackward.model.sighting import EventClass, Sighting
from stackward.observe.equipment import Equipment
from stackward.observe.joining import Directory, Joined, Joiner
from stackward.ports import Clock, LogFiles

HELD_SECONDS = 0.3
SLICE_BYTES = 4 * 1024
BYTES_SEARCHED = 16 * 1024  # for the time of the last line
TOLD_PER_SECOND = 200  # lines to VMs; one that concerns a host goes to each VM on it
TOLD_BURST = 5000
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


class ManagementLogs:
    """Follows them all. `lines` counts those read.

    By name: `positions` says where each is, `flows` how its reading goes, `events` what it told.
    """

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
        self.flows: dict[str, LogFlow] = {}
        self.events: dict[str, Counter[EventClass]] = {}

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
                for _ in self._directory.updating(snapshot.fleet):
                    await self._equipment.clock.sleep(0)

    async def _follow_for_ever(self, log: FollowedLog) -> None:
        clock, settings = self._equipment.clock, self._settings
        pause = settings.pause_seconds_min
        while True:
            started = clock.monotonic()
            events = self.events.setdefault(log.name, Counter())
            reader = _Reader(log, self._equipment, self._directory, self.signatures, events)
            try:
                await self._follow(log, reader)
                reason = "it ended"
            except TransportError as trouble:
                reason = str(trouble)
            except Exception as crash:  # the wall round one log: it only adds words
                self._equipment.walls.hit("management-log")
                self._equipment.log.exception("management log could not be read", name=log.name)
                reason = f"its reader crashed: {type(crash).__name__}"
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
        # The port says no more than that it is an iterator; both adapters can be closed.
        async with aclosing(log.files.follow(log.name, resume)) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                for start, end in _slices(chunk.data):
                    reader.read(self.signatures, chunk, chunk.data[start:end])
                    # A long burst is read in slices so that nobody waits for it.
                    await self._equipment.clock.sleep(0)
                reader.chunk_is_read(chunk)
                self.lines += chunk.data.count(b"\n")
                self.positions[log.name] = chunk.end
                self.flows[log.name] = reader.flow(chunk, self.flows.get(log.name, LogFlow()))


class _Reader:
    """One log while it is followed."""

    def __init__(
        self,
        log: FollowedLog,
        equipment: Equipment,
        directory: Directory,
        signatures: SignatureSet,
        events: Counter[EventClass],
    ) -> None:
        self._log = log
        self._events = events
        self._equipment = equipment
        self._directory = directory
        self._joiner = Joiner(log.name, directory)
        now = equipment.clock.now()
        self._assembler = FileAssembler(LogSource.MANAGEMENT, read_at=now, zone=log.zone)
        self._signatures = signatures
        self._sieve = Sieve(signatures, None, self._assembler, self._broken)
        self._meter = ClockMeter(is_own_clock=log.is_local)
        self._budget = Budget(equipment.clock)
        self._lines = self._dropped = 0
        self._told_orphans = 0
        self._drops: Counter[DropReason] = Counter()  # since the flow was told
        self._newest: datetime | None = None
        self._place: LogPosition | None = None
        self._minute: datetime | None = None
        self._chunks = 0
        self._flush: asyncio.TimerHandle | None = None

    def read(self, signatures: SignatureSet, chunk: LogChunk, lines: bytes) -> None:
        """Take some lines of a chunk. A reload may have brought other signatures."""
        self._hold(None)
        if signatures is not self._signatures:
            self._signatures = signatures
            self._sieve = Sieve(signatures, None, self._assembler, self._broken)
        self._directory.learn(taught_in_lines(lines))
        at, joined = chunk.received_at, Joined()
        names = deque(names_by_request(lines))
        for hit in self._sieve.read(lines, at):
            self._events[hit.event] += 1
            if self._budget.is_spent:
                self._drop(1)
                continue
            record = hit.record or self._assembler.head(hit.line, hit.place)
            if record is not None:
                number = record.line_start.offset - self._lines
                while names and names[0].line <= number:
                    self._joiner.note(names.popleft(), joined)
                self._take(record, self._sieve.tell(hit, at), joined)
        for named in names:
            self._joiner.note(named, joined)
        self._lines += lines.count(b"\n")
        self._tell(joined, at)
        self._hold(HELD_SECONDS)

    def chunk_is_read(self, chunk: LogChunk) -> None:
        """Measure the clock by the last line, if it can have been written only now."""
        self._place = chunk.end
        if self._chunks == 0 or chunk.gap_bytes_min != 0:
            self._put(is_followed=True, gap=chunk.gap_bytes_min)
        newest = self._newest_time(chunk)
        if newest is not None:
            self._newest = newest
            self._chunks += 1
            # What stood there before we came is of any age.
            if self._chunks > 1 and chunk.behind_bytes == 0:
                self._meter.take(newest, chunk.received_at)
            self._tell_minute(moment(newest, chunk.received_at, self._meter.offset))

    def _newest_time(self, chunk: LogChunk) -> datetime | None:
        """What the last line that names a time says of it."""
        for line in reversed(chunk.data[-BYTES_SEARCHED:].split(b"\n")):
            text = line.decode("utf-8", "replace")
            zone, at = self._log.zone, chunk.received_at
            record = read_line(text, 0, LogSource.MANAGEMENT, read_at=at, zone=zone)
            if record is not None and record.logged_at is not None:
                return record.logged_at
        return None

    def flow(self, chunk: LogChunk, flow: LogFlow) -> LogFlow:
        """The counters of the log with this chunk in them."""
        orphans, read = self._assembler.orphans, chunk.end.offset - chunk.start.offset
        self._drops[DropReason.LINE_CUT] += read > len(chunk.data)
        flow = flow._replace(
            lines=flow.lines + chunk.data.count(b"\n"),
            bytes=flow.bytes + read,
            unparsed=flow.unparsed + orphans - self._told_orphans,
            dropped={
                reason: flow.dropped.get(reason, 0) + self._drops[reason] for reason in DropReason
            },
            behind_bytes=chunk.behind_bytes,
            newest_logged_at=self._newest or flow.newest_logged_at,
            last_line_at=chunk.received_at if chunk.data else flow.last_line_at,
        )
        self._told_orphans = orphans
        self._drops.clear()
        return flow

    def close(self) -> None:
        """Nothing more comes."""
        self._flush_now()

    def tell_state(self, *, is_followed: bool, detail: str = "") -> None:
        """Say whether the log is followed."""
        self._put(is_followed=is_followed, detail=detail)

    def _take(self, record: Record, sighting: Sighting | None, joined: Joined) -> None:
        if sighting is None or is_idle(sighting.event):
            return
        try:
            self._joiner.take(record, sighting, self._meter.offset, joined)
        except Exception as error:  # the wall round one log record
            self._broken(error)

    def _broken(self, error: Exception) -> None:
        self._equipment.walls.hit("management-record")
        self._drops[DropReason.UNREADABLE] += 1
        log = self._equipment.log
        log.error("log record could not be read", log=self._log.name, exc_info=error)

    def _tell(self, joined: Joined, at: datetime) -> None:
        """In a storm only as much as may be; the rest is counted."""
        if joined.of_server:
            if self._budget.allows(len(joined.of_server)):
                self._put(is_followed=True, lines=tuple(joined.of_server))
            else:
                self._drop(len(joined.of_server))
        for target_id, lines in joined.of_vms.items():
            if self._budget.allows(len(lines)):
                said = ManagementSaid(target_id=target_id, lines=tuple(lines), at=at)
                self._equipment.sink.put(said)
            else:
                self._drop(len(lines))

    def _drop(self, count: int) -> None:
        self._dropped += count
        self._drops[DropReason.TOLD_AS_COUNT] += count

    def _tell_minute(self, at: datetime) -> None:
        """Once a minute: the log has spoken."""
        minute = at.replace(second=0, microsecond=0)
        if minute != self._minute:
            self._minute = minute
            self._put(is_followed=True, spoke_at=minute)

    def _put(
        self,
        *,
        is_followed: bool,
        detail: str = "",
        spoke_at: datetime | None = None,
        lines: tuple[LogLine, ...] = (),
        gap: int | None = 0,
    ) -> None:
        self._equipment.sink.put(
            ManagementLogTold(
                name=self._log.name,
                is_followed=is_followed,
                at=self._equipment.clock.now(),
                detail=detail,
                clock_offset=self._meter.offset,
                spoke_at=spoke_at,
                position=self._place,
                lines=lines,
                dropped=self._dropped,
                gaps=int(gap != 0),
                gap_bytes=gap or 0,
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
        joined, now = Joined(), self._equipment.clock.now()
        for hit in self._sieve.judged(self._assembler.close(), now):
            self._events[hit.event] += 1
            if hit.record is not None:
                self._take(hit.record, self._sieve.tell(hit, now), joined)
        self._tell(joined, now)


def _slices(data: bytes) -> Iterator[tuple[int, int]]:
    """Whole lines in pieces that take a few milliseconds even if every line is an event."""
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + SLICE_BYTES) + 1
        end = end or data.find(b"\n", start) + 1 or len(data)
        yield start, end
        start = end


class Budget:
    """How many lines may be told: so many a second, and a burst at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left = float(TOLD_BURST)
        self._at = clock.monotonic()

    @property
    def is_spent(self) -> bool:
        """True while not even one may be told."""
        now = self._clock.monotonic()
        self._left = min(TOLD_BURST, self._left + (now - self._at) * TOLD_PER_SECOND)
        self._at = now
        return self._left < 1

    def allows(self, lines: int) -> bool:
        """True, and they are taken off; False: they are too many now."""
        if self.is_spent or lines > self._left:
            return False
        self._left -= lines
        return True


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
