"""Logs are followed, read record by record, and never read past what is still held back."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from stackward.catalog.records import RecordLimits
from stackward.catalog.signatures import Signature, SignatureSet
from stackward.config.patterns import load_patterns
from stackward.core.state import LogMemory
from stackward.errors import Leg, Unreachable
from stackward.model.event import Sighted
from stackward.model.guest import LogChunk, LogPosition
from stackward.model.identity import TargetId, VmRole
from stackward.model.sighting import EventClass, Severity, Sighting
from stackward.observe.tailer import Tailer, TailerSettings
from tests.builders import a_position, a_state, a_target
from tests.component.observe.watchtower import FakeGuests, Watchtower, running
from tests.fakes.virtual_loop import virtually

VM = TargetId("id-v-2-VM")
READY = b"2026-03-01 12:00:05,123 INFO  [cloud.agent.Agent] (Agent-Handler-2:null) Ready"
TROUBLE = b"2026-03-01 12:00:06,001 ERROR [utils.nio.Link] (main:null) It broke"
NOT_YET = RecordLimits().hold.total_seconds() * 2 / 3
FRAME = b"\tat com.cloud.utils.nio.Link.unwrap(Link.java:1)"


def signature(name: str, word: str, event: EventClass) -> Signature:
    return Signature(
        name=name,
        event=event,
        severity=Severity.INFO,
        match=lambda text: {} if word in text else None,
    )


def signatures(*known: Signature) -> SignatureSet:
    return SignatureSet(known, scan=lambda _: range(len(known)))


KNOWN = signatures(
    signature("ready", "Ready", EventClass.AGENT_READY),
    signature("broke", "It broke", EventClass.TLS_FAILURE),
)


class Tail:
    """A tailer over one VM's log."""

    def __init__(self, **resume: LogPosition) -> None:
        self.tower, self.guests = Watchtower(), FakeGuests()
        self.tailer = Tailer(
            self.guests,
            self.tower.equipment,
            TailerSettings(),
            KNOWN,
            {TargetId(f"id-{name.replace('_', '-')}"): at for name, at in resume.items()},
        )
        self.script = self.guests.logs.setdefault(VM, [])
        self._end = a_position(1000)
        self.tower.publish(a_target())

    def running(self):
        return running(self.tailer.run)

    def write(self, *lines: bytes, gap: int | None = 0, generation: int = 1) -> LogChunk:
        """Lines arrive at the end of the log."""
        start = self._end
        if generation != start.generation:
            start = a_position(0, generation)
        size = sum(len(line) + 1 for line in lines)
        self._end = start.at(start.offset + size)
        chunk = LogChunk(
            data=b"".join(line + b"\n" for line in lines),
            start=start,
            end=self._end,
            received_at=self.tower.clock.now(),
            gap_bytes_min=gap,
        )
        self.script.append(chunk)
        return chunk

    @property
    def told(self) -> list[Sighted]:
        return self.tower.told(Sighted)

    @property
    def sightings(self) -> list[Sighting]:
        return [sighting for event in self.told for sighting in event.sightings]

    @property
    def events(self) -> list[EventClass]:
        return [sighting.event for sighting in self.sightings]


@virtually
async def test_it_resumes_from_the_place_that_was_kept():
    tail = Tail(v_2_VM=a_position(777))
    async with tail.running():
        await asyncio.sleep(1)
    assert [(target_id, at) for target_id, at, _ in tail.guests.followed] == [(VM, a_position(777))]


@virtually
async def test_without_a_place_it_begins_where_the_transport_does():
    tail = Tail()
    async with tail.running():
        tail.write()
        await asyncio.sleep(1)
        assert tail.guests.followed[0][1] is None
        assert tail.tailer.positions == {VM: a_position(1000)}
        assert tail.told[-1].position == a_position(1000)


@virtually
async def test_a_line_that_is_known_becomes_a_sighting_at_its_place():
    tail = Tail()
    async with tail.running():
        tail.write(b"something else", READY)
        await asyncio.sleep(1)
        (sighting,) = tail.sightings
        assert (sighting.event, sighting.pattern) == (EventClass.AGENT_READY, "ready")
        assert sighting.line_start.offset == 1000 + len(b"something else") + 1
        assert tail.tailer.lines == 2


