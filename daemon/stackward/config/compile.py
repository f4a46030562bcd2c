"""Settings to `core.policy.Policy`, and what only shows when options are seen together."""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from urllib.parse import urlsplit

from stackward.config.document import DocumentPath, Place, spoken
from stackward.config.schema import LimitsSettings, Settings, ThresholdsSettings
from stackward.config.strict import listen_address
from stackward.core.policy import Limits, Policy, Rule, Thresholds
from stackward.errors import ConfigError, ConfigMistake
from stackward.model.plan import Mode

EVERY_OTHER_ZONE = "*"


@dataclass(frozen=True, slots=True)
class Clash:
    """Options that do not go together: `path`, the one to change, with `other`."""

    path: DocumentPath
    message: str
    hint: str = ""
    other: DocumentPath | None = None


class Locate(Protocol):
    """Says where an option stands; where it does not, its neighbour `other` is the next best."""

    def __call__(self, path: DocumentPath, other: DocumentPath | None = None) -> Place: ...


def nowhere(path: DocumentPath, other: DocumentPath | None = None) -> Place:
    """For settings that come from no file."""
    del path, other
    return Place("")


def compile_policy(settings: Settings, rules: Iterable[Rule], locate: Locate = nowhere) -> Policy:
    """Compile, or raise `ConfigError` with every clash."""
    mistakes = mistakes_between(settings, locate)
    if mistakes:
        raise ConfigError(mistakes)
    return Policy(
        mode=settings.mode,
        zone_modes={
            name: zone.mode for name, zone in settings.zones.items() if name != EVERY_OTHER_ZONE
        },
        unnamed_zones=_mode_of_unnamed_zones(settings),
        thresholds=_thresholds(settings.thresholds),
        limits=_limits(settings.limits),
        rules=tuple(rules),
        disabled_probes=frozenset(settings.probes.switch_off),
    )


def mistakes_between(settings: Settings, locate: Locate) -> tuple[ConfigMistake, ...]:
    """Every clash as a mistake at its place."""
    found = []
    for clash in _clashes(settings):
        place = locate(clash.path, clash.other)
        path = spoken(clash.path)
        found.append(ConfigMistake(place.file, path, place.line, clash.message, clash.hint))
    return tuple(found)


def _thresholds(settings: ThresholdsSettings) -> Thresholds:
    return Thresholds(
        fall=settings.fall,
        rise=settings.rise,
        stale_after=timedelta(seconds=settings.stale_after_seconds),
        slow_stale_after=timedelta(seconds=settings.slow_stale_after_seconds),
        inventory_stale_after=timedelta(seconds=settings.inventory_stale_after_seconds),
        agent_grace=timedelta(seconds=settings.agent_grace_seconds),
        boot_grace=timedelta(seconds=settings.boot_grace_seconds),
        starting_warn_after=timedelta(seconds=settings.starting_warn_after_seconds),
        disk_used_ratio_max=settings.disk_used_ratio_max,
        inodes_used_ratio_max=settings.inodes_used_ratio_max,
        memory_available_ratio_min=settings.memory_available_ratio_min,
        clock_offset_max=timedelta(seconds=settings.clock_offset_seconds_max),
        mount_hung_after=timedelta(seconds=settings.mount_hung_after_seconds),
    )


def _limits(settings: LimitsSettings) -> Limits:
    return Limits(
        zone_in_flight_max=settings.zone_in_flight_max,
        zone_disruptive_max=settings.zone_disruptive_max,
        zone_window=timedelta(seconds=settings.zone_window_seconds),
        fleet_in_flight_max=settings.fleet_in_flight_max,
        storm_share=settings.storm_share,
        storm_count=settings.storm_count,
        hold_escalates_after=timedelta(seconds=settings.hold_escalates_after_seconds),
    )


def _clashes(settings: Settings) -> Iterator[Clash]:
    yield from _clashes_of_age(settings)
    yield from _clashes_of_connections(settings)
    yield from _clashes_of_limits(settings)
    yield from _clashes_of_management_logs(settings)
    seen: dict[str, str] = {}
    for name in settings.zones:
        first = seen.setdefault(name.casefold(), name)
        if first != name:
            message = "is given twice, in small and capital letters"
            yield Clash(("zones", name), message, "keep the one that CloudStack shows")


