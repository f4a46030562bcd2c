"""The daemon's metrics in a real Prometheus: accepted, whole, and telling the fleet."""

import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from stackward.rehearsal.settings import QUICK, GuestKind, RehearsalSettings
from tests.integration.lab.daemon import PATIENCE, DaemonProcess
from tests.integration.lab.fleet import HASTE, LiveCloud
from tests.integration.lab.prometheus import Prometheus, check_metrics, programs_or_skip

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("prometheus"),
]

VMS = 4
NAMES = ("stackward_system_vm_verdict", "stackward_system_vms", "stackward_loop_lag_seconds")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon that finds a small cloud well."""
    programs_or_skip()
    settings = RehearsalSettings(zones=VMS // 2, pace=QUICK, guests=GuestKind.LIGHT)
    folder = tmp_path_factory.mktemp("daemon")
    with (
        LiveCloud(settings) as cloud,
        DaemonProcess(folder, cloud.daemon_config(**HASTE)) as started,
    ):
        started.until(
            lambda: started.metrics().value("stackward_system_vms", verdict="passed") == VMS
        )
        started.until(
            lambda: len(started.metrics().of("stackward_probe_success", probe="agent-unit")) == VMS
        )
        yield started


@pytest.fixture(scope="module")
def prometheus(
    daemon: DaemonProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """A Prometheus that has scraped the daemon."""
    folder = tmp_path_factory.mktemp("prometheus") / "server"
    with Prometheus(folder, f"127.0.0.1:{daemon.port}") as server:
        server.until('up{job="stackward"}', 1)
        yield server


def test_a_live_scrape_is_clean_for_promtool(daemon):
    checked = check_metrics(daemon.metrics().text)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_fleet_appears_in_prometheus(prometheus):
    prometheus.until("sum(stackward_system_vm_verdict)", VMS)
    prometheus.until('sum(stackward_system_vm_verdict{stackward_system_vm_verdict="passed"})', VMS)
    prometheus.until("count(stackward_system_vm_info)", VMS)
    prometheus.until('count(stackward_probe_success{probe="agent-unit"} == 1)', VMS)
    prometheus.until('stackward_source_up{source="api"}', 1)
    zones = prometheus.ask("query", query="count by (zone) (stackward_system_vm_info)")["result"]
    assert {row["metric"]["zone"]: row["value"][1] for row in zones} == {
        "zone-1": "2",
        "zone-2": "2",
    }


def test_prometheus_asks_for_openmetrics_and_takes_it_without_complaint(prometheus):
    # Only OpenMetrics has state sets: the text format calls them gauges.
    metadata = prometheus.ask("metadata", metric="stackward_system_vm_verdict")
    assert [one["type"] for one in metadata["stackward_system_vm_verdict"]] == ["stateset"]
    target = prometheus.target()
    assert (target["health"], target["lastError"]) == ("up", "")
    own = prometheus.own_metrics()
    for trouble in (
        "prometheus_target_scrapes_sample_duplicate_timestamp_total",
        "prometheus_target_scrapes_sample_out_of_order_total",
        "prometheus_target_scrapes_sample_out_of_bounds_total",
    ):
        assert own.of(trouble), trouble
        assert own.value(trouble) == 0, trouble


@pytest.mark.parametrize(
    ("accept", "content_type", "read"),
    [
        (
            "application/openmetrics-text;version=1.0.0",
            "application/openmetrics-text",
            read_openmetrics,  # a strict one
        ),
        ("*/*", "text/plain", read_text),
    ],
)
def test_both_formats_tell_the_fleet_to_whoever_asks(daemon, accept, content_type, read):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(f"{daemon.url}/metrics", headers={"Accept": accept})
    with opener.open(request, timeout=PATIENCE) as reply:
        told, text = reply.headers["Content-Type"], reply.read().decode()
    assert told.split(";")[0] == content_type
    samples = [sample for family in read(text) for sample in family.samples]
    for name in NAMES:
        assert any(sample.name == name for sample in samples), name
