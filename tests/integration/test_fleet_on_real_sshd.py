"""The whole daemon on twenty system VMs behind one real jump sshd, and what may befall them.

One fleet and one daemon serve the whole file. Each test takes a VM of its own where it breaks one,
and leaves everything well.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.lab.daemon import DaemonProcess, Metrics, restart_rule
from tests.integration.lab.fleet import POLL_SECONDS, Fleet
from tests.integration.lab.sshd import why_no_sshd

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(240),
    pytest.mark.skipif(why_no_sshd() is not None, reason=why_no_sshd() or ""),
    pytest.mark.xdist_group("fleet-on-real-sshd"),
]

VMS = 20
AT_EVERY_TICK = ("agent-process", "agent-link", "memory", "clock")
INSIDE = ("agent-unit", *AT_EVERY_TICK, "management", "disk")
STEP_KINDS = ("intent", "begun", "accepted", "outcome", "would-have")


@dataclass(frozen=True)
class Scene:
    """The fleet, its daemon, and where ledger and journal stood when the test began."""

    fleet: Fleet
    daemon: DaemonProcess
    ledger_before: int
    journal_before: int

    def requests(self) -> list[tuple[str, str]]:
        """What was asked of the cloud and its VMs since."""
        return [(line.vm, line.what) for line in self.fleet.cloud.ledger()[self.ledger_before :]]

    def rows(self, *kinds: str, vm: str | None = None) -> list[dict[str, Any]]:
        """Journal rows since."""
        return self.daemon.entries(*kinds, vm=vm, after=self.journal_before)

    def row(self, name: str) -> dict[str, Any]:
        """The VM's line of the status."""
        return next(row for row in self.daemon.status()["vms"] if row["name"] == name)

    def outcomes(self, name: str) -> list[str]:
        return [row["outcome"]["kind"] for row in self.rows("outcome", vm=name)]

    def verdict(self, name: str, probe: str) -> str:
        """passed, failed or unknown, by the daemon's own word on one VM."""
        lines = self.daemon.vm(name)["explanation"]["evidence"]
        return next((line["verdict"] for line in lines if line["probe"] == probe), "missing")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, DaemonProcess]]:
    """The fleet and the daemon of the whole file."""
    folder = tmp_path_factory.mktemp("fleet")
    with (
        Fleet(folder, VMS) as fleet,
        DaemonProcess(folder / "daemon", fleet.daemon_config(), [restart_rule()]) as daemon,
    ):
        yield fleet, daemon
        assert daemon.stop() == 0
        assert daemon.said("stopped")


@pytest.fixture
def scene(running: tuple[Fleet, DaemonProcess]) -> Iterator[Scene]:
    """A fleet that is well, before and after."""
    fleet, daemon = running
    daemon.until(lambda: all_well(daemon))
    yield Scene(fleet, daemon, len(fleet.cloud.ledger()), daemon.last_sequence())
    daemon.until(lambda: all_well(daemon))
    assert not daemon.said("promise broken")
    assert daemon.metrics().value("stackward_contained_crashes_total") == 0


def all_well(daemon: DaemonProcess, *more: str) -> bool:
    """Every VM healthy, answering at every tick (to `more` as well), and its log followed."""
    status = daemon.status()
    rows = status["vms"]
    if len(rows) != VMS or any(row["health"] != "healthy" or row["diagnosis"] for row in rows):
        return False
    metrics = daemon.metrics()
    probes = ("cloud-state", "cloud-agent", "agent-unit", *AT_EVERY_TICK, *more)
    return (
        not status["causes"]
        and metrics.value("stackward_log_followed") == VMS
        and all(len(passed_on(metrics, one)) == VMS for one in probes)
        and daemon.open_episodes() == 0
    )


def passed_on(metrics: Metrics, probe: str) -> set[str]:
    """The VMs on which this probe has passed just now."""
    found = metrics.of("stackward_probe_success", probe=probe)
    return {labels["vm"] for labels, value in found if value == 1}