@virtually
async def test_a_held_record_is_given_out_when_its_time_is_up():
    tail = Tail()
    async with tail.running():
        tail.write(TROUBLE)
        await asyncio.sleep(NOT_YET)
        assert tail.events == []
        await asyncio.sleep(0.2)
        assert tail.events == [EventClass.TLS_FAILURE]
        assert tail.told[-1].position == tail._end


@virtually
async def test_the_place_never_passes_a_record_that_is_held():
    tail = Tail()
    places: list[tuple[LogPosition | None, list[EventClass]]] = []
    async with tail.running():
        chunk = tail.write(READY, TROUBLE)
        await asyncio.sleep(NOT_YET)
        places.append((tail.tailer.positions[VM], list(tail.events)))
        tail.write(FRAME)
        await asyncio.sleep(NOT_YET)
        places.append((tail.tailer.positions[VM], list(tail.events)))
        await asyncio.sleep(1)
        places.append((tail.tailer.positions[VM], list(tail.events)))
    held = chunk.start.at(chunk.start.offset + len(READY) + 1)
    ready, broke = EventClass.AGENT_READY, EventClass.TLS_FAILURE
    assert places == [(held, [ready]), (held, [ready]), (tail._end, [ready, broke])]


@virtually
async def test_what_was_held_when_the_way_broke_is_read_again():
    tail = Tail()
    async with tail.running():
        chunk = tail.write(TROUBLE)
        tail.script.append(Unreachable("gone", leg=Leg.CHANNEL))
        await asyncio.sleep(5)
        assert tail.events == []
        assert tail.guests.followed[1][1] == chunk.start
        tail.script.append(chunk)
        await asyncio.sleep(1)
        assert tail.events == [EventClass.TLS_FAILURE]


@virtually
async def test_a_log_that_is_no_longer_followed_is_told_so():
    tail = Tail()
    async with tail.running():
        tail.write(READY)
        tail.script.append(Unreachable("gone", leg=Leg.CHANNEL))
        await asyncio.sleep(0.5)
        assert tail.told[-1].position is None
        tail.write()
        await asyncio.sleep(5)
        assert tail.told[-1].position == tail._end


@virtually
async def test_it_backs_off_between_two_attempts_up_to_a_minute():
    tail = Tail()
    tail.script.extend(Unreachable(f"refused {number}", leg=Leg.CHANNEL) for number in range(30))
    async with tail.running():
        await asyncio.sleep(900)
    begun = [at for _, _, at in tail.guests.followed]
    pauses = [later - earlier for earlier, later in pairwise(begun)]
    assert pauses[0] <= 1.1
    assert max(pauses) <= 61
    assert all(pause >= 25 for pause in pauses[8:])


@virtually
async def test_after_a_long_good_time_it_tries_again_at_once():
    tail = Tail()
    tail.script.extend(Unreachable("refused", leg=Leg.CHANNEL) for _ in range(10))
    async with tail.running():
        await asyncio.sleep(600)
        tail.write(READY)
        await asyncio.sleep(600)
        broken_at = tail.tower.clock.monotonic()
        tail.script.append(Unreachable("gone", leg=Leg.CHANNEL))
        await asyncio.sleep(5)
        assert tail.guests.followed[-1][2] - broken_at < 2


@virtually
async def test_a_reload_swaps_the_signatures_of_a_log_that_is_followed():
    tail = Tail()
    async with tail.running():
        tail.write(READY)
        await asyncio.sleep(1)
        tail.tailer.signatures = signatures(signature("ours", "Ready", EventClass.AGENT_STARTED))
        tail.write(READY)
        await asyncio.sleep(1)
        assert tail.events == [EventClass.AGENT_READY, EventClass.AGENT_STARTED]
        assert len(tail.guests.followed) == 1


