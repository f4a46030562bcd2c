"""The schema of the main file: the operator's side of everything the daemon can be told.

Rule 1: a number that crosses this border has its unit in its name and bounds.
Rule 2: defaults of what the core decides by come from `core/policy.py`; there is no second set.
Rule 3: each field says what it is, why, in which unit, and what goes wrong at the extremes.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field

from stackward.config.schema_sources import (
    CloudStackSettings,
    DatabaseSettings,
    FactsSettings,
    LogsSettings,
    ManagementLogSettings,
    ProbesSettings,
    SshSettings,
)
from stackward.config.strict import FilePattern, Listen, Name, StrictModel
from stackward.core.policy import Limits, Thresholds
from stackward.model.plan import Mode

_THRESHOLDS = Thresholds()
_LIMITS = Limits()


class ZoneSettings(StrictModel):
    """What is different in one zone."""

    mode: Mode
    """How far the daemon may go in this zone, as far as the global mode and the rule allow."""


class ThresholdsSettings(StrictModel):
    """When an answer counts."""

    fall: Annotated[int, Field(ge=1, le=100)] = _THRESHOLDS.fall
    """Failed answers in a row until a fault is believed. 1: one bad answer opens an episode.
    Very high: real faults are seen late."""
    rise: Annotated[int, Field(ge=1, le=100)] = _THRESHOLDS.rise
    """Good answers in a row until a VM that was sick is healthy again."""
    stale_after_seconds: Annotated[float, Field(ge=0.5, le=3600)] = (
        _THRESHOLDS.stale_after.total_seconds()
    )
    """Seconds after which an answer is no evidence any more. At least twice
    `ssh.poll_interval_seconds`, or one lost answer makes everything unknown. Very long: steps are
    justified by old news."""
    slow_stale_after_seconds: Annotated[float, Field(ge=1, le=86400)] = (
        _THRESHOLDS.slow_stale_after.total_seconds()
    )
    """The same for what is asked at a slower pace (section `facts`)."""
    inventory_stale_after_seconds: Annotated[float, Field(ge=1, le=3600)] = (
        _THRESHOLDS.inventory_stale_after.total_seconds()
    )
    """Seconds after which a listing of the cloud is too old to act upon. Longer than
    `cloudstack.listing_interval_seconds`."""
    agent_grace_seconds: Annotated[float, Field(ge=0, le=86400)] = (
        _THRESHOLDS.agent_grace.total_seconds()
    )
    """Seconds in which an agent that never connected is no fault in a new VM. Too short: a VM that
    is still patching itself looks sick."""
    boot_grace_seconds: Annotated[float, Field(ge=0, le=86400)] = (
        _THRESHOLDS.boot_grace.total_seconds()
    )
    """Seconds after a boot in which nothing is done to a VM. Too short: slow starters are
    restarted again and again."""
    starting_warn_after_seconds: Annotated[float, Field(ge=1, le=86400)] = (
        _THRESHOLDS.starting_warn_after.total_seconds()
    )
    """Seconds that a VM may be Starting, Stopping or Migrating until that is a finding."""
    disk_used_ratio_max: Annotated[float, Field(gt=0, le=1)] = _THRESHOLDS.disk_used_ratio_max
    """Share of a file system in use from which it counts as full. 0.95 is 95 %."""
    inodes_used_ratio_max: Annotated[float, Field(gt=0, le=1)] = _THRESHOLDS.inodes_used_ratio_max
    """The same for inodes."""
    memory_available_ratio_min: Annotated[float, Field(ge=0, lt=1)] = (
        _THRESHOLDS.memory_available_ratio_min
    )
    """Share of memory available below which it counts as low."""
    clock_offset_seconds_max: Annotated[float, Field(ge=0.1, le=86400)] = (
        _THRESHOLDS.clock_offset_max.total_seconds()
    )
    """Seconds by which a VM's clock may differ from ours. TLS breaks with large ones."""
    mount_hung_after_seconds: Annotated[float, Field(ge=1, le=3600)] = (
        _THRESHOLDS.mount_hung_after.total_seconds()
    )
    """Seconds without an answer after which a mount counts as hung. Too short: a busy storage
    server looks dead."""


class LimitsSettings(StrictModel):
    """How much may be done. The defaults are the careful ones; looser values are warned of."""

    zone_in_flight_max: Annotated[int, Field(ge=1, le=100)] = _LIMITS.zone_in_flight_max
    """Steps under way at once in one zone. More than 1 can take both SSVM and CPVM at once."""
    zone_disruptive_max: Annotated[int, Field(ge=0, le=1000)] = _LIMITS.zone_disruptive_max
    """Disruptive steps in one zone per `zone_window_seconds`. 0: none, ever."""
    zone_window_seconds: Annotated[float, Field(ge=1, le=604800)] = (
        _LIMITS.zone_window.total_seconds()
    )
    """The time for which a disruptive step counts against its zone, in seconds."""
    fleet_in_flight_max: Annotated[int, Field(ge=1, le=1000)] = _LIMITS.fleet_in_flight_max
    """Steps under way at once in the whole cloud."""
    storm_share: Annotated[float, Field(gt=0, le=1)] = _LIMITS.storm_share
    """Share of all VMs that must be sick at once, together with `storm_count`, to stop every step:
    then the cause is not in the VMs. 1 makes the stop nearly useless."""
    storm_count: Annotated[int, Field(ge=1, le=100000)] = _LIMITS.storm_count
    """Number of VMs that must be sick at once for the same. It is the floor of the share: most
    zones hold two VMs, so one sick VM is half of them already."""
    hold_escalates_after_seconds: Annotated[float, Field(ge=1, le=86400)] = (
        _LIMITS.hold_escalates_after.total_seconds()
    )
    """Seconds after which a person is called for a sick VM that could be repaired and is held back
    all the while, for whatever reason but a pause."""


