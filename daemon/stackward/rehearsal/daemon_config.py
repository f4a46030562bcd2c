"""The configuration of a daemon that watches a rehearsal, as the mapping that its YAML would be."""

from collections.abc import Mapping
from pathlib import Path

from stackward.rehearsal.keys import KeyRing
from stackward.rehearsal.management_log import NAME as MANAGEMENT_LOG
from stackward.rehearsal.settings import RehearsalSettings

# A cloud that scans faster than this is played fast, and the daemon must keep up.
_QUICK_SCAN_SECONDS = 5.0


def daemon_config(
    settings: RehearsalSettings,
    *,
    directory: Path,
    api_url: str,
    api_key: str,
    secret_key: str,
    keys: KeyRing,
    jumps: Mapping[str, tuple[str, int]],
    vm_ports: Mapping[str, int],
) -> dict[str, object]:
    """Secrets are written to files beside the keys; the mapping names the files."""
    api_key_path, secret_key_path = keys.directory / "api-key", keys.directory / "secret-key"
    for path, text in ((api_key_path, api_key), (secret_key_path, secret_key)):
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
    ssh: dict[str, object] = {
        "vm_keys": [{"file": str(keys.vm_key_path)}],
        "jump_keys": [{"file": str(keys.jump_key_path)}],
        "known_hosts": str(keys.known_hosts_path),
        "hypervisors": {
            name: {"address": address, "port": port} for name, (address, port) in jumps.items()
        },
        "vm_port_overrides": dict(vm_ports),
    }
    cloudstack: dict[str, object] = {
        "endpoints": [api_url],
        "api_key": {"file": str(api_key_path)},
        "secret_key": {"file": str(secret_key_path)},
    }
    config: dict[str, object] = {
        "state_directory": str(directory / "daemon-state"),
        "zones": {"*": {"mode": "act"}},
        "cloudstack": cloudstack,
        "ssh": ssh,
        "web": {"listen": "127.0.0.1:0"},
        "management_logs": [{"name": "ms-1", "path": str(directory / MANAGEMENT_LOG)}],
    }
    if settings.pace.scan < _QUICK_SCAN_SECONDS:
        _hurry(config, cloudstack, ssh)
    return config


def _hurry(
    config: dict[str, object], cloudstack: dict[str, object], ssh: dict[str, object]
) -> None:
    """Short intervals, and grace periods to match: a minute here is a quarter of an hour."""
    cloudstack |= {"listing_interval_seconds": 1.0, "requests_per_second_max": 100.0}
    ssh |= {
        "poll_interval_seconds": 1.0,
        "poll_timeout_seconds": 5.0,
        "back_off_seconds_min": 0.5,
        "back_off_seconds_max": 4.0,
    }
    config["facts"] = {
        "unit_interval_seconds": 1.0,
        "slow_interval_seconds": 2.0,
        "disk_interval_seconds": 5.0,
        "connect_interval_seconds": 30.0,
        "connect_retry_interval_seconds": 5.0,
    }
    config["thresholds"] = {
        "fall": 2,
        "stale_after_seconds": 15.0,
        "slow_stale_after_seconds": 30.0,
        "inventory_stale_after_seconds": 15.0,
        "agent_grace_seconds": 10.0,
        "boot_grace_seconds": 5.0,
    }
    config["timing"] = {"round_interval_seconds": 0.5, "positions_interval_seconds": 1.0}
