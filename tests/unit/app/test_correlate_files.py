"""Two files, one question: whose logs they are, on whose clock, and where the fault lies."""

import gzip
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from stackward.app.classify import UnreadableError
from stackward.app.correlate_files import Asked, NoVmError, correlate_files
from stackward.model.correlation import Concern, Culprit

AGENT = "(Agent-Handler-2:null)"
LOST = "Lost connection to host: 192.0.2.4. Attempting reconnection while we still have 0 commands"
NO_ROUTE = "IOException while connecting to 192.0.2.4:8250 X: No route to host"
VAGUE = "Unable to connect to remote: is there a server running on port 8250"
POOL = "Unable to establish a connection between host 2 and storage pool 1"
SCENES = {
    "network": (
        [("00:30", "INFO", "Found the following agents behind on ping: [4]", "a")],
        [("00:01", "INFO", LOST), ("00:06", "WARN", NO_ROUTE)],
    ),
    "hypervisor-host": (
        [
            ("00:10", "WARN", "Host 2 is down.  Starting HA on the VMs", "a"),
            ("00:11", "WARN", "Schedule vm for HA:  VM[SecondaryStorageVm|s-12-VM]", "a"),
        ],
        [("00:01", "INFO", LOST)],
    ),
    "management-server": (
        [("00:00", "INFO", "Stopping CloudStack management server", "a")],
        [("00:01", "INFO", LOST), ("00:06", "WARN", VAGUE)],
    ),
    "storage": (
        [
            ("00:10", "WARN", POOL, "a"),
            ("00:11", "INFO", "Insufficient capacity ", "a"),
            ("00:12", "WARN", "Unable to start secondary storage VM [12] due to [x].", "a"),
        ],
        [("00:01", "INFO", LOST)],
    ),
    "vm": (
        [("00:30", "INFO", "Host 4 is disconnecting with event AgentDisconnected", "a")],
        [("00:20", "ERROR", "Unable to start agent: java.lang.OutOfMemoryError: Java heap space")],
    ),
}  # fmt: skip


def write(folder: Path, scene: str, *, vm_ahead: int = 0, ms_ahead: int = 0, zone: str = "UTC"):
    """The two files of a scene, with clocks that may be wrong."""
    start = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def stamp(at: str, ahead: int, place: str) -> str:
        minutes, seconds = map(int, at.split(":"))
        moment = start + timedelta(minutes=minutes, seconds=seconds + ahead)
        return f"{moment.astimezone(ZoneInfo(place)):%Y-%m-%d %H:%M:%S},000"

    said, own = SCENES[scene]
    before = f"{stamp('00:00', ms_ahead - 600, zone)} DEBUG [c.c.a.t.Request] (x:ctx-0) (logid:0) "
    management = [
        before + "Seq 4-1: Processing:  { Answer: , via: 4(s-12-VM), Ver: v1, Flags: 10 }"
    ]
    for at, level, text, request in said:
        head = f"{stamp(at, ms_ahead, zone)} {level:<5} [c.c.X] (x:ctx-{request}) (logid:{request})"
        management.append(f"{head} {text}")
    management.append(f"{stamp('09:00', ms_ahead, zone)} DEBUG [c.c.X] (x:ctx-9) (logid:9) fine")
    ready = stamp("00:00", vm_ahead - 900, "UTC")
    text = "Ready command is processed for agent id = 4"
    vm = [f"{ready} INFO  [cloud.agent.Agent] {AGENT} {text}"]
    for at, level, text in own:
        vm.append(f"{stamp(at, vm_ahead, 'UTC')} {level:<5} [cloud.agent.Agent] {AGENT} {text}")
    files = folder / "management-server.log", folder / "cloud.log"
    for file, lines in zip(files, (management, vm), strict=True):
        file.write_text("".join(f"{line}\n" for line in lines))
    return [str(file) for file in files]


@pytest.mark.parametrize("ahead", [(0, 0), (60, 0), (0, 60), (-60, 60), (60, -60)])
@pytest.mark.parametrize("scene", SCENES)
def test_each_cause_is_found_in_two_files_whatever_their_clocks(tmp_path, scene, ahead):
    vm, ms = ahead
    files = write(tmp_path, scene, vm_ahead=vm, ms_ahead=ms)
    asked = Asked(vm_offset=timedelta(seconds=vm), management_offset=timedelta(seconds=ms))
    found = correlate_files(files, asked)
    assert found.vm == "s-12-VM"
    assert found.correlation.culprit is Culprit(scene), found.correlation.sentence
    straight = correlate_files(write(tmp_path, scene), Asked()).correlation
    assert [line.at for line in found.correlation.timeline] == [
        line.at for line in straight.timeline
    ]


def test_a_clock_that_nobody_told_of_changes_the_order_and_not_the_outcome(tmp_path):
    for scene in SCENES:
        found = correlate_files(write(tmp_path, scene, vm_ahead=60), Asked())
        assert found.correlation.culprit is Culprit(scene)


