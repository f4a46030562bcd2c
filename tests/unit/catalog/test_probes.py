"""Each probe's three verdicts over blocks of facts and listings."""

from datetime import timedelta

import pytest

from stackward.catalog.guest_reader import observe_block
from stackward.catalog.probes import (
    PROBES_INSIDE,
    observe_database,
    observe_target,
)
from stackward.model.identity import VmRole
from stackward.model.target import AgentState, CloudState, DatabaseWitness, Witness
from stackward.model.verdict import Failed, Observation, Passed, ProbeName, Sign, Source, Unknown
from tests.builders import NOW, a_target
from tests.unit.catalog.blocks import (
    MOUNT,
    STALE,
    STORE,
    THRESHOLDS,
    a_block,
    evidence_of_failure,
    evidence_of_pass,
    observed,
    reason_unknown,
    unit,
    with_connects,
)

OTHER = "/mnt/SecStorage/1c0e"


def test_every_probe_passes_on_a_healthy_vm():
    observations, _, _ = observe_block(
        a_block(), a_target(role=VmRole.SECONDARY_STORAGE), THRESHOLDS
    )
    assert [one.probe for one in observations] == [probe.name for probe in PROBES_INSIDE]
    assert [one for one in observations if not isinstance(one.verdict, Passed)] == []
    assert {one.source for one in observations} == {Source.SSH}


def test_every_probe_is_unknown_when_nothing_was_told():
    empty = a_block(without=tuple(a_block().sections))
    observations, _, _ = observe_block(empty, a_target(role=VmRole.SECONDARY_STORAGE), THRESHOLDS)
    assert [one for one in observations if not isinstance(one.verdict, Unknown)] == []


def test_a_console_proxy_is_not_asked_for_storage():
    observations, _, _ = observe_block(a_block(), a_target(role=VmRole.CONSOLE_PROXY), THRESHOLDS)
    assert ProbeName.STORAGE not in {one.probe for one in observations}


def test_what_was_asked_earlier_is_dated_back():
    assert observed(a_block(), ProbeName.MEMORY).observed_at == NOW
    assert observed(a_block(), ProbeName.AGENT_UNIT).observed_at == NOW - timedelta(seconds=12)


# --- the unit


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("1", "0", "without an error"),
        ("1", "1", "refused"),
        ("1", "65", "upgraded"),
        ("1", "66", "configuration"),
        ("1", "67", "could not start"),
        ("1", "126", "may not be executed"),
        ("1", "127", "not there"),
        ("1", "134", "aborted"),
        ("1", "137", "SIGKILL"),
        ("1", "143", "SIGTERM"),
        ("1", "203", "_run.sh"),
        ("1", "3", "without a known meaning"),
        ("2", "9", "signal 9"),
    ],
)
def test_a_failed_unit_says_why(code, status, words):
    block = a_block(
        unit=unit(
            ActiveState="failed",
            SubState="failed",
            Result="exit-code",
            ExecMainCode=code,
            ExecMainStatus=status,
        )
    )
    evidence = evidence_of_failure(block, ProbeName.AGENT_UNIT, Sign.UNIT_FAILED)
    assert words in evidence
    assert "given up" not in evidence


@pytest.mark.parametrize(
    "changes", [{"Result": "start-limit-hit"}, {"Result": "exit-code", "NRestarts": "5"}]
)
def test_a_unit_at_its_start_limit_says_so(changes):
    block = a_block(
        unit=unit(ActiveState="failed", ExecMainCode="1", ExecMainStatus="127", **changes)
    )
    evidence = evidence_of_failure(block, ProbeName.AGENT_UNIT, Sign.UNIT_FAILED)
    assert "start limit" in evidence


def test_a_unit_that_waits_for_its_next_start_is_restarting():
    block = a_block(
        unit=unit(
            ActiveState="activating", SubState="auto-restart", ExecMainCode="1", ExecMainStatus="1"
        )
    )
    evidence_of_failure(block, ProbeName.AGENT_UNIT, Sign.UNIT_RESTARTING)


def test_a_unit_that_is_always_only_just_active_is_restarting():
    loop = unit(NRestarts="40", ActiveEnterTimestampMonotonic="86385000000", ExecMainCode="1")
    evidence = evidence_of_failure(a_block(unit=loop), ProbeName.AGENT_UNIT, Sign.UNIT_RESTARTING)
    assert "restarted 40 times" in evidence


