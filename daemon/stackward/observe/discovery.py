"""Which system VMs there are: `listSystemVms` again and again, the database beside it.

The API is the first witness. Where it does not answer, the database (if there is one) lists the
fleet instead, so that the VMs stay known; what only the API can say then grows old by itself.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from stackward.catalog.probes import observe_database, observe_target
from stackward.catalog.redact import redact
from stackward.errors import TransportError
from stackward.model.event import Observed, SourceTold, TargetsListed
from stackward.model.target import Capabilities, Inventory, Target
from stackward.model.verdict import Source
from stackward.observe.equipment import Equipment
from stackward.ports import CloudApi, CloudDatabase

TOLD_PER_SLICE = 50  # a large fleet must not hold up the loop


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoverySettings:
    """Seconds between listings, and how long one may take in all."""

    interval_seconds: float = 20.0
    deadline_seconds: float = 60.0
    database_interval_seconds: float = 30.0
    capabilities_interval_seconds: float = 600.0


class Discovery:
    """Lists the cloud for ever. `capabilities` is what the API said it can do, None before that."""

    def __init__(
        self,
        api: CloudApi,
        database: CloudDatabase | None,
        equipment: Equipment,
        settings: DiscoverySettings,
    ) -> None:
        self._api = api
        self._database = database
        self._sink = equipment.sink
        self._clock = equipment.clock
        self._log = equipment.log
        self._random = equipment.random
        self._settings = settings
        self._targets: tuple[Target, ...] = ()
        self._was_up: dict[Source, bool] = {}
        self.capabilities: Capabilities | None = None

    async def run(self) -> None:
        """Watch both witnesses until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(self._settings.interval_seconds, self._list))
            group.create_task(
                self._every(self._settings.capabilities_interval_seconds, self._learn, retry=10.0)
            )
            if self._database is not None:
                group.create_task(
                    self._every(self._settings.database_interval_seconds, self._ask_database)
                )

    async def _every(
        self, interval: float, work: Callable[[], Awaitable[bool]], retry: float | None = None
    ) -> None:
        while True:
            started = self._clock.monotonic()
            went_well = await work()
            pause = interval if went_well or retry is None else min(retry, interval)
            spent = self._clock.monotonic() - started
            await self._clock.sleep(max(0.1, pause * self._random.uniform(0.9, 1.0) - spent))

    async def _list(self) -> bool:
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._settings.deadline_seconds):
                inventory = await self._api.inventory()
        except (TransportError, TimeoutError) as trouble:
            self._tell(Source.API, trouble)
            await self._list_from_database()
            return False
        latency = timedelta(seconds=self._clock.monotonic() - started)
        self._tell(Source.API, None, latency)
        await self._publish(inventory, Source.API)
        return True

    async def _list_from_database(self) -> None:
        if self._database is None:
            return
        try:
            async with asyncio.timeout(self._settings.deadline_seconds):
                inventory = await self._database.inventory()
        except (TransportError, TimeoutError) as trouble:
            self._tell(Source.DATABASE, trouble)
            return
        await self._publish(inventory, Source.DATABASE)

    async def _ask_database(self) -> bool:
        assert self._database is not None
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._settings.deadline_seconds):
                witness = await self._database.agents()
        except (TransportError, TimeoutError) as trouble:
            self._tell(Source.DATABASE, trouble)
            return False
        latency = timedelta(seconds=self._clock.monotonic() - started)
        self._tell(Source.DATABASE, None, latency)
        for target in self._targets:
            self._sink.put(
                Observed(
                    target_id=target.id,
                    source=Source.DATABASE,
                    observations=observe_database(witness, target),
                    observed_at=witness.observed_at,
                )
            )
        return True

    async def _learn(self) -> bool:
        try:
            async with asyncio.timeout(self._settings.deadline_seconds):
                self.capabilities = await self._api.capabilities()
        except (TransportError, TimeoutError) as trouble:
            self._log.debug("capabilities not told", reason=str(trouble))
            return False
        return True

    async def _publish(self, inventory: Inventory, source: Source) -> None:
        self._targets = inventory.targets
        self._sink.put(TargetsListed(inventory))
        for number, target in enumerate(inventory.targets, 1):
            self._sink.put(
                Observed(
                    target_id=target.id,
                    source=source,
                    observations=observe_target(target, inventory.observed_at),
                    observed_at=inventory.observed_at,
                )
            )
            if number % TOLD_PER_SLICE == 0:
                await self._clock.sleep(0)

    def _tell(
        self, source: Source, trouble: Exception | None, latency: timedelta | None = None
    ) -> None:
        """Tell the loop each time; the log only when it changes."""
        # A proxy's error page may quote the request, and that is signed.
        detail = "" if trouble is None else redact(str(trouble)) or "no answer within the deadline"
        is_up = trouble is None
        if self._was_up.get(source) is not is_up:
            if is_up:
                self._log.info("source answers", source=source.value)
            else:
                self._log.warning("source does not answer", source=source.value, reason=detail)
            self._was_up[source] = is_up
        self._sink.put(
            SourceTold(
                source=source, is_up=is_up, detail=detail, at=self._clock.now(), latency=latency
            )
        )