def test_the_servers_own_zone_is_told_by_name(tmp_path):
    files = write(tmp_path, "network", zone="Asia/Kolkata")
    found = correlate_files(files, Asked(zone=ZoneInfo("Asia/Kolkata"))).correlation
    assert [line.at.minute for line in found.timeline][-1] == 0
    assert {line.at.tzinfo for line in found.timeline} == {UTC}


def test_files_may_come_in_any_order_and_packed(tmp_path):
    management, own = write(tmp_path, "network")
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(Path(management).read_bytes()))
    found = correlate_files([own, str(packed)], Asked())
    assert found.correlation.culprit is Culprit.NETWORK


def test_a_host_told_by_hand_makes_its_lines_the_vms(tmp_path):
    files = write(tmp_path, "vm")
    with Path(files[0]).open("a") as log:
        log.write(
            "2026-03-01 12:09:00,000 DEBUG [c.c.X] (x:ctx-7) (logid:7) Seq 2-1: via: 2(kvm1)\n"
            "2026-03-01 12:09:01,000 WARN  [c.c.X] (x:ctx-8) (logid:8) Host 2 is down.  Starting "
            "HA on the VMs\n"
        )
    found = correlate_files(files, Asked(host="kvm1")).correlation
    assert Concern.HOST in {line.concern for line in found.timeline}


def test_what_comes_after_the_moment_asked_for_is_left_out(tmp_path):
    files = write(tmp_path, "vm")
    early = datetime(2026, 3, 1, 11, 50, tzinfo=UTC)
    found = correlate_files(files, Asked(until=early)).correlation
    assert found.culprit is Culprit.UNDECIDED
    assert all(line.at <= early for line in found.timeline)


def test_files_that_name_several_vms_need_a_word(tmp_path):
    log = tmp_path / "ms.log"
    head = "2026-03-01 12:00:00,000 INFO  [c.c.a.m.AgentManagerImpl] (x:ctx-1) (logid:1)"
    log.write_text(f"{head} about s-1-VM\n{head} about v-2-VM\n")
    with pytest.raises(NoVmError, match="s-1-VM"):
        correlate_files([str(log)], Asked())
    assert correlate_files([str(log)], Asked(vm="v-2-VM")).vm == "v-2-VM"


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    broken = tmp_path / "cut.gz"
    broken.write_bytes(gzip.compress(b"x" * 10_000)[:40])
    for file in (broken, tmp_path / "none", tmp_path):
        with pytest.raises(UnreadableError):
            correlate_files([str(file)], Asked())


def test_a_file_without_events_gives_an_outcome_all_the_same(tmp_path):
    empty = tmp_path / "cloud.log"
    empty.write_text("nothing\n\n" * 10)
    found = correlate_files([str(empty)], Asked())
    assert (found.vm, found.correlation.culprit) == ("the VM", Culprit.UNDECIDED)


def test_a_log_that_names_nobody_is_joined_by_the_row_of_its_agent(tmp_path):
    files = write(tmp_path, "vm")
    management = Path(files[0])
    management.write_text(management.read_text().replace("(s-12-VM)", "(x)"))
    found = correlate_files(files, Asked())
    assert found.vm == "the VM"
    assert {line.origin.value for line in found.correlation.timeline} == {"vm", "management-server"}


def doubts(files: list[str], asked: Asked) -> list[str]:
    """Notes on the files."""
    notes = correlate_files(files, asked).correlation.notes
    return [note for note in notes if "'s log" in note]


def test_a_name_that_no_log_knows_is_noted(tmp_path):
    files = write(tmp_path, "network")
    assert not doubts(files, Asked(vm="s-12-VM"))
    assert doubts(files, Asked(vm="s-99-VM")) == [
        "No line of the server's log names s-99-VM; it names s-12-VM."
    ]


def test_logs_of_different_times_are_noted(tmp_path):
    files = write(tmp_path, "network", zone="Asia/Kolkata")
    assert not doubts(files, Asked(zone=ZoneInfo("Asia/Kolkata")))
    (note,) = doubts(files, Asked())
    assert "--time-zone" in note


def test_a_quiet_log_has_its_time_in_common_all_the_same(tmp_path):
    files = write(tmp_path, "network")
    with Path(files[1]).open("a") as log:
        log.write("2026-03-02 18:00:00,000 DEBUG [cloud.agent.Agent] (x:null) nothing to tell\n")
    later = Path(files[0])
    later.write_text(later.read_text().replace("2026-03-01", "2026-03-02"))
    assert not doubts(files, Asked())


def test_the_journal_of_a_management_server_is_one_of_its_logs(tmp_path):
    files = write(tmp_path, "hypervisor-host")
    log = Path(files[0])
    journal = re.sub(
        r"^2026-03-01 (\S+),000 (.*)$",
        r"Mar  1 \1 ms1 java[77]: \2",
        log.read_text().replace("[c.c.X]", "[c.c.a.X]"),
        flags=re.MULTILINE,
    )
    log.write_text(journal)
    moment = datetime(2026, 3, 5, tzinfo=UTC).timestamp()
    os.utime(log, (moment, moment))
    assert correlate_files(files, Asked()).correlation.culprit is Culprit.HYPERVISOR