def test_a_unit_restarted_long_ago_is_well():
    block = a_block(unit=unit(NRestarts="40"))
    assert "restarted 40 times" in evidence_of_pass(block, ProbeName.AGENT_UNIT)


@pytest.mark.parametrize(
    ("code", "status", "sign"),
    [
        ("1", "0", Sign.UNIT_EXITED),
        ("2", "15", Sign.UNIT_STOPPED),
        ("1", "143", Sign.UNIT_STOPPED),
        ("0", "0", Sign.UNIT_STOPPED),
    ],
)
def test_an_inactive_unit_exited_or_was_stopped(code, status, sign):
    block = a_block(
        unit=unit(ActiveState="inactive", SubState="dead", ExecMainCode=code, ExecMainStatus=status)
    )
    evidence_of_failure(block, ProbeName.AGENT_UNIT, sign)


@pytest.mark.parametrize(
    "changes",
    [
        {"ActiveState": "deactivating", "SubState": "stop-sigterm"},
        {"ActiveState": "reloading"},
        {"ActiveState": "activating", "SubState": "start-pre"},
        {"ActiveState": "active", "SubState": "exited"},
        {"ActiveState": "inactive", "LoadState": "not-found"},
        {"ActiveState": "maintenance"},
    ],
)
def test_a_unit_on_its_way_or_not_known_is_unknown(changes):
    reason_unknown(a_block(unit=unit(**changes)), ProbeName.AGENT_UNIT)


def test_a_word_of_systemd_that_is_too_old_is_unknown():
    block = a_block(unit=unit(ActiveState="failed"), ages={"unit": STALE})
    assert "301 s ago" in reason_unknown(block, ProbeName.AGENT_UNIT)


def test_a_systemctl_that_does_not_answer_is_unknown():
    block = a_block(without=("unit",), pending={"unit": timedelta(seconds=4)})
    assert "asked 4 s ago" in reason_unknown(block, ProbeName.AGENT_UNIT)


def test_a_systemctl_that_complains_is_unknown_with_its_words():
    block = a_block(unit=("Failed to connect to bus: Host is down",))
    assert "Host is down" in reason_unknown(block, ProbeName.AGENT_UNIT)


# --- the JVM and its link


def test_an_active_unit_without_java_has_lost_its_jvm():
    evidence_of_failure(a_block(jvm=("none",)), ProbeName.AGENT_PROCESS, Sign.JVM_MISSING)


@pytest.mark.parametrize(
    "block",
    [
        a_block(jvm=("unknown",)),
        a_block(jvm=("none",), without=("unit",)),
        a_block(jvm=("none",), ages={"unit": STALE}),
        a_block(jvm=("none",), unit=unit(ActiveState="inactive")),
    ],
)
def test_no_java_says_nothing_unless_the_unit_is_known_to_be_active(block):
    reason_unknown(block, ProbeName.AGENT_PROCESS)


def test_a_jvm_without_a_socket_has_lost_its_link():
    evidence = evidence_of_failure(a_block(link=("none",)), ProbeName.AGENT_LINK, Sign.LINK_DOWN)
    assert "734" in evidence


def test_an_established_socket_names_the_server():
    assert "192.0.2.12:8250" in evidence_of_pass(a_block(), ProbeName.AGENT_LINK)


@pytest.mark.parametrize(
    "block",
    [
        a_block(link=("none",), jvm=("none",)),
        a_block(link=("none",), jvm=("unknown",)),
        a_block(link=("unsure", "0C0200C0:203A 7")),
        a_block(link=("unreadable",)),
    ],
)
def test_without_a_jvm_or_a_table_the_link_is_unknown(block):
    reason_unknown(block, ProbeName.AGENT_LINK)


# --- management servers


def test_the_agents_own_link_proves_the_management_server():
    assert "connected" in evidence_of_pass(a_block(), ProbeName.MANAGEMENT)


def test_one_open_address_is_enough():
    block = with_connects(a_block(link=("none",)), a="bash: connect: Connection refused", b="open")
    assert "192.0.2.13:8250" in evidence_of_pass(block, ProbeName.MANAGEMENT)
    assert observed(block, ProbeName.MANAGEMENT).observed_at == NOW - timedelta(seconds=20)