class RulesSettings(StrictModel):
    """What to do about a diagnosis: which rules are in force."""

    builtin: bool = True
    """Use the built-in rules. Without any rule every fault goes to a person."""
    files: Annotated[tuple[FilePattern, ...], Field(max_length=100)] = ()
    """Files or globs with rules of your own; the first rule that fits counts, yours before the
    built-in ones. A glob that matches nothing is a mistake."""
    switch_off: Annotated[tuple[Name, ...], Field(max_length=1000)] = ()
    """Names of rules that are not in force. A name that no rule has is a mistake."""


class WebSettings(StrictModel):
    """Metrics, status pages and API."""

    listen: Listen = "127.0.0.1:9787"
    """Address and port to listen on. There are no users and passwords here: anything but loopback
    shows names and states of your VMs to whoever can connect. Port 0: any free port."""
    allowed_hosts: Annotated[tuple[Name, ...], Field(max_length=100)] = ()
    """Further names under which browsers may reach this server, as in the Host header. It keeps
    foreign pages from using a browser to reach it."""
    enable_lifecycle: bool = False
    """Allow POST to /-/reload. SIGHUP reloads as well."""
    unhealthy_after_seconds: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """Seconds without a completed round until /-/healthy says no."""


class LogFormat(StrEnum):
    """How log lines look."""

    JSON = "json"
    CONSOLE = "console"
    AUTO = "auto"


class LogLevel(StrEnum):
    """Which log lines are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogSettings(StrictModel):
    """The daemon's own log, on standard error."""

    format: LogFormat = LogFormat.AUTO
    """`auto`: for people on a terminal, JSON elsewhere."""
    level: LogLevel = LogLevel.INFO
    """`debug` is a line per poll and much in a large cloud."""


class TimingSettings(StrictModel):
    """The daemon's own rhythm."""

    round_interval_seconds: Annotated[float, Field(ge=0.05, le=60)] = 1.0
    """Seconds between two rounds of judgement. Longer: later decisions for less CPU."""
    positions_interval_seconds: Annotated[float, Field(ge=0.1, le=300)] = 5.0
    """Seconds between two savings of log positions. Longer: after a crash more lines are read
    again."""
    stop_grace_seconds: Annotated[float, Field(ge=0, le=600)] = 20.0
    """Seconds that steps under way get when the daemon stops. What is not done by then is looked
    at by the next start. Keep it below TimeoutStopSec of the service."""


class Settings(StrictModel):
    """The whole configuration of stackward."""

    mode: Mode = Mode.OBSERVE
    """How far the daemon may go: `observe` shows plans, `advise` also looks again and journals what
    it would have done, `act` does it. Where this, the zone and the rule differ, the most careful
    counts."""
    zones: dict[Name, ZoneSettings] = Field(default_factory=dict)
    """The mode of each zone, by its name; `"*"` stands for every zone that is not named. A zone
    that is neither named nor covered by `"*"` is only observed: acting is opted into."""
    state_directory: Path = Path("/var/lib/stackward")
    """Directory of the durable memory: journal, log positions, pinned host keys, pause file."""
    cloudstack: CloudStackSettings
    """The CloudStack API."""
    database: DatabaseSettings | None = None
    """CloudStack's database. Without it there is one witness fewer."""
    ssh: SshSettings = SshSettings()
    """The ways into the system VMs."""
    facts: FactsSettings = FactsSettings()
    """How often slower facts are asked."""
    logs: LogsSettings = LogsSettings()
    """Whether and how the log of each system VM is followed."""
    management_logs: Annotated[tuple[ManagementLogSettings, ...], Field(max_length=16)] = ()
    """Logs of the management servers. What they say is put beside the logs of the VMs, to tell
    where the cause of a fault lies. Without any, only the VMs' own logs say so."""
    probes: ProbesSettings = ProbesSettings()
    """The questions."""
    thresholds: ThresholdsSettings = ThresholdsSettings()
    """From when on an answer counts, and until when."""
    limits: LimitsSettings = LimitsSettings()
    """How much may be done in a zone and in all."""
    rules: RulesSettings = RulesSettings()
    """What to do about a diagnosis."""
    web: WebSettings = WebSettings()
    """The web server for metrics, status pages and API."""
    log: LogSettings = LogSettings()
    """The daemon's own log."""
    timing: TimingSettings = TimingSettings()
    """How often the daemon judges and saves, and how long it takes to stop."""


def anchored(settings: Settings, base: Path) -> Settings:
    """The same with every path made absolute; relative ones start at `base`."""
    cloudstack, database, ssh = settings.cloudstack, settings.database, settings.ssh
    changes: dict[str, object] = {
        "state_directory": base / settings.state_directory,
        "cloudstack": cloudstack.model_copy(update={"ca_file": _at(base, cloudstack.ca_file)}),
        "ssh": ssh.model_copy(
            update={
                "known_hosts": base / ssh.known_hosts,
                "agent_socket": _at(base, ssh.agent_socket),
            }
        ),
    }
    changes["management_logs"] = tuple(
        log.model_copy(update={"known_hosts": _at(base, log.known_hosts)})
        for log in settings.management_logs
    )
    if database is not None:
        changes["database"] = database.model_copy(update={"ca_file": _at(base, database.ca_file)})
    return settings.model_copy(update=changes)


def _at(base: Path, path: Path | None) -> Path | None:
    return None if path is None else base / path
