"""Logs of management servers are followed, measured, joined with the VMs, and never block."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from stackward.catalog.log_files import LogSource
from stackward.catalog.signatures import SignatureSet
from stackward.config.patterns import load_patterns
from stackward.errors import Unreachable
from stackward.model.correlation import Concern, LogLine
from stackward.model.event import ManagementLogTold, ManagementSaid
from stackward.model.guest import LogChunk, LogPosition
from stackward.model.log_flow import DropReason
from stackward.model.sighting import EventClass
from stackward.observe.management_logs import (
    ClockMeter,
    FollowedLog,
    ManagementLogs,
    ManagementLogsSettings,
)
from tests.builders import HOST, a_position, a_target
from tests.component.observe.watchtower import Watchtower, running
from tests.fakes.clock import EPOCH, LoopClock
from tests.fakes.log_files import MemoryLogFiles
from tests.fakes.virtual_loop import virtually

SSVM = a_target("s-12-VM", private_address="192.0.2.9")
CPVM = a_target("v-13-VM", private_address="192.0.2.10")
E = EventClass


@cache
def patterns() -> SignatureSet:
    return load_patterns((), source=LogSource.MANAGEMENT)


class Desk:
    """One or more followed logs beside a fleet of two VMs."""

    def __init__(self, *names: str, zone: str = "UTC", is_local: bool = True, resume=None) -> None:
        self.tower = Watchtower()
        self.files = MemoryLogFiles(self.tower.clock)
        self.zone = ZoneInfo(zone) if zone != "UTC" else UTC
        self.logs = ManagementLogs(
            [
                FollowedLog(name=name, zone=self.zone, files=self.files, is_local=is_local)
                for name in names or ("ms-1",)
            ],
            self.tower.equipment,
            ManagementLogsSettings(),
            patterns(),
            resume,
        )
        self.behind = timedelta(0)  # by how much the server's clock is ahead of ours
        self.tower.publish(SSVM, CPVM)

    def running(self):
        return running(self.logs.run)

    def say(self, *messages: str, request: str = "", name: str = "ms-1", level: str = "WARN"):
        at = (self.tower.clock.now() + self.behind).astimezone(self.zone)
        lines = []
        for message in messages:
            first, *trace = message.split("\n")
            stamp = f"{at:%Y-%m-%d %H:%M:%S},{at.microsecond // 1000:03d}"
            head = f"{stamp} {level:<5} [c.c.X] (pool-1:ctx-{request}) (logid:{request}) "
            lines += [head + first, *trace]
        self.files.write(name, *lines)

    def lines_of(self, target) -> list[LogLine]:
        said = self.tower.told(ManagementSaid)
        return [line for one in said if one.target_id == target.id for line in one.lines]

    def events_of(self, target) -> list[EventClass]:
        return [line.event for line in self.lines_of(target)]

    @property
    def of_server(self) -> list[EventClass]:
        told = self.tower.told(ManagementLogTold)
        return [line.event for one in told for line in one.lines]


@virtually
async def test_a_line_reaches_the_vm_that_it_names_by_name_number_address_or_row():
    desk = Desk()
    async with desk.running():
        await asyncio.sleep(1)
        desk.say("Unable to start secondary storage VM [12] due to [x].")
        desk.say("Console proxy agent disconnected, proxy: v-13-VM")
        desk.say("Connection from /192.0.2.9 closed but no cleanup was done.")
        desk.say("Seq 4-7: Sending  { Cmd , MgmtId: 1, via: 4(s-12-VM), Ver: v1 }", level="DEBUG")
        desk.say("Host 4 is disconnecting with event AgentDisconnected", level="INFO")
        await asyncio.sleep(1)
    assert desk.events_of(SSVM) == [
        E.SYSTEMVM_START_FAILURE,
        E.AGENT_DISCONNECT_EVENT,
        E.AGENT_DISCONNECT_EVENT,
    ]
    assert desk.events_of(CPVM) == [E.AGENT_DISCONNECT_EVENT]
    assert {line.concern for line in desk.lines_of(SSVM)} == {Concern.VM}


@virtually
async def test_the_first_failure_of_a_request_finds_its_vm_though_only_its_wrapper_names_it():
    desk = Desk()
    async with desk.running():
        await asyncio.sleep(1)
        desk.say("Unable to establish a connection between host 2 and storage pool 1", request="aa")
        desk.say("Insufficient capacity ", request="aa")
        desk.say("Insufficient capacity ", request="bb")
        desk.say("Unable to start secondary storage VM [12] due to [x].", request="aa")
        desk.say("Unexpected exception while it is about system VMs", request="aa")
        await asyncio.sleep(1)
    lines = desk.lines_of(SSVM)
    assert [line.event for line in lines][:3] == [
        E.STORAGE_FAILURE,
        E.CAPACITY,
        E.SYSTEMVM_START_FAILURE,
    ]
    assert {line.job for line in lines} == {"aa"}
    assert desk.lines_of(CPVM) == []


@virtually
async def test_a_line_of_a_hypervisor_host_reaches_its_vms_as_such():
    desk = Desk()
    async with desk.running():
        await asyncio.sleep(1)
        desk.say(f"Seq 2-7: Sending  {{ Cmd , via: 2({HOST.name}), Ver: v1 }}", level="DEBUG")
        desk.say("Host 2 is down.  Starting HA on the VMs")
        await asyncio.sleep(1)
    for vm in (SSVM, CPVM):
        assert [(one.event, one.concern) for one in desk.lines_of(vm)] == [
            (E.HA_ACTION, Concern.HOST)
        ]


@virtually
async def test_what_concerns_the_server_is_told_of_the_server():
    desk = Desk()
    async with desk.running():
        await asyncio.sleep(1)
        desk.say("Stopping CloudStack management server", level="INFO")
        desk.say("Caught: \njava.lang.OutOfMemoryError: Java heap space", level="ERROR")
        await asyncio.sleep(1)
    assert desk.of_server == [E.MGMT_STOPPED, E.OOM]


@virtually
async def test_a_trace_is_joined_and_its_deepest_cause_stands_in_the_line():
    desk = Desk()
    async with desk.running():
        await asyncio.sleep(1)
        desk.say(
            "Unable to start proxy [13] due to [x].\n"
            "com.cloud.utils.exception.CloudRuntimeException: x\n"
            "\tat a.b.C.d(C.java:1)\n"
            "Caused by: com.cloud.exception.InsufficientAddressCapacityException: none, password=pw"
        )
        await asyncio.sleep(1)
    (line,) = desk.lines_of(CPVM)
    assert line.event is E.ADDRESS_EXHAUSTED
    assert "Caused by: com.cloud.exception.InsufficientAddressCapacity" in line.text
    assert "pw" not in line.text


@virtually
async def test_a_servers_clock_is_measured_by_its_lines_and_its_zone_is_ours_to_know():
    desk = Desk(zone="Asia/Kolkata", is_local=False)
    desk.behind = timedelta(seconds=60)
    async with desk.running():
        await asyncio.sleep(1)
        for _ in range(4):
            desk.say("Started", level="DEBUG")
            await asyncio.sleep(1)
        desk.say("Console proxy agent disconnected, proxy: v-13-VM")
        said_at = desk.tower.clock.now()
        await asyncio.sleep(1)
    (line,) = desk.lines_of(CPVM)
    assert line.clock_offset is not None
    assert abs(line.clock_offset - timedelta(seconds=60)) < timedelta(seconds=1)
    assert abs(line.at - said_at) < timedelta(seconds=1)


@virtually
async def test_a_log_that_cannot_be_followed_is_told_and_tried_again_with_longer_pauses():
    desk = Desk("ms-1", "ms-2")
    desk.files.break_off("ms-1", Unreachable("no way to it"))
    async with desk.running():
        await asyncio.sleep(30)
        assert 3 <= len([name for name, _ in desk.files.followed if name == "ms-1"]) <= 9
        told = [one for one in desk.tower.told(ManagementLogTold) if one.name == "ms-1"]
        assert [one.detail for one in told if not one.is_followed][-1] == "no way to it"
        desk.say("Console proxy agent disconnected, proxy: v-13-VM", name="ms-2")
        desk.files.mend("ms-1")
        await asyncio.sleep(61)
        desk.say("Console proxy agent disconnected, proxy: v-13-VM", name="ms-1")
        await asyncio.sleep(1)
    assert [line.log for line in desk.lines_of(CPVM)] == ["ms-2", "ms-1"]


@virtually
async def test_after_a_break_it_is_read_on_where_it_stood():
    desk = Desk()
    async with desk.running():
        await asyncio.sleep(1)
        desk.say("Console proxy agent disconnected, proxy: v-13-VM")
        await asyncio.sleep(1)
        desk.files.break_off("ms-1", Unreachable("cut"))
        await asyncio.sleep(1)
        desk.say("Console proxy agent disconnected, proxy: v-13-VM")
        desk.files.mend("ms-1")
        await asyncio.sleep(90)
    assert len(desk.lines_of(CPVM)) == 2


@virtually
async def test_a_place_that_was_saved_is_where_it_begins():
    desk = Desk(resume={"ms-1": a_position(0)})
    desk.say("Console proxy agent disconnected, proxy: v-13-VM")
    async with desk.running():
        await asyncio.sleep(2)
    assert len(desk.lines_of(CPVM)) == 1
    told = desk.tower.told(ManagementLogTold)
    assert told[-1].position is not None


@virtually
async def test_every_minute_in_which_it_speaks_is_told_once():
    desk = Desk()
    async with desk.running():
        for _ in range(30):
            desk.say("Zone 1 is fine", level="DEBUG")
            await asyncio.sleep(10)
    minutes = [one.spoke_at for one in desk.tower.told(ManagementLogTold) if one.spoke_at]
    assert len(minutes) == len(set(minutes))
    assert 4 <= len(minutes) <= 6


class CountingClock(LoopClock):
    """Counts how often somebody gave others their turn."""

    turns = 0

    async def sleep(self, seconds: float) -> None:
        self.turns += seconds == 0
        await super().sleep(seconds)


@virtually
async def test_a_long_burst_lets_others_have_their_turn():
    desk, clock = Desk(), CountingClock()
    desk.logs = ManagementLogs(
        [FollowedLog(name="ms-1", zone=UTC, files=desk.files)],
        replace(desk.tower.equipment, clock=clock),
        ManagementLogsSettings(),
        patterns(),
    )
    async with desk.running():
        await asyncio.sleep(1)
        desk.say(*["Zone 1 is fine"] * 5000, level="DEBUG")
        await asyncio.sleep(1)
    assert desk.logs.lines == 5000
    assert clock.turns >= 10


@virtually
async def test_bytes_of_any_kind_and_a_record_that_breaks_its_reader_change_nothing_else():
    desk = Desk()
    desk.logs.signatures = SignatureSet(scan=lambda text: [99] if "bad" in text else [])
    async with desk.running():
        await asyncio.sleep(1)
        desk.files.write("ms-1", "\x00\x01\ufffd", "bad " * 20, "2026-03-01 12:00:00,000 junk")
        desk.say("this is bad")
        await asyncio.sleep(1)
        desk.logs.signatures = patterns()
        desk.say("Console proxy agent disconnected, proxy: v-13-VM")
        await asyncio.sleep(1)
    assert desk.tower.equipment.walls.hits["management-record"] == 1
    assert desk.logs.flows["ms-1"].dropped[DropReason.UNREADABLE] == 1
    assert len(desk.lines_of(CPVM)) == 1


def test_of_many_measures_the_least_delayed_counts_and_old_ones_are_forgotten():
    meter = ClockMeter(is_own_clock=False)
    assert meter.offset is None
    true = timedelta(seconds=60)
    for delay in (3.0, 0.2, 5.0):
        meter.take(EPOCH + true, EPOCH + timedelta(seconds=delay))
    assert meter.offset == true - timedelta(seconds=0.2)
    later = EPOCH + timedelta(hours=1)
    meter.take(later, later)
    assert meter.offset == timedelta(0)


def test_a_log_of_this_machine_has_our_clock_unless_its_zone_is_wrong():
    meter = ClockMeter(is_own_clock=True)
    meter.take(EPOCH, EPOCH + timedelta(seconds=0.3))
    assert meter.offset == timedelta(0)
    wrong = datetime(2026, 3, 1, 17, 30, tzinfo=UTC)
    meter.take(wrong, EPOCH)
    assert meter.offset == wrong - EPOCH


@virtually
async def test_a_storm_of_lines_for_all_vms_of_a_host_is_shed_and_counted():
    desk = Desk()
    many = [a_target(f"v-{number}-VM") for number in range(100, 200)]
    desk.tower.publish(*many)
    async with desk.running():
        await asyncio.sleep(1)
        desk.say(f"Seq 2-7: Sending  {{ Cmd , via: 2({HOST.name}), Ver: v1 }}", level="DEBUG")
        desk.say(*["Host 2 is down.  Starting HA on the VMs"] * 1000)
        await asyncio.sleep(130)
        desk.say("Zone 1 is fine", level="DEBUG")
        await asyncio.sleep(1)
    told = sum(len(one.lines) for one in desk.tower.told(ManagementSaid))
    assert 1_000 <= told <= 10_000
    dropped = desk.tower.told(ManagementLogTold)[-1].dropped
    assert desk.logs.flows["ms-1"].dropped[DropReason.TOLD_AS_COUNT] == dropped > 0


@virtually
async def test_the_counters_of_a_log_go_on_after_a_break():
    desk = Desk()
    async with desk.running():
        await asyncio.sleep(1)
        desk.say("Console proxy agent disconnected, proxy: v-13-VM", "Zone 1 is fine")
        await asyncio.sleep(1)
        desk.files.break_off("ms-1", Unreachable("cut"))
        await asyncio.sleep(1)
        desk.files.mend("ms-1")
        await asyncio.sleep(20)
        desk.say("Zone 1 is fine")
        await asyncio.sleep(1)
    flow = desk.logs.flows["ms-1"]
    assert (flow.lines, flow.unparsed, flow.behind_bytes) == (3, 0, 0)
    assert flow.bytes > 150
    assert flow.last_line_at is not None
    assert flow.newest_logged_at is not None
    assert desk.logs.events["ms-1"].total() == 1


@virtually
async def test_what_was_destroyed_before_it_was_read_is_told():
    desk = Desk()
    async with desk.running():
        await asyncio.sleep(1)
        desk.files.destroy("ms-1", 700)
        desk.say("Zone 1 is fine", level="DEBUG")
        await asyncio.sleep(1)
        desk.say("Zone 1 is fine", level="DEBUG")
        await asyncio.sleep(1)
    told = desk.tower.told(ManagementLogTold)
    assert (sum(one.gaps for one in told), sum(one.gap_bytes for one in told)) == (1, 700)


class CrashingFiles(MemoryLogFiles):
    """An adapter with a bug."""

    async def follow(self, name: str, resume: LogPosition | None) -> AsyncIterator[LogChunk]:
        if name:
            raise ZeroDivisionError("a bug in an adapter")
        yield self._chunk(name, 0, 0)


@virtually
async def test_a_reader_that_crashes_is_told_and_tried_again_and_ends_nothing_else():
    desk = Desk()
    desk.logs = ManagementLogs(
        [
            FollowedLog(name="bad", zone=UTC, files=CrashingFiles(desk.tower.clock)),
            FollowedLog(name="ms-1", zone=UTC, files=desk.files),
        ],
        desk.tower.equipment,
        ManagementLogsSettings(),
        patterns(),
    )
    async with desk.running():
        await asyncio.sleep(5)
        desk.say("Console proxy agent disconnected, proxy: v-13-VM")
        await asyncio.sleep(1)
    assert desk.tower.equipment.walls.hits["management-log"] >= 2
    assert [line.log for line in desk.lines_of(CPVM)] == ["ms-1"]
    told = [one for one in desk.tower.told(ManagementLogTold) if one.name == "bad"]
    assert told[-1].detail == "its reader crashed: ZeroDivisionError"