def test_all_addresses_closed_is_told_address_by_address():
    block = with_connects(
        a_block(link=("none",)), a="bash: connect: Connection refused", b="!killed 3"
    )
    evidence = evidence_of_failure(block, ProbeName.MANAGEMENT, Sign.MANAGEMENT_UNREACHABLE)
    assert "192.0.2.12:8250 refused" in evidence
    assert "192.0.2.13:8250 timed out" in evidence


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (a_block(link=("none",)), "not tried"),
        (with_connects(a_block(link=("none",)), a="!killed 3"), "192.0.2.13:8250: not tried"),
        (
            with_connects(a_block(link=("none",)), a="!killed 3", b="!killed 3", age=STALE),
            "too long ago",
        ),
        (a_block(link=("none",), without=("conf",)), "conf"),
        (a_block(link=("none",), conf=("properties !unreadable",)), "management server"),
    ],
)
def test_as_long_as_not_every_address_was_tried_it_is_unknown(block, words):
    assert words in reason_unknown(block, ProbeName.MANAGEMENT)


def test_an_agent_that_stands_with_other_addresses_than_the_boot_arguments_is_noted():
    block = with_connects(
        a_block(
            link=("none",), conf=("properties host=192.0.2.12@static", "cmdline host=192.0.2.77")
        ),
        a="!killed 3",
    )
    evidence = evidence_of_failure(block, ProbeName.MANAGEMENT, Sign.MANAGEMENT_UNREACHABLE)
    assert "agent.properties says 192.0.2.12, the boot arguments 192.0.2.77" in evidence


# --- storage


def test_a_toucher_that_waits_too_long_is_a_hung_mount():
    block = a_block(pending={MOUNT: timedelta(seconds=10)})
    evidence = evidence_of_failure(block, ProbeName.STORAGE, Sign.MOUNT_HUNG)
    assert f"192.0.2.20:/export/secondary on {STORE}" in evidence
    assert observed(block, ProbeName.STORAGE).observed_at == NOW


def test_a_toucher_that_was_killed_is_a_hung_mount():
    block = a_block(mount=("!killed 20",))
    evidence_of_failure(block, ProbeName.STORAGE, Sign.MOUNT_HUNG)


def test_a_mount_that_refuses_is_told_with_its_words():
    block = a_block(mount=(f"stat: cannot read ... for '{STORE}': Stale file handle",))
    evidence = evidence_of_failure(block, ProbeName.STORAGE, Sign.MOUNT_HUNG)
    assert evidence.endswith("says: Stale file handle")


def test_one_hung_mount_is_not_hidden_by_one_that_answers():
    block = a_block(
        mounts=(f"a:/x {STORE} nfs4 rw", f"b:/y {OTHER} nfs4 rw"),
        pending={f"mount:{OTHER}": timedelta(minutes=3)},
    )
    assert "b:/y" in evidence_of_failure(block, ProbeName.STORAGE, Sign.MOUNT_HUNG)


def test_no_mount_is_no_fault():
    block = a_block(mounts=("/dev/vda5 / ext4 rw",), without=(MOUNT,))
    assert "no secondary storage is mounted" in evidence_of_pass(block, ProbeName.STORAGE)


@pytest.mark.parametrize(
    "block",
    [
        a_block(without=("mounts",)),
        a_block(ages={"mounts": STALE}),
        a_block(without=(MOUNT,)),
        a_block(ages={MOUNT: STALE}),
        a_block(without=(MOUNT,), pending={MOUNT: timedelta(seconds=3)}),
    ],
)
def test_mounts_without_fresh_word_are_unknown(block):
    reason_unknown(block, ProbeName.STORAGE)


# --- disk, memory, clock


def test_a_full_file_system_is_named():
    block = a_block(disk=("1000 500 480 4096 1000 900 /", "1000 10 10 4096 1000 900 /var"))
    assert "/var is 99% full" in evidence_of_failure(block, ProbeName.DISK, Sign.DISK_FULL)


def test_used_up_inodes_are_named():
    block = a_block(disk=("1000 500 480 4096 1000 10 /",))
    assert "99%" in evidence_of_failure(block, ProbeName.DISK, Sign.INODES_FULL)


def test_a_read_only_root_comes_first():
    block = a_block(mounts=("/dev/vda5 / ext4 ro",), disk=("1000 10 10 4096 1000 900 /",))
    evidence_of_failure(block, ProbeName.DISK, Sign.READ_ONLY)


def test_a_file_system_without_limits_is_never_full():
    evidence_of_pass(a_block(disk=("0 0 0 4096 0 0 /",)), ProbeName.DISK)


