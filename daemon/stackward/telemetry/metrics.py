"""The metrics page: a projection of the newest snapshot. This is the only door to Prometheus.

The tables `PER_VM` and `FLEET` name every family: name, kind, help, and how its samples are
read from the snapshot. Nothing is counted here and nothing is remembered but rendered text: the
values of a VM are frozen, so the lines made from the same values are used again (the cache), and
a VM that is gone takes its series with it at once.

Formats: text 0.0.4 and OpenMetrics 1.0
(prometheus.io/docs/instrumenting/exposition_formats and prometheus.io/docs/specs/om).
A state set is a gauge in the older format. Samples carry no time stamps and no exemplars.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from stackward import __version__
from stackward.core.evidence import SLOW_PROBES
from stackward.core.log_pace import is_silent, lag, silent_from
from stackward.core.policy import Thresholds
from stackward.core.snapshot import Snapshot
from stackward.core.state import TargetState
from stackward.model.diagnosis import Diagnosis
from stackward.model.health import Health
from stackward.model.identity import TargetId
from stackward.telemetry.fleet_metrics import FLEET
from stackward.telemetry.samples import Kind, Sample, VmView, labels, number
from stackward.telemetry.vm_metrics import PER_VM

CONTENT_TYPE_TEXT = "text/plain; version=0.0.4; charset=utf-8"
CONTENT_TYPE_OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

CacheKey = tuple[TargetState, Health, tuple[Diagnosis, ...], Thresholds]


@dataclass(frozen=True, slots=True)
class _Rendered:
    """The lines of one VM, from what they were made, and when time alone will change them."""

    key: CacheKey
    lines: tuple[str, ...]
    made_at: datetime
    good_until: datetime

    def is_good(self, key: CacheKey, now: datetime) -> bool:
        """Identity is enough: the values are frozen, and comparing them would cost more."""
        state, health, diagnoses, thresholds = self.key
        return (
            state is key[0]
            and health is key[1]
            and diagnoses is key[2]
            and thresholds is key[3]
            and self.made_at <= now <= self.good_until
        )


class MetricsPage:
    """Renders snapshots. One thread at a time; holds the lines of the last rendering."""

    def __init__(self, python: str, revision: str = "") -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._build = labels(version=__version__, revision=revision, python=python)
        self._cache: dict[TargetId, _Rendered] = {}

    def render(
        self, snapshot: Snapshot | None, *, openmetrics: bool, names: frozenset[str] = frozenset()
    ) -> bytes:
        """The page in one of the two formats: whole, or only the families of these names."""
        parts: list[str] = []
        if not names or "stackward_build_info" in names:
            self._family(parts, "stackward_build_info", Kind.INFO, "What runs here.", openmetrics)
            parts.append(f"stackward_build_info{{{self._build}}} 1\n")
        if snapshot is not None:
            self._render_vms(parts, snapshot, openmetrics, names)
            for family in FLEET:
                if names and family.name not in names:
                    continue
                lines = _lines(family.name, family.samples(snapshot))
                if lines:
                    self._family(parts, family.name, family.kind, family.help, openmetrics)
                    parts.append(lines)
        own = "".join(parts).encode()
        registry = self._registry.restricted_registry(names) if names else self._registry
        if openmetrics:
            process: bytes = generate_openmetrics(registry)  # type: ignore[no-untyped-call]  # the library leaves this one untyped
            return own + process
        return own + generate_latest(registry)

    def _render_vms(
        self, parts: list[str], snapshot: Snapshot, openmetrics: bool, names: frozenset[str]
    ) -> None:
        cache: dict[TargetId, _Rendered] = {}
        now, thresholds = snapshot.taken_at, snapshot.policy.thresholds
        for target_id, state in snapshot.fleet.targets.items():
            health = snapshot.health.get(target_id)
            if health is None:
                continue
            key = (state, health, snapshot.diagnoses.get(target_id, ()), thresholds)
            kept = self._cache.get(target_id)
            if kept is None or not kept.is_good(key, now):
                kept = _render_vm(key, now)
            cache[target_id] = kept
        self._cache = cache
        for index, family in enumerate(PER_VM):
            if names and family.name not in names:
                continue
            block = "".join(kept.lines[index] for kept in cache.values())
            if block:
                self._family(parts, family.name, family.kind, family.help, openmetrics)
                parts.append(block)

    @staticmethod
    def _family(
        parts: list[str], name: str, kind: Kind, description: str, openmetrics: bool
    ) -> None:
        if openmetrics:
            family = name.removesuffix("_total") if kind is Kind.COUNTER else name
            family = family.removesuffix("_info") if kind is Kind.INFO else family
            parts.append(f"# HELP {family} {description}\n# TYPE {family} {kind.value}\n")
        else:
            shown = Kind.GAUGE if kind in (Kind.INFO, Kind.STATESET) else kind
            parts.append(f"# HELP {name} {description}\n# TYPE {name} {shown.value}\n")


def _render_vm(key: CacheKey, now: datetime) -> _Rendered:
    state, health, diagnoses, thresholds = key
    name = labels(vm=state.target.name, role=state.target.role.value)
    # Two clouds' zones may both have an s-1-VM: the zone is CloudStack's own word for the place.
    ends = {
        probe: memory.observed_at
        + (thresholds.slow_stale_after if probe in SLOW_PROBES else thresholds.stale_after)
        for probe, memory in state.probes.items()
    }
    stale = frozenset(probe for probe, end in ends.items() if end < now)
    view = VmView(
        state, health, diagnoses, name, stale, lag(state, now), is_silent(state, thresholds, now)
    )
    lines = tuple(_lines(family.name, family.samples(view)) for family in PER_VM)
    ahead = [end for end in (*ends.values(), silent_from(state.log)) if end and end >= now]
    if state.log.flow.behind_bytes:
        ahead.append(now)  # its lag grows
    return _Rendered(key, lines, now, min(ahead, default=datetime.max.replace(tzinfo=UTC)))


def _lines(name: str, samples: Iterable[Sample]) -> str:
    return "".join(
        f"{name}{{{text}}} {number(value)}\n" if text else f"{name} {number(value)}\n"
        for text, value in samples
    )