def known_on(metrics: Metrics, *probes: str) -> set[str]:
    """The VMs on which any of these probes has an answer."""
    found = metrics.of("stackward_probe_success")
    return {labels["vm"] for labels, _ in found if labels["probe"] in probes}


def ages(metrics: Metrics) -> dict[str, float]:
    """How old, at the round that was scraped, each VM's newest answer from inside was."""
    taken_at = metrics.value("stackward_last_round_timestamp_seconds")
    newest: dict[str, float] = {}
    for labels, at in metrics.of("stackward_probe_last_observation_timestamp_seconds"):
        if labels["probe"] in AT_EVERY_TICK:
            newest[labels["vm"]] = max(at, newest.get(labels["vm"], 0.0))
    return {vm: taken_at - at for vm, at in newest.items()}


def test_all_vms_behind_one_jump_pass_with_their_insides(scene):
    scene.daemon.until(lambda: all_well(scene.daemon, *INSIDE))
    status = scene.daemon.status()
    assert {row["name"] for row in status["vms"]} == set(scene.fleet.names)
    assert {row["verdict"] for row in status["vms"]} == {"passed"}
    assert len({row["host"] for row in status["vms"]}) == 1
    metrics = scene.daemon.metrics()
    for probe in INSIDE:
        assert passed_on(metrics, probe) == set(scene.fleet.names), probe
    stores = passed_on(metrics, "storage")
    assert stores == {row["name"] for row in status["vms"] if row["role"] == "ssvm"}
    assert metrics.value("stackward_ssh_path_open") == VMS
    assert metrics.value("stackward_log_followed") == VMS
    assert scene.requests() == []


def test_a_killed_jump_is_one_incident_and_no_step(scene):
    daemon, jump = scene.daemon, scene.fleet.jump
    jump.kill()
    try:
        daemon.until(lambda: has_cause(daemon, "JumpUnreachable"))
        daemon.until(lambda: all(is_symptom(row) for row in daemon.status()["vms"]))
        # It stands for a while, and nothing is added to it.
        for _ in range(10):
            status = daemon.status()
            assert [cause["code"] for cause in status["causes"]] == ["JumpUnreachable"]
            assert [call["diagnosis"] for call in status["escalations"]] == ["JumpUnreachable"]
            assert {row["verdict"] for row in status["vms"]} == {"passed"}
            time.sleep(0.3)
        metrics = daemon.metrics()
        assert passed_on(metrics, "cloud-agent") == set(scene.fleet.names)
        assert known_on(metrics, *INSIDE) == set()
        assert scene.verdict(scene.fleet.names[0], "agent-unit") == "unknown"
    finally:
        jump.start()
    daemon.until(lambda: all_well(daemon))
    assert [row["diagnosis"] for row in scene.rows("escalated")] == ["JumpUnreachable"]
    assert scene.rows(*STEP_KINDS) == []
    assert scene.requests() == []


def has_cause(daemon: DaemonProcess, code: str) -> bool:
    return any(cause["code"] == code for cause in daemon.status()["causes"])


def is_symptom(row: dict[str, Any]) -> bool:
    return (row["diagnosis"], row["suppressed_by"]) == ("VmUnreachable", "JumpUnreachable")


def test_a_frozen_sshd_makes_its_own_vm_unknown_and_delays_nobody(scene):
    daemon, frozen = scene.daemon, scene.fleet.names[3]
    others = set(scene.fleet.names) - {frozen}
    oldest = 0.0
    scene.fleet.sshds[frozen].stop()
    try:
        daemon.until(lambda: frozen not in known_on(daemon.metrics(), *AT_EVERY_TICK))
        for _ in range(12):
            metrics = daemon.metrics()
            seen = ages(metrics)
            oldest = max(oldest, *(seen[vm] for vm in others))
            assert passed_on(metrics, "agent-process") >= others
            assert passed_on(metrics, "cloud-agent") == others | {frozen}
            assert scene.row(frozen)["verdict"] == "passed"
            time.sleep(0.5)
        assert scene.verdict(frozen, "agent-process") == "unknown"
    finally:
        scene.fleet.sshds[frozen].cont()
    assert oldest < 3 * POLL_SECONDS
    daemon.until(lambda: frozen in passed_on(daemon.metrics(), "agent-process"))
    assert scene.rows(*STEP_KINDS) == []
    assert scene.requests() == []


