"""Settings to policy, and what shows only when options are seen together."""

import dataclasses
import json

import pytest

from stackward.config.compile import compile_policy, warnings_about
from stackward.config.schema import LimitsSettings, Settings, ThresholdsSettings
from stackward.core.policy import Limits, Thresholds
from stackward.errors import ConfigError
from stackward.model.plan import Mode
from stackward.model.verdict import ProbeName

SECRET = {"value": "x"}
CLOUDSTACK = {"endpoints": ["https://x"], "api_key": SECRET, "secret_key": SECRET}
LEAST = {"cloudstack": CLOUDSTACK, "ssh": {"vm_keys": [SECRET]}}


def settings(**sections: object) -> Settings:
    merged: dict[str, object] = dict(LEAST)
    for name, section in sections.items():
        below = merged.get(name)
        merged[name] = {**below, **section} if isinstance(below, dict) else section  # type: ignore[dict-item]  # tests give mappings
    return Settings.model_validate_json(json.dumps(merged))


def clashes(**sections: object) -> list[str]:
    try:
        compile_policy(settings(**sections), ())
    except ConfigError as error:
        return [mistake.path for mistake in error.mistakes]
    return []


def test_every_threshold_and_limit_of_the_core_can_be_set():
    for core, model in ((Thresholds, ThresholdsSettings), (Limits, LimitsSettings)):
        names = {field.name for field in dataclasses.fields(core)}
        spoken = {
            name.replace("_seconds_max", "_max").removesuffix("_seconds")
            for name in model.model_fields
        }
        assert spoken == names


def test_what_is_set_reaches_the_policy():
    thresholds = {name: 7 for name in ThresholdsSettings.model_fields if "seconds" in name}
    thresholds |= {"fall": 5, "rise": 6, "stale_after_seconds": 99, "slow_stale_after_seconds": 999}
    thresholds |= {"inventory_stale_after_seconds": 77}
    ratios = {"disk_used_ratio_max": 0.5, "inodes_used_ratio_max": 0.6}
    ratios |= {"memory_available_ratio_min": 0.4}
    limits = dict.fromkeys(LimitsSettings.model_fields, 2) | {"storm_share": 0.25}
    policy = compile_policy(
        settings(
            mode="advise",
            zones={"z": {"mode": "act"}},
            thresholds={**thresholds, **ratios},
            limits=limits,
            probes={"switch_off": ["clock"]},
        ),
        (),
    )
    assert policy.mode is Mode.ADVISE
    assert policy.zone_modes == {"z": Mode.ACT}
    assert policy.disabled_probes == {ProbeName.CLOCK}
    told = dataclasses.asdict(policy.thresholds)
    assert all(told[name] != value for name, value in dataclasses.asdict(Thresholds()).items())
    told = dataclasses.asdict(policy.limits)
    assert all(told[name] != value for name, value in dataclasses.asdict(Limits()).items())


@pytest.mark.parametrize(
    ("sections", "path"),
    [
        ({"ssh": {"poll_interval_seconds": 31}}, "thresholds.stale_after_seconds"),
        ({"facts": {"unit_interval_seconds": 31}}, "thresholds.stale_after_seconds"),
        ({"facts": {"disk_interval_seconds": 151}}, "thresholds.slow_stale_after_seconds"),
        ({"facts": {"slow_interval_seconds": 151}}, "thresholds.slow_stale_after_seconds"),
        (
            {"thresholds": {"inventory_stale_after_seconds": 39}},
            "thresholds.inventory_stale_after_seconds",
        ),
        (
            {"database": {"host": "h", "user": "u", "password": SECRET, "interval_seconds": 61}},
            "thresholds.inventory_stale_after_seconds",
        ),
        ({"ssh": {"poll_timeout_seconds": 60}}, "ssh.poll_timeout_seconds"),
        ({"ssh": {"back_off_seconds_max": 1}}, "ssh.back_off_seconds_max"),
        ({"ssh": {"vm_keys": []}}, "ssh.vm_keys"),
        ({"facts": {"dead_man_seconds": 29}}, "facts.dead_man_seconds"),
        ({"limits": {"zone_in_flight_max": 5}}, "limits.zone_in_flight_max"),
        ({"cloudstack": {"listing_timeout_seconds": 5}}, "cloudstack.listing_timeout_seconds"),
        ({"cloudstack": {"endpoints": ["https://x", "https://x"]}}, "cloudstack.endpoints"),
        ({"web": {"unhealthy_after_seconds": 1}}, "web.unhealthy_after_seconds"),
        ({"zones": {"A": {"mode": "act"}, "a": {"mode": "act"}}}, "zones.a"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_mistakes(sections, path):
    assert clashes(**sections) == [path]


def test_the_defaults_go_together():
    assert clashes() == []


def test_what_ssh_needs_does_not_matter_without_ssh():
    assert clashes(ssh={"enabled": False, "vm_keys": [], "poll_interval_seconds": 300}) == []
    assert clashes(ssh={"vm_keys": [], "agent_socket": "/run/agent"}) == []


@pytest.mark.parametrize(
    ("sections", "piece"),
    [
        ({"zones": {"z": {"mode": "act"}}}, "zones.z.mode: act has no effect"),
        ({"mode": "act"}, "names no zone"),
        ({"mode": "act", "zones": {"*": {"mode": "act"}}}, "every zone that is not named"),
        ({"cloudstack": {"endpoints": ["http://cloud.example.org"]}}, "is not encrypted"),
        ({"cloudstack": {"verify_tls": False}}, "verify_tls is false"),
        ({"web": {"listen": "0.0.0.0:9787"}}, "not a loopback address"),
        ({"web": {"listen": "[::]:9787", "enable_lifecycle": True}}, "others can make it reload"),
        ({"ssh": {"enabled": False}}, "nothing is seen inside the VMs"),
        ({"logs": {"follow": False}}, "no agent is restarted"),
        ({"limits": {"storm_share": 0.5}}, "limits.storm_share is looser"),
        ({"limits": {"zone_window_seconds": 60}}, "limits.zone_window_seconds is looser"),
        ({"thresholds": {"fall": 1}}, "thresholds.fall is 1"),
    ],
)
def test_what_is_allowed_and_yet_careless_is_warned_of(sections, piece):
    assert [warning for warning in warnings_about(settings(**sections)) if piece in warning]


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:9787", "localhost:9787"])
def test_the_defaults_and_loopback_need_no_warning(listen):
    sections = {"web": {"listen": listen}, "cloudstack": {"endpoints": ["http://127.0.0.1:8080"]}}
    assert list(warnings_about(settings(**sections))) == []


@pytest.mark.parametrize(
    "listen", ["9787", ":9787", "localhost", "x:y", "x:99999", "x:1/y", "u@x:1", "[::1:9", " x:1"]
)
def test_a_listen_address_is_host_and_port(listen):
    with pytest.raises(ValueError, match="host:port"):
        settings(web={"listen": listen})


@pytest.mark.parametrize(
    "endpoint",
    ["ftp://x", "https://", "https://x:y", "https://x:0", "https://x/ y", "https://x?a=b", "https://[x"],
)  # fmt: skip
def test_an_endpoint_is_a_plain_url(endpoint):
    with pytest.raises(ValueError, match=r"endpoints"):
        settings(cloudstack={"endpoints": [endpoint]})
