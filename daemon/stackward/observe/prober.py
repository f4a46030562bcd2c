"""Asks every reachable VM for its facts, each on its own rhythm, bounded in all directions.

Bounds: one question at a time per VM, a limit per hypervisor host, per zone, and in all. A VM that
does not answer holds its place for one deadline at most. The containment wall stands round reading
one answer: what crashes there becomes Unknown for every probe of that VM.
"""

import asyncio
import itertools
from collections import Counter, defaultdict
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from stackward.catalog.fact_sections import FactReader
from stackward.catalog.probe import ProbeThresholds
from stackward.catalog.probes import PROBES_INSIDE, observe_block
from stackward.catalog.redact import redact
from stackward.errors import Leg, TransportError
from stackward.model.event import Observed, PathTold
from stackward.model.guest import FactBlock
from stackward.model.identity import HostId, TargetId, ZoneId
from stackward.model.verdict import Observation, Source, Unknown
from stackward.observe.equipment import Equipment
from stackward.observe.roster import Roster, Way
from stackward.ports import Guests


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
        self._all = asyncio.Semaphore(settings.in_flight_max)
        self._zones: defaultdict[ZoneId, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(settings.zone_in_flight_max)
        )
        self._hosts: defaultdict[HostId, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(settings.host_in_flight_max)
        )
        self._readers: defaultdict[TargetId, FactReader] = defaultdict(FactReader)
        self._broken_legs: dict[TargetId, Leg | None] = {}
        self._ticks = itertools.count(1)
        self.polls = 0
        self.failures: Counter[str] = Counter()

    async def run(self) -> None:
        """Poll until cancelled."""
        await self._roster.run()

    async def _retain(self, target_ids: frozenset[TargetId]) -> None:
        for gone in self._broken_legs.keys() - target_ids:
            del self._broken_legs[gone]
        for gone in self._readers.keys() - target_ids:
            del self._readers[gone]
        await self._guests.retain(target_ids)

    async def _poll_for_ever(self, target_id: TargetId) -> None:
        interval = self._settings.interval_seconds
        # A fleet is looked at once within a second, so that it is soon known; from then on its
        # polls are spread evenly, each VM at its own place in the interval.
        await self._clock.sleep(self._random.uniform(0, min(interval, 1.0)))
        due = self._clock.monotonic() - interval * self._random.uniform(0, 0.9)
        while True:
            # A channel outlives its task, and no tick may come twice on one: one count for all.
            await self._poll(self._roster.way(target_id), next(self._ticks))
            due += interval * self._random.uniform(0.95, 1.05)
            now = self._clock.monotonic()
            if due < now:  # slower than its interval: no burst to catch up
                due = now + 0.05 * interval
            await self._clock.sleep(due - now)

    async def _poll(self, way: Way, tick: int) -> None:
        self.polls += 1
        host_id = way.target.host_id
        # The narrowest limit first: who waits for its own host keeps no place of the others.
        host: AbstractAsyncContextManager[object] = (
            nullcontext() if host_id is None else self._hosts[host_id]
        )
        try:
            async with (
                host,
                self._zones[way.target.zone_id],
                self._all,
                asyncio.timeout(self._settings.timeout_seconds + 5),
            ):
                block = await self._guests.ask(
                    way.target, way.host, tick, timeout=self._settings.timeout_seconds
                )
        except TransportError as trouble:
            self.failures[trouble.leg or Leg.CHANNEL] += 1
            self._tell_broken(way, trouble.leg or Leg.CHANNEL, str(trouble))
        except TimeoutError:
            self.failures[Leg.CHANNEL] += 1
            self._tell_broken(way, Leg.CHANNEL, f"{way.target.name} did not answer in time")
        else:
            self._tell_answer(way, block)

    def _tell_answer(self, way: Way, block: FactBlock) -> None:
        target = way.target
        if self._broken_legs.pop(target.id, None) is not None:
            self._log.info("vm answers again over ssh", vm=target.name)
        self._sink.put(PathTold(target_id=target.id, leg=None, detail="", at=block.received_at))
        try:
            observations, marks, readings = observe_block(
                block, target, self.thresholds, self._readers[target.id]
            )
        except Exception:  # the wall round reading one VM's answer
            self._walls.hit("facts")
            self._log.exception("facts could not be read", vm=target.name)
            self._tell_unknown(way, "the answer crashed its reader; see the log")
            return
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
                    for probe in PROBES_INSIDE
                    if target.role in probe.roles
                ),
                observed_at=now,
            )
        )
