"""Asks every reachable VM for its facts, each on its own rhythm, bounded in all directions.

Bounds: one question at a time per VM, a limit per hypervisor host, per zone, and in all. A VM that
does not answer holds its place for one deadline at most. The containment wall stands round reading
one answer: what crashes there becomes Unknown for every probe of that VM.
"""

import asyncio
import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass

from stackward.catalog.guest_reader import GuestReader
from stackward.catalog.probe import ProbeThresholds
from stackward.catalog.probes import PROBES_OF
from stackward.catalog.redact import redact
from stackward.errors import Leg, TransportError
from stackward.model.event import Observed, PathTold
from stackward.model.guest import FactBlock
from stackward.model.identity import HostId, TargetId, ZoneId
from stackward.model.verdict import Observation, Source, Unknown
from stackward.observe.equipment import Equipment
from stackward.observe.gate import Gate
from stackward.observe.roster import Roster, Way
from stackward.observe.slots import Slots
from stackward.ports import Guests

# To wake up costs as much as to ask: a few polls share each wake-up. But not so many that whoever
# else waits for the loop would notice.
SLOT_SECONDS_MAX = 0.8
SLOT_POLLS = 40
PATIENCE_SECONDS = 5.0  # beyond a question's own deadline
LIMIT_MOVED_BY, LIMIT_MOVED_BY_MAX = 4, 60.0  # intervals, and seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ProberSettings:
    """Rhythm in seconds, and how many questions may be under way at once."""

    interval_seconds: float = 15.0
    timeout_seconds: float = 10.0
    in_flight_max: int = 1024
    zone_in_flight_max: int = 512
    host_in_flight_max: int = 64


