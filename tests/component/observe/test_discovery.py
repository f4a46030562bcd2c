"""The cloud is listed again and again; the database stands in where the API does not answer."""

import asyncio
from itertools import pairwise
from typing import Any

from stackward.errors import Garbled, RefusalKind, Refused, TimedOut, TransportError, Unreachable
from stackward.model.event import Observed, SourceTold, TargetsListed
from stackward.model.target import AgentState, Capabilities, DatabaseWitness, Inventory, Witness
from stackward.model.verdict import Failed, Passed, ProbeName, Source
from stackward.observe.discovery import Discovery, DiscoverySettings
from tests.builders import a_target, an_inventory
from tests.component.observe.watchtower import Watchtower, running
from tests.fakes.virtual_loop import virtually


class FakeSource:
    """API and database: answers, raises `trouble`, or hangs."""

    def __init__(self, tower: Watchtower, witness: Witness) -> None:
        self.clock = tower.clock
        self.witness = witness
        self.targets = (a_target(),)
        self.agent = AgentState.UP
        self.trouble: TransportError | None = None
        self.trouble_of_capabilities: TransportError | None = None
        self.is_hanging = False
        self.listed_at: list[float] = []
        self.learnt_at: list[float] = []

    async def _answer(self) -> None:
        await asyncio.sleep(1e9 if self.is_hanging else 0.1)
        if self.trouble is not None:
            raise self.trouble

    async def inventory(self) -> Inventory:
        self.listed_at.append(self.clock.monotonic())
        await self._answer()
        return an_inventory(*self.targets, at=self.clock.now(), witness=self.witness)

    async def agents(self) -> DatabaseWitness:
        await self._answer()
        states = {target.id: self.agent for target in self.targets}
        return DatabaseWitness(self.clock.now(), states)

    async def capabilities(self) -> Capabilities:
        self.learnt_at.append(self.clock.monotonic())
        await asyncio.sleep(0.1)
        if self.trouble_of_capabilities is not None:
            raise self.trouble_of_capabilities
        return Capabilities(version="4.20.1.0", commands={"listApis": frozenset()})

    async def close(self) -> None:
        pass


class Watch:
    def __init__(self, *, has_database: bool = True) -> None:
        self.tower = Watchtower()
        self.api = FakeSource(self.tower, Witness.API)
        self.database = FakeSource(self.tower, Witness.DATABASE)
        api: Any = self.api  # the reads are all that is used
        self.discovery = Discovery(
            api,
            self.database if has_database else None,
            self.tower.equipment,
            DiscoverySettings(),
        )

    def running(self):
        return running(self.discovery.run)

    @property
    def witnesses(self) -> list[Witness]:
        return [event.inventory.witness for event in self.tower.told(TargetsListed)]

    @property
    def version(self) -> str | None:
        known = self.discovery.capabilities
        return None if known is None else known.version

    def told_of(self, source: Source) -> list[bool]:
        return [event.is_up for event in self.tower.told(SourceTold) if event.source is source]


@virtually
async def test_the_cloud_is_listed_every_interval_and_each_vm_is_told():
    watch = Watch()
    async with watch.running():
        await asyncio.sleep(200)
    assert 10 <= len(watch.api.listed_at) <= 12
    assert all(17 <= later - earlier <= 21 for earlier, later in pairwise(watch.api.listed_at))
    assert set(watch.witnesses) == {Witness.API}
    api = [event for event in watch.tower.told(Observed) if event.source is Source.API]
    assert {one.probe for event in api for one in event.observations} == {
        ProbeName.CLOUD_STATE,
        ProbeName.CLOUD_AGENT,
    }
    assert all(event.latency is not None for event in watch.tower.told(SourceTold))