PACK = r"""
patterns:
  - name: ours
    event: {event}
    severity: error
    message: 'broke at \d+'
    roles: [{role}]
    samples: {{match: [broke at 1], near_miss: [broke]}}
"""


@virtually
async def test_what_is_known_of_a_message_is_known_for_its_role_and_its_pack_alone(tmp_path):
    def pack(event: EventClass, role: VmRole) -> SignatureSet:
        file = tmp_path / f"{event}.yaml"
        file.write_text(PACK.format(event=event.value, role=role.value))
        return load_patterns([file], with_builtin=False)

    def told(target_id: TargetId) -> Counter[EventClass]:
        return Counter(
            sighting.event
            for event in tail.told
            if event.target_id == target_id
            for sighting in event.sightings
        )

    def write() -> None:
        chunk = tail.write(*(TROUBLE + b" or broke at %d" % number for number in range(6)))
        for name in names:
            tail.guests.logs.setdefault(TargetId(f"id-{name}"), []).append(chunk)

    tail = Tail()
    names = ("s-1-VM", "v-4-VM", "s-5-VM")
    tail.tower.publish(*map(a_target, names))
    tail.tailer.signatures = pack(EventClass.DISK_FULL, VmRole.SECONDARY_STORAGE)
    async with tail.running():
        write()
        await asyncio.sleep(1)
        seen = [told(TargetId(f"id-{name}")) for name in names]
        assert seen == [{EventClass.DISK_FULL: 6}, {}, {EventClass.DISK_FULL: 6}]
        tail.tailer.signatures = pack(EventClass.OOM, VmRole.CONSOLE_PROXY)
        write()
        await asyncio.sleep(1)
        seen = [told(TargetId(f"id-{name}")) for name in names]
    assert seen == [{EventClass.DISK_FULL: 6}, {EventClass.OOM: 6}, {EventClass.DISK_FULL: 6}]


@virtually
async def test_a_crash_in_one_record_is_counted_and_the_place_moves_on():
    def crash(_text: str) -> None:
        raise ZeroDivisionError("a bug in a pattern")

    tail = Tail()
    crashing = replace(KNOWN.signatures[1], match=crash)
    tail.tailer.signatures = SignatureSet(
        (KNOWN.signatures[0], crashing), scan=lambda text: [0] if "Ready" in text else [1]
    )
    async with tail.running():
        tail.write(READY, TROUBLE, READY)
        await asyncio.sleep(1)
        assert tail.events == [EventClass.AGENT_READY] * 2
        assert tail.tower.equipment.walls.hits["log-record"] == 1
        assert tail.tailer.positions[VM] == tail._end
        assert len(tail.guests.followed) == 1


@virtually
async def test_a_gap_is_told_once():
    tail = Tail()
    async with tail.running():
        tail.write(READY)
        tail.write(READY, gap=500, generation=2)
        tail.write(READY, gap=0, generation=2)
        await asyncio.sleep(1)
        assert [event.gap_bytes_min for event in tail.told if event.gap_bytes_min] == [500]
        assert len(tail.events) == 3


@virtually
async def test_time_never_goes_back_in_what_is_told():
    tail = Tail()
    async with tail.running():
        tail.write(TROUBLE)
        await asyncio.sleep(1)
        chunk = tail.write(READY)
        tail.script[-1] = chunk._replace(received_at=chunk.received_at - timedelta(seconds=1))
        await asyncio.sleep(1)
    moments = [event.at for event in tail.told]
    assert moments == sorted(moments)


@virtually
async def test_a_migrated_vm_is_followed_anew_from_where_it_was_read_to():
    tail = Tail()
    async with tail.running():
        tail.write(READY)
        await asyncio.sleep(1)
        tail.tower.publish(a_target(control_address="169.254.9.9"))
        await asyncio.sleep(1)
        assert [at for _, at, _ in tail.guests.followed] == [None, tail._end]