class Prober:
    """Polls the fleet. `polls` and `failures` count questions and those without an answer."""

    def __init__(
        self,
        guests: Guests,
        equipment: Equipment,
        settings: ProberSettings,
        thresholds: ProbeThresholds,
    ) -> None:
        self._guests = guests
        self._sink = equipment.sink
        self._clock = equipment.clock
        self._log = equipment.log
        self._random = equipment.random
        self._walls = equipment.walls
        self._settings = settings
        self.thresholds = thresholds
        self._roster = Roster(equipment.snapshots, self._poll_for_ever, self._retain)
        self._patience = settings.timeout_seconds + PATIENCE_SECONDS
        self._slots = Slots(equipment.clock, self._slot_for(1))
        self._all = Gate(settings.in_flight_max)
        self._zones: defaultdict[ZoneId, Gate] = defaultdict(
            lambda: Gate(settings.zone_in_flight_max)
        )
        self._hosts: defaultdict[HostId, Gate] = defaultdict(
            lambda: Gate(settings.host_in_flight_max)
        )
        self._readers: defaultdict[TargetId, GuestReader] = defaultdict(GuestReader)
        self._broken_legs: dict[TargetId, Leg | None] = {}
        self._ticks = itertools.count(1)
        self.polls = 0
        self.failures: Counter[str] = Counter()

    async def run(self) -> None:
        """Poll until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._slots.run())
            await self._roster.run()

    async def _retain(self, target_ids: frozenset[TargetId]) -> None:
        for gone in self._broken_legs.keys() - target_ids:
            del self._broken_legs[gone]
        for gone in self._readers.keys() - target_ids:
            del self._readers[gone]
        self._slots.seconds = self._slot_for(len(target_ids))
        await self._guests.retain(target_ids)

    def _slot_for(self, fleet: int) -> float:
        """How far apart the moments are at which polls begin, for a fleet of this size."""
        interval = self._settings.interval_seconds
        return min(SLOT_SECONDS_MAX, interval / 12, SLOT_POLLS * interval / max(1, fleet))

    async def _poll_for_ever(self, target_id: TargetId) -> None:
        interval = self._settings.interval_seconds
        # A fleet is looked at once within a second, so that it is soon known; from then on its
        # polls are spread evenly, each VM at its own place in the interval.
        await self._clock.sleep(self._random.uniform(0, min(interval, 1.0)))
        due = self._clock.monotonic() - interval * self._random.uniform(0, 0.9)
        while True:
            try:
                async with asyncio.timeout(self._patience) as limit:
                    while True:
                        # A channel outlives its task, and no tick may come twice on one: one
                        # count for all.
                        await self._poll(self._roster.way(target_id), next(self._ticks))
                        due += interval * self._random.uniform(0.98, 1.02)
                        # Slower than its interval: no burst to catch up.
                        due = max(due, self._clock.monotonic() + 0.05 * interval)
                        await self._sleep_until(due, limit)
            except TimeoutError:
                # Each question has a deadline of its own; this is for one that forgets it.
                way = self._roster.way(target_id)
                self.failures[Leg.CHANNEL] += 1
                self._tell_broken(way, Leg.CHANNEL, f"{way.target.name} did not answer in time")

    async def _sleep_until(self, due: float, limit: asyncio.Timeout) -> None:
        """Sleep until the poll is due; what is due at about the same time wakes up together."""
        slot = self._slots.after(due)
        pause = slot - self._clock.monotonic()
        until = asyncio.get_running_loop().time() + pause + self._patience
        if (limit.when() or 0.0) < until:
            # Far enough for some polls: each move of the limit costs as much as a sleep.
            spare = min(LIMIT_MOVED_BY * self._settings.interval_seconds, LIMIT_MOVED_BY_MAX)
            limit.reschedule(until + spare)
        await self._slots.sleep_until(slot)

    async def _poll(self, way: Way, tick: int) -> None:
        self.polls += 1
        try:
            block = await self._ask(way, tick)
        except TransportError as trouble:
            self.failures[trouble.leg or Leg.CHANNEL] += 1
            self._tell_broken(way, trouble.leg or Leg.CHANNEL, str(trouble))
        else:
            self._tell_answer(way, block)

    async def _ask(self, way: Way, tick: int) -> FactBlock:
        """Ask within the limits, the narrowest first: who waits for its host blocks no other."""
        host_id, zone = way.target.host_id, self._zones[way.target.zone_id]
        gates = (zone, self._all) if host_id is None else (self._hosts[host_id], zone, self._all)
        entered = 0
        try:
            for gate in gates:
                if not gate.try_enter():
                    await gate.enter()
                entered += 1
            return await self._guests.ask(
                way.target, way.host, tick, timeout=self._settings.timeout_seconds
            )
        finally:
            for gate in gates[:entered]:
                gate.leave()

    def _tell_answer(self, way: Way, block: FactBlock) -> None:
        target = way.target
        if self._broken_legs.pop(target.id, None) is not None:
            self._log.info("vm answers again over ssh", vm=target.name)
        try:
            told = self._readers[target.id].observe(block, target, self.thresholds)
        except Exception:  # the wall round reading one VM's answer
            self._walls.hit("facts")
            self._log.exception("facts could not be read", vm=target.name)
            path = PathTold(target_id=target.id, leg=None, detail="", at=block.received_at)
            self._sink.put(path)
            self._tell_unknown(way, "the answer crashed its reader; see the log")
            return
        observations, marks, readings = told
        self._sink.put(
            Observed(
                target_id=target.id,
                source=Source.SSH,
                observations=observations,
                observed_at=block.received_at,
                marks=marks,
                readings=readings,
                round_trip=block.round_trip,
            )
        )

    def _tell_broken(self, way: Way, leg: Leg, detail: str) -> None:
        target, detail = way.target, redact(detail)
        if self._broken_legs.get(target.id) != leg:
            self._log.warning("no way into vm", vm=target.name, leg=leg.value, reason=detail)
            self._broken_legs[target.id] = leg
        self._sink.put(PathTold(target_id=target.id, leg=leg, detail=detail, at=self._clock.now()))
        self._tell_unknown(way, f"no way into the VM: {leg.spoken}: {detail}")

    def _tell_unknown(self, way: Way, reason: str) -> None:
        now = self._clock.now()
        target = way.target
        self._sink.put(
            Observed(
                target_id=target.id,
                source=Source.SSH,
                observations=tuple(
                    Observation(target.id, probe.name, Source.SSH, Unknown(reason), now)
                    for probe in PROBES_OF[target.role]
                ),
                observed_at=now,
            )
        )
