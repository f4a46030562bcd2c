"""Everybody is asked in their own rhythm, and nobody waits for those who do not answer."""

import asyncio
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from stackward.catalog.probe import ProbeThresholds
from stackward.errors import Leg, TimedOut, Unreachable
from stackward.model.event import Observed, PathTold
from stackward.model.identity import HostId, TargetId, ZoneId
from stackward.model.target import Target
from stackward.model.verdict import ProbeName, Source, Unknown
from stackward.observe.prober import Prober, ProberSettings
from tests.builders import HOST, a_target
from tests.component.observe.watchtower import FakeGuests, Watchtower, running
from tests.fakes.virtual_loop import virtually

THRESHOLDS = ProbeThresholds(
    disk_used_ratio_max=0.95,
    inodes_used_ratio_max=0.95,
    memory_available_ratio_min=0.03,
    clock_offset_max=timedelta(seconds=60),
    mount_hung_after=timedelta(seconds=10),
    slow_stale_after=timedelta(minutes=5),
)


def a_prober(tower: Watchtower, guests: FakeGuests, **settings: float) -> Prober:
    numbers = {"interval_seconds": 10.0, "timeout_seconds": 5.0, **settings}
    return Prober(guests, tower.equipment, ProberSettings(**numbers), THRESHOLDS)  # type: ignore[arg-type]


def many(count: int, prefix: str = "v", **changes: object) -> list[Target]:
    return [a_target(f"{prefix}-{number}-VM", **changes) for number in range(1, count + 1)]


def gaps(moments: list[datetime]) -> list[float]:
    return [(later - earlier).total_seconds() for earlier, later in pairwise(moments)]


@virtually
async def test_hung_vms_delay_no_other():
    tower, guests = Watchtower(), FakeGuests()
    fleet = many(1000)
    guests.hung = {target.id for target in fleet[::20]}
    tower.publish(*fleet)
    async with running(a_prober(tower, guests, host_in_flight_max=100).run):
        await asyncio.sleep(45)
    asked: dict[TargetId, list[datetime]] = defaultdict(list)
    for target_id, at, _ in guests.asked:
        asked[target_id].append(at)
    for target in fleet:
        if target.id in guests.hung:
            continue
        assert len(asked[target.id]) >= 4
        assert max(gaps(asked[target.id])) <= 10.6
    assert len(guests.hung) == 50


@virtually
async def test_a_host_full_of_hung_vms_takes_no_place_from_the_rest_of_its_zone():
    tower, guests = Watchtower(), FakeGuests()
    hung = many(100, "v", host_id=HostId("hung"))
    well = many(20, "s")
    guests.hung = {target.id for target in hung}
    tower.publish(*hung, *well)
    limits = {"host_in_flight_max": 4, "zone_in_flight_max": 10, "in_flight_max": 20}
    async with running(a_prober(tower, guests, **limits).run):
        await asyncio.sleep(60)
    for target in well:
        assert max(gaps(guests.asked_at(target))) <= 10.6


@virtually
async def test_no_vm_is_ever_asked_twice_at_once_and_no_tick_comes_twice():
    tower, guests = Watchtower(), FakeGuests(latency=25.0)
    fleet = many(5)
    tower.publish(*fleet)
    async with running(a_prober(tower, guests, timeout_seconds=30.0).run):
        await asyncio.sleep(300)
    for target in fleet:
        assert guests.most[f"vm {target.id}"] == 1
    ticks = [tick for _, _, tick in guests.asked]
    assert len(set(ticks)) == len(ticks) > 40


@virtually
async def test_an_answer_slower_than_the_interval_makes_no_burst():
    tower, guests = Watchtower(), FakeGuests(latency=25.0)
    target = a_target()
    tower.publish(target)
    async with running(a_prober(tower, guests, timeout_seconds=30.0).run):
        await asyncio.sleep(300)
        guests.latency = 0.05
        await asyncio.sleep(300)
    assert min(gaps(guests.asked_at(target))) >= 9.0


@pytest.mark.parametrize(
    ("limit", "key"),
    [("host_in_flight_max", "host "), ("zone_in_flight_max", "zone "), ("in_flight_max", "all")],
)
def test_each_limit_is_kept(limit, key):
    @virtually
    async def play() -> None:
        tower, guests = Watchtower(), FakeGuests(latency=2.0)
        fleet = [
            a_target(
                f"v-{number}-VM",
                host_id=HostId(f"host-{number % 4}"),
                zone_id=ZoneId(f"zone-{number % 2}"),
            )
            for number in range(1, 101)
        ]
        tower.publish(*fleet)
        async with running(a_prober(tower, guests, **{limit: 7}).run):
            await asyncio.sleep(120)
        found = {name: most for name, most in guests.most.items() if name.startswith(key)}
        assert found
        assert set(found.values()) == {7}
        assert {target_id for target_id, _, _ in guests.asked} == {one.id for one in fleet}

    play()


@virtually
async def test_a_crash_in_reading_becomes_unknown_and_is_counted():
    tower, guests = Watchtower(), FakeGuests()
    target, other = a_target("v-2-VM"), a_target("s-1-VM")
    guests.crashing = {target.id}
    tower.publish(target, other)
    async with running(a_prober(tower, guests).run):
        await asyncio.sleep(25)
    observed = [event for event in tower.told(Observed) if event.target_id == target.id]
    assert len(observed) >= 2
    for event in observed:
        assert {type(one.verdict) for one in event.observations} == {Unknown}
    assert tower.equipment.walls.hits["facts"] == len(observed)
    assert tower.logged("facts could not be read")[0]["vm"] == "v-2-VM"
    # The way in is open all the same, and the other VM is asked as ever.
    assert {event.leg for event in tower.told(PathTold)} == {None}
    assert any(event.target_id == other.id for event in tower.told(Observed))