def test_a_dead_agent_is_restarted_once_over_ssh_and_proven(scene):
    name = scene.fleet.names[5]
    scene.fleet.cloud.inject("agent-dies", name)
    scene.daemon.until(lambda: scene.outcomes(name))
    assert scene.outcomes(name) == ["succeeded"]
    scene.daemon.until(lambda: all_well(scene.daemon))
    kinds = [row["kind"] for row in scene.rows(vm=name)]
    assert [kind for kind in kinds if kind in STEP_KINDS] == ["intent", "begun", "outcome"]
    assert kinds.count("episode-opened") == kinds.count("episode-closed") == 1
    assert [vm for vm, what in scene.requests() if what == "restart"] == [name]
    assert {vm for vm, _ in scene.requests()} == {name}


def test_another_host_key_closes_the_way_to_every_step(scene):
    daemon, name = scene.daemon, scene.fleet.names[7]
    sshd = scene.fleet.sshds[name]
    right_keys = sshd.host_keys
    sshd.kill()
    sshd.host_keys = scene.fleet.lab.keys_of("of-somebody-else")
    sshd.start()
    try:
        daemon.until(lambda: scene.row(name)["diagnosis"] == "HostKeyChanged")
        scene.fleet.cloud.inject("agent-dies", name)
        daemon.until(lambda: scene.row(name)["verdict"] == "failed")
        for _ in range(10):
            assert scene.row(name)["diagnosis"] == "HostKeyChanged"
            time.sleep(0.3)
        assert scene.verdict(name, "agent-unit") == "unknown"
        assert {row["diagnosis"] for row in scene.rows("escalated")} == {"HostKeyChanged"}
        assert held_by(daemon, name) == []  # a person is called; there is no step to hold
        assert scene.rows(*STEP_KINDS) == []
        assert scene.requests() == []
    finally:
        sshd.kill()
        sshd.host_keys = right_keys
        sshd.start()
    # With the right key back, what was held is due.
    daemon.until(lambda: scene.outcomes(name) == ["succeeded"])


def test_a_pause_holds_a_step_that_is_due_until_the_resume(scene):
    daemon, name = scene.daemon, scene.fleet.names[11]
    daemon.command("pause", "--reason", "somebody is at work")
    try:
        daemon.until(lambda: daemon.status()["paused"])
        scene.fleet.cloud.inject("agent-dies", name)
        daemon.until(lambda: held_by(daemon, name) == ["paused"])
        for _ in range(8):  # longer than the rule asks the diagnosis to stand
            assert held_by(daemon, name) == ["paused"]
            time.sleep(0.3)
        assert scene.rows(*STEP_KINDS) == []
        assert scene.requests() == []
    finally:
        daemon.command("resume")
    daemon.until(lambda: scene.outcomes(name) == ["succeeded"])
    assert [vm for vm, what in scene.requests() if what == "restart"] == [name]
    assert [row["kind"] for row in scene.rows("paused", "resumed")] == ["paused", "resumed"]


def test_a_killed_daemon_goes_on_where_it_was(scene):
    daemon = scene.daemon
    pins = daemon.entries("host-key-pinned")
    assert len(pins) == 1  # all are of one template
    daemon.kill()
    daemon.start()
    daemon.until(lambda: all_well(daemon))
    assert daemon.entries("host-key-pinned") == pins
    assert daemon.metrics().value("stackward_log_gaps_total") == 0
    assert [row["kind"] for row in scene.rows()] == ["started"]
    assert scene.requests() == []


def held_by(daemon: DaemonProcess, name: str) -> list[str]:
    """The guards that hold something back on this VM now."""
    return [hold["reason"]["guard"] for hold in daemon.holds(name)]