def _clashes_of_age(settings: Settings) -> Iterator[Clash]:
    """Evidence must live longer than it takes to renew it, or everything is always stale."""
    facts, database, ssh = settings.facts, settings.database, settings.ssh
    pairs: list[tuple[str, DocumentPath, float]] = [
        (
            "inventory_stale_after_seconds",
            ("cloudstack", "listing_interval_seconds"),
            settings.cloudstack.listing_interval_seconds,
        )
    ]
    if ssh.enabled:
        poll, slow = ("ssh", "poll_interval_seconds"), "slow_stale_after_seconds"
        pairs += [
            ("stale_after_seconds", poll, ssh.poll_interval_seconds),
            (
                "stale_after_seconds",
                ("facts", "unit_interval_seconds"),
                facts.unit_interval_seconds,
            ),
            (slow, ("facts", "slow_interval_seconds"), facts.slow_interval_seconds),
            (slow, ("facts", "disk_interval_seconds"), facts.disk_interval_seconds),
        ]
    if database is not None:
        renewed = ("database", "interval_seconds")
        pairs.append(("inventory_stale_after_seconds", renewed, database.interval_seconds))
    for name, where, interval in pairs:
        if getattr(settings.thresholds, name) < 2 * interval:
            yield Clash(
                ("thresholds", name),
                f"must be at least twice {spoken(where)}",
                f"at least {2 * interval:g} seconds, or ask more often",
                where,
            )


def _clashes_of_connections(settings: Settings) -> Iterator[Clash]:
    ssh = settings.ssh
    if not ssh.enabled:
        return
    if not ssh.vm_keys and ssh.agent_socket is None:
        hint = "give vm_keys or agent_socket, or switch off by ssh.enabled: false"
        yield Clash(("ssh", "vm_keys"), "is empty, so no VM can be looked into", hint)
    if ssh.poll_timeout_seconds >= settings.thresholds.stale_after_seconds:
        hint = f"less than {settings.thresholds.stale_after_seconds:g} seconds"
        message = "must be less than thresholds.stale_after_seconds"
        other = ("thresholds", "stale_after_seconds")
        yield Clash(("ssh", "poll_timeout_seconds"), message, hint, other)
    if ssh.back_off_seconds_max < ssh.back_off_seconds_min:
        hint = f"at least {ssh.back_off_seconds_min:g} seconds"
        message = "must not be less than back_off_seconds_min"
        other = ("ssh", "back_off_seconds_min")
        yield Clash(("ssh", "back_off_seconds_max"), message, hint, other)
    if settings.facts.dead_man_seconds < 2 * ssh.poll_interval_seconds:
        hint = f"at least {2 * ssh.poll_interval_seconds:g} seconds"
        message = "must be at least twice ssh.poll_interval_seconds"
        yield Clash(("facts", "dead_man_seconds"), message, hint, ("ssh", "poll_interval_seconds"))


def _clashes_of_management_logs(settings: Settings) -> Iterator[Clash]:
    names: set[str] = set()
    has_own_keys = bool(settings.ssh.jump_keys) or settings.ssh.agent_socket is not None
    for number, log in enumerate(settings.management_logs):
        where = ("management_logs", number)
        if log.name in names:
            yield Clash((*where, "name"), "is the name of two logs", "give each its own")
        names.add(log.name)
        if log.address is not None and not log.keys and not has_own_keys:
            hint = "give keys here, or ssh.jump_keys or ssh.agent_socket"
            yield Clash((*where, "keys"), "is empty, so the log cannot be read over SSH", hint)
        for name in ("keys", "known_hosts"):
            if log.address is None and getattr(log, name):
                hint = "give the address of the server, or leave it out"
                yield Clash((*where, name), "is for a log that is read over SSH only", hint)