@virtually
async def test_while_the_api_is_down_the_database_lists_the_fleet():
    watch = Watch()
    async with watch.running():
        await asyncio.sleep(45)
        watch.api.trouble = Unreachable("connection refused")
        await asyncio.sleep(100)
        watch.api.trouble = None
        await asyncio.sleep(45)
    assert watch.witnesses[0] is Witness.API
    assert Witness.DATABASE in watch.witnesses
    assert watch.witnesses[-1] is Witness.API
    # Each failure is an event; the log tells the change alone.
    assert watch.told_of(Source.API).count(False) >= 4
    down = [
        values
        for values in watch.tower.logged("source does not answer")
        if values["source"] == "api"
    ]
    assert [values["reason"] for values in down] == ["connection refused"]
    up = [v for v in watch.tower.logged("source answers") if v["source"] == "api"]
    assert len(up) == 2


@virtually
async def test_without_a_database_nothing_is_listed_while_the_api_is_down():
    watch = Watch(has_database=False)
    watch.api.trouble = Garbled("an HTML page")
    async with watch.running():
        await asyncio.sleep(100)
    assert watch.witnesses == []
    assert watch.told_of(Source.DATABASE) == []
    assert set(watch.told_of(Source.API)) == {False}


@virtually
async def test_with_both_down_it_goes_on_asking():
    watch = Watch()
    watch.api.trouble = watch.database.trouble = TimedOut("no answer")
    async with watch.running():
        await asyncio.sleep(100)
        assert watch.witnesses == []
        watch.api.trouble = None
        await asyncio.sleep(25)
        assert watch.witnesses[-1] is Witness.API
    down = [values["source"] for values in watch.tower.logged("source does not answer")]
    assert sorted(map(str, down)) == ["api", "database"]


@virtually
async def test_an_api_that_hangs_is_given_up_at_the_deadline():
    watch = Watch()
    watch.api.is_hanging = True
    async with watch.running():
        await asyncio.sleep(150)
    assert len(watch.api.listed_at) >= 2
    reason = watch.tower.logged("source does not answer")[0]["reason"]
    assert reason == "no answer within the deadline"
    assert set(watch.witnesses) == {Witness.DATABASE}


@virtually
async def test_the_database_speaks_of_the_vms_that_were_listed():
    watch = Watch()
    watch.database.agent = AgentState.DISCONNECTED
    async with watch.running():
        await asyncio.sleep(100)
    said = [
        one.verdict
        for event in watch.tower.told(Observed)
        if event.source is Source.DATABASE
        for one in event.observations
        if one.probe is ProbeName.DATABASE_AGENT
    ]
    assert said
    assert {type(verdict) for verdict in said} == {Failed}
    assert Passed not in {type(verdict) for verdict in said}


@virtually
async def test_capabilities_are_asked_again_soon_until_they_were_told():
    watch = Watch()
    watch.api.trouble_of_capabilities = Refused("no", kind=RefusalKind.CREDENTIALS)
    async with watch.running():
        await asyncio.sleep(55)
        before = watch.version
        assert len(watch.api.learnt_at) >= 5
        watch.api.trouble_of_capabilities = None
        await asyncio.sleep(15)
        assert (before, watch.version) == (None, "4.20.1.0")
        asked = len(watch.api.learnt_at)
        await asyncio.sleep(300)
        assert len(watch.api.learnt_at) == asked


@virtually
async def test_capabilities_once_known_outlive_a_bad_hour():
    watch = Watch()
    async with watch.running():
        await asyncio.sleep(5)
        watch.api.trouble_of_capabilities = Unreachable("gone")
        await asyncio.sleep(3600)
        assert watch.version == "4.20.1.0"


@virtually
async def test_a_proxy_that_quotes_the_signed_request_puts_it_nowhere():
    watch = Watch()
    watch.api.trouble = Garbled("HTTP 502, beginning '/client/api?apiKey=abc&signature=s3cr3t'")
    async with watch.running():
        await asyncio.sleep(45)
    said = [event.detail for event in watch.tower.told(SourceTold) if event.source is Source.API]
    assert said
    assert "s3cr3t" not in repr((said, watch.tower.logged("source does not answer")))