@pytest.mark.parametrize(
    "block",
    [a_block(without=("disk",)), a_block(ages={"disk": STALE}), a_block(disk=("!killed 10",))],
)
def test_disks_without_fresh_word_are_unknown(block):
    reason_unknown(block, ProbeName.DISK)


def test_memory_that_runs_out_is_told():
    block = a_block(memory=("MemTotal: 1000000 kB", "MemAvailable: 20000 kB"))
    assert "2%" in evidence_of_failure(block, ProbeName.MEMORY, Sign.MEMORY_LOW)


def test_memory_that_is_not_told_is_unknown():
    reason_unknown(a_block(memory=("MemTotal: 1000000 kB", "")), ProbeName.MEMORY)


@pytest.mark.parametrize("skew", [timedelta(minutes=-5), timedelta(minutes=5)])
def test_a_clock_that_is_far_off_is_told(skew):
    block = a_block(clock=(f"{(NOW + skew).timestamp():.6f}",))
    evidence_of_failure(block, ProbeName.CLOCK, Sign.CLOCK_SKEWED)


def test_whole_seconds_and_a_slow_round_trip_are_no_skew():
    block = a_block(clock=(f"{(NOW + timedelta(seconds=61)).timestamp():.0f}",))
    evidence_of_pass(block, ProbeName.CLOCK)


@pytest.mark.parametrize("lines", [("soon",), ("nan",), ("1e300",)])
def test_a_clock_that_cannot_be_read_is_unknown(lines):
    reason_unknown(a_block(clock=lines), ProbeName.CLOCK)


# --- what CloudStack says


def told(target) -> dict[ProbeName, Observation]:
    return {one.probe: one for one in observe_target(target, NOW)}


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (CloudState.RUNNING, Passed),
        (CloudState.STOPPED, Failed),
        (CloudState.ERROR, Failed),
        (CloudState.DESTROYED, Failed),
        (CloudState.SHUTDOWN, Failed),
        (CloudState.STARTING, Unknown),
        (CloudState.STOPPING, Unknown),
        (CloudState.MIGRATING, Unknown),
        (CloudState.EXPUNGING, Unknown),
        (CloudState.UNKNOWN, Unknown),
        (CloudState.UNRECOGNISED, Unknown),
    ],
)
def test_every_state_of_a_vm_has_a_verdict(state, kind):
    answers = told(a_target(cloud_state=state))
    assert isinstance(answers[ProbeName.CLOUD_STATE].verdict, kind)
    if state is not CloudState.RUNNING:
        assert isinstance(answers[ProbeName.CLOUD_AGENT].verdict, Unknown)


AGENT_VERDICTS = {
    AgentState.UP: Passed,
    AgentState.DOWN: Failed,
    AgentState.DISCONNECTED: Failed,
    AgentState.ALERT: Failed,
    AgentState.ERROR: Failed,
    AgentState.REMOVED: Failed,
    AgentState.ABSENT: Failed,
    AgentState.CREATING: Unknown,
    AgentState.CONNECTING: Unknown,
    AgentState.REBALANCING: Unknown,
    AgentState.UNKNOWN: Unknown,
    AgentState.UNRECOGNISED: Unknown,
    AgentState.NOT_TOLD: Unknown,
}


@pytest.mark.parametrize("state", AgentState)
def test_every_state_of_an_agent_has_a_verdict_from_either_witness(state):
    target = a_target(agent_state=state)
    assert isinstance(told(target)[ProbeName.CLOUD_AGENT].verdict, AGENT_VERDICTS[state])
    (observation,) = observe_database(DatabaseWitness(NOW, {target.id: state}), target)
    assert isinstance(observation.verdict, AGENT_VERDICTS[state])
    assert observation.source is Source.DATABASE


def test_an_absent_agent_has_a_sign_of_its_own():
    answer = told(a_target(agent_state=AgentState.ABSENT))[ProbeName.CLOUD_AGENT].verdict
    assert isinstance(answer, Failed)
    assert answer.sign is Sign.AGENT_ABSENT


def test_a_database_that_says_nothing_of_a_vm_is_unknown():
    (observation,) = observe_database(DatabaseWitness(NOW), a_target())
    assert isinstance(observation.verdict, Unknown)


def test_a_database_that_stands_in_for_the_api_does_not_speak_as_the_api():
    answers = told(a_target(witness=Witness.DATABASE))
    assert set(answers) == {ProbeName.CLOUD_STATE, ProbeName.DATABASE_AGENT}
    assert {one.source for one in answers.values()} == {Source.DATABASE}