def _clashes_of_limits(settings: Settings) -> Iterator[Clash]:
    limits, web, cloudstack = settings.limits, settings.web, settings.cloudstack
    if limits.zone_in_flight_max > limits.fleet_in_flight_max:
        hint = f"at most {limits.fleet_in_flight_max}"
        message = "must not be more than fleet_in_flight_max"
        yield Clash(
            ("limits", "zone_in_flight_max"), message, hint, ("limits", "fleet_in_flight_max")
        )
    if cloudstack.listing_timeout_seconds < cloudstack.request_timeout_seconds:
        hint = f"at least {cloudstack.request_timeout_seconds:g} seconds"
        message = "must not be less than request_timeout_seconds"
        other = ("cloudstack", "request_timeout_seconds")
        yield Clash(("cloudstack", "listing_timeout_seconds"), message, hint, other)
    if len(set(cloudstack.endpoints)) < len(cloudstack.endpoints):
        yield Clash(("cloudstack", "endpoints"), "names an endpoint twice", "keep one")
    if web.unhealthy_after_seconds < 2 * settings.timing.round_interval_seconds:
        hint = f"at least {2 * settings.timing.round_interval_seconds:g} seconds"
        message = "must be at least twice timing.round_interval_seconds"
        other = ("timing", "round_interval_seconds")
        yield Clash(("web", "unhealthy_after_seconds"), message, hint, other)


def warnings_about(settings: Settings) -> Iterator[str]:
    """What is allowed and yet worth a second look."""
    yield from _warnings_about_modes(settings)
    yield from _warnings_about_doors(settings)
    yield from _warnings_about_limits(settings)
    if not settings.ssh.enabled:
        yield "ssh.enabled is false: nothing is seen inside the VMs, and no agent is restarted"
    elif not settings.logs.follow:
        yield "logs.follow is false: no agent is restarted, for the proof of success is a log line"


def _warnings_about_modes(settings: Settings) -> Iterator[str]:
    for name, zone in settings.zones.items():
        if zone.mode.boldness > settings.mode.boldness:
            why = f"the global mode is {settings.mode}, and the most careful counts"
            yield f"zones.{name}.mode: {zone.mode} has no effect: {why}"
    if settings.mode is not Mode.OBSERVE and not settings.zones:
        why = "`zones` names no zone, so all are only observed"
        yield f"mode {settings.mode} has no effect: {why}"
    if _mode_of_unnamed_zones(settings) is Mode.ACT and settings.mode is Mode.ACT:
        yield 'zones."*" lets the daemon act in every zone that is not named, also in new ones'


def _mode_of_unnamed_zones(settings: Settings) -> Mode:
    other = settings.zones.get(EVERY_OTHER_ZONE)
    return other.mode if other is not None else Mode.OBSERVE


def _warnings_about_doors(settings: Settings) -> Iterator[str]:
    for endpoint in settings.cloudstack.endpoints:
        parts = urlsplit(endpoint)
        if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
            yield f"cloudstack.endpoints: {endpoint} is not encrypted"
    if not settings.cloudstack.verify_tls:
        yield "cloudstack.verify_tls is false: whoever is on the way can pose as CloudStack"
    host, _ = listen_address(settings.web.listen)
    if not _is_loopback(host):
        yield "web.listen is not a loopback address: whoever can connect sees names and states"
        if settings.web.enable_lifecycle:
            yield "web.enable_lifecycle is true and web.listen is open: others can make it reload"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _warnings_about_limits(settings: Settings) -> Iterator[str]:
    """Values looser than the careful defaults."""
    limits, careful = settings.limits, LimitsSettings()
    looser = {
        "zone_in_flight_max": limits.zone_in_flight_max > careful.zone_in_flight_max,
        "zone_disruptive_max": limits.zone_disruptive_max > careful.zone_disruptive_max,
        "zone_window_seconds": limits.zone_window_seconds < careful.zone_window_seconds,
        "fleet_in_flight_max": limits.fleet_in_flight_max > careful.fleet_in_flight_max,
        "storm_share": limits.storm_share > careful.storm_share,
        "storm_count": limits.storm_count > careful.storm_count,
        "hold_escalates_after_seconds": (
            limits.hold_escalates_after_seconds > careful.hold_escalates_after_seconds
        ),
    }
    for name in (name for name, is_looser in looser.items() if is_looser):
        default = getattr(careful, name)
        yield f"limits.{name} is looser than the careful default of {default:g}"
    if settings.thresholds.fall < ThresholdsSettings().fall:
        yield f"thresholds.fall is {settings.thresholds.fall}: a single lost answer weighs more"