@virtually
async def test_a_burst_of_one_vm_lets_the_others_have_their_turn():
    tail = Tail()
    other = a_target("v-3-VM")
    tail.tower.publish(a_target(), other)
    for _ in range(200):
        tail.write(*(READY for _ in range(50)))
    tail.guests.logs[other.id] = [tail.write(READY)]
    tail.script.pop()
    async with tail.running():
        await asyncio.sleep(1)
    order = [event.target_id for event in tail.told if event.sightings]
    assert order.index(other.id) < 20
    counted = sum(event.counted.get(EventClass.AGENT_READY, 0) for event in tail.told)
    assert len(tail.sightings) + counted == 200 * 50 + 1


class CancelledAsItBreaks(FakeGuests):
    """Whoever follows is cancelled in the moment in which the connection breaks."""

    async def follow(self, target, host, resume):
        self.followed.append((target.id, resume, self.clock.monotonic()))
        await asyncio.sleep(1)
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)
        if self.followed:  # as always
            raise Unreachable("it is not watched any more", leg=Leg.CHANNEL)
        yield


@virtually
async def test_who_is_cancelled_as_the_connection_breaks_does_not_follow_on():
    tower, guests = Watchtower(), CancelledAsItBreaks()
    tower.publish(a_target())
    tailer = Tailer(guests, tower.equipment, TailerSettings(), KNOWN, {})
    async with running(tailer.run):
        await asyncio.sleep(600)
    assert len(guests.followed) == 1


@virtually
async def test_a_vm_that_goes_as_its_connection_breaks_ends_nothing_else():
    tower, guests = Watchtower(), CancelledAsItBreaks()
    stays, goes = a_target("s-1-VM"), a_target("v-2-VM")
    tower.publish(stays, goes)
    tailer = Tailer(guests, tower.equipment, TailerSettings(), KNOWN, {})
    async with running(tailer.run):
        for _ in range(20):
            await asyncio.sleep(20)
            tower.publish(stays)
    assert {target_id for target_id, _, _ in guests.followed[2:]} == {stays.id}


@virtually
async def test_the_counters_of_a_log_go_on_when_it_is_followed_anew():
    tail = Tail()
    async with tail.running():
        first = tail.write(b"\tat nobody.knows(Whose.java:1)", READY)
        await asyncio.sleep(1)
        tail.script.append(Unreachable("gone", leg=Leg.CHANNEL))
        await asyncio.sleep(5)
        last = tail.write(READY)
        await asyncio.sleep(1)
    flow = tail.told[-1].flow
    assert flow is not None
    assert (flow.lines, flow.unparsed, flow.behind_bytes) == (3, 1, 0)
    assert flow.bytes == len(first.data) + len(last.data)
    assert flow.last_line_at == last.received_at


@virtually
async def test_a_chunk_with_more_behind_it_tells_how_far_back_it_is():
    tail = Tail()
    async with tail.running():
        chunk = tail.write(READY, FRAME)
        tail.script[-1] = chunk._replace(behind_bytes=4096)
        await asyncio.sleep(1)
    flow = tail.told[-1].flow
    assert flow is not None
    assert flow.behind_bytes == 4096
    assert flow.newest_logged_at == datetime(2026, 3, 1, 12, 0, 5, 123000, tzinfo=UTC)


@virtually
async def test_the_place_of_a_vm_that_is_gone_is_forgotten():
    tail = Tail()
    async with tail.running():
        tail.write(READY)
        await asyncio.sleep(1)
        assert list(tail.tailer.positions) == [VM]
        tail.tower.publish(a_target("s-1-VM"))
        await asyncio.sleep(1)
        assert VM not in tail.tailer.positions
        assert VM not in tail.tailer.flows


@virtually
async def test_a_vm_that_is_back_is_followed_from_where_the_fleets_memory_says():
    tail = Tail()
    async with tail.running():
        await asyncio.sleep(1)
        tail.tower.publish(a_target("s-1-VM"))
        await asyncio.sleep(1)
        back = a_state(target=a_target(), log=LogMemory(read_to=a_position(4711)))
        tail.tower.publish(targets={VM: back})
        await asyncio.sleep(1)
    assert (VM, a_position(4711)) in [(target_id, at) for target_id, at, _ in tail.guests.followed]