@virtually
async def test_a_broken_way_is_told_with_its_leg_and_is_unknown_about_the_vm():
    tower, guests = Watchtower(), FakeGuests()
    target = a_target("v-2-VM")
    guests.troubles = {target.id: Unreachable("connection refused", leg=Leg.INNER_TCP)}
    tower.publish(target)
    prober = a_prober(tower, guests)
    async with running(prober.run):
        await asyncio.sleep(35)
        guests.troubles = {target.id: TimedOut("no answer", leg=Leg.JUMP_TCP)}
        await asyncio.sleep(20)
        guests.troubles = {}
        await asyncio.sleep(20)
    paths = tower.told(PathTold)
    assert [event.leg for event in paths[:3]] == [Leg.INNER_TCP] * 3
    assert {event.leg for event in paths} == {Leg.INNER_TCP, Leg.JUMP_TCP}
    # That the way is open again is told by the answer.
    assert tower.told(Observed)[-1].round_trip is not None
    first = tower.told(Observed)[0]
    assert first.source is Source.SSH
    assert {type(one.verdict) for one in first.observations} == {Unknown}
    assert ProbeName.STORAGE not in {one.probe for one in first.observations}  # no SSVM
    # The log tells each change once, not each poll.
    assert [values["leg"] for values in tower.logged("no way into vm")] == ["inner-tcp", "jump-tcp"]
    assert len(tower.logged("vm answers again over ssh")) == 1
    assert sum(prober.failures.values()) == len([path for path in paths if path.leg is not None])
    assert prober.polls == len(guests.asked)


@virtually
async def test_a_transport_that_never_ends_is_cut_off_by_the_prober():
    tower, guests = Watchtower(), FakeGuests()
    target = a_target()
    guests.hung = {target.id}
    tower.publish(target)
    async with running(a_prober(tower, guests).run):
        await asyncio.sleep(60)
    paths = tower.told(PathTold)
    assert len(paths) >= 3
    assert {event.leg for event in paths} == {Leg.CHANNEL}
    assert guests.in_flight["all"] <= 1


@virtually
async def test_a_prober_that_cannot_go_on_ends_and_leaves_nobody_asking():
    class Guests(FakeGuests):
        async def retain(self, target_ids: frozenset[TargetId]) -> None:
            if len(target_ids) == 6:
                raise ZeroDivisionError("a bug")

    tower, guests = Watchtower(), Guests()
    prober = a_prober(tower, guests)

    async def run() -> None:
        async with asyncio.timeout(60):
            await prober.run()

    tower.publish(*many(5))
    asyncio.get_running_loop().call_later(15, lambda: tower.publish(*many(6)))
    with pytest.raises(ExceptionGroup):
        await run()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    before = len(guests.asked)
    tower.publish(*many(7))
    async with running(prober.run):
        await asyncio.sleep(15)
    assert len(guests.asked) >= before + 7


@virtually
async def test_the_first_polls_of_a_fleet_come_within_a_second_and_not_at_once():
    tower, guests = Watchtower(), FakeGuests()
    tower.publish(*many(100))
    async with running(a_prober(tower, guests).run):
        await asyncio.sleep(2)
    first = {asked[0]: asked[1] for asked in reversed(guests.asked)}
    moments = sorted(first.values())
    assert len(moments) == 100
    assert timedelta(seconds=0.5) < moments[-1] - moments[0] <= timedelta(seconds=1.1)


@virtually
async def test_the_later_polls_of_a_fleet_are_spread_over_the_interval():
    tower, guests = Watchtower(), FakeGuests()
    tower.publish(*many(200))
    async with running(a_prober(tower, guests).run):
        await asyncio.sleep(32)
    began = min(at for _, at, _ in guests.asked)
    by_second = Counter(int((at - began).total_seconds()) for _, at, _ in guests.asked)
    # 20 a second on average; all at once would be 200.
    assert all(by_second[second] < 60 for second in range(12, 30))


@virtually
async def test_what_was_known_of_a_way_ends_with_its_vm():
    tower, guests = Watchtower(), FakeGuests()
    target = a_target("v-2-VM")
    guests.troubles = {target.id: Unreachable("refused", leg=Leg.INNER_TCP)}
    tower.publish(target, host=HOST)
    prober = a_prober(tower, guests)
    async with running(prober.run):
        await asyncio.sleep(15)
        tower.publish(a_target("s-1-VM"))
        await asyncio.sleep(15)
        assert guests.retained[-1] == {"id-s-1-VM"}
        assert target.id not in prober._broken_legs


@virtually
async def test_what_the_other_side_said_of_a_broken_way_is_told_without_secrets():
    tower, guests = Watchtower(), FakeGuests()
    target = a_target("v-2-VM")
    guests.troubles = {target.id: Unreachable("banner: password=s3cr3t", leg=Leg.INNER_TCP)}
    tower.publish(target)
    async with running(a_prober(tower, guests).run):
        await asyncio.sleep(15)
    assert tower.told(PathTold)
    assert "s3cr3t" not in repr((tower.told(PathTold), tower.told(Observed)))
    assert "s3cr3t" not in repr(tower.logged("no way into vm"))
