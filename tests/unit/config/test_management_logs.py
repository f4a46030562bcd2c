"""The section `management_logs`: what it takes, what it refuses, and what it gives."""

from pathlib import Path

import pytest
from tests.unit.config.saying import KEY, write_main

from stackward.config.load import Reach, check, load_configuration
from stackward.config.strict import time_zone

OFF = "ssh: {enabled: false}\n"


def complaints(directory: Path, section: str) -> list[tuple[str, str]]:
    mistakes, _ = check(write_main(directory, OFF + section), {}, reach=Reach.CHECK)
    return [(mistake.path, mistake.message) for mistake in mistakes]


def test_a_name_is_enough_and_means_a_file_of_this_machine_in_utc(tmp_path: Path):
    main = write_main(tmp_path, OFF + "management_logs: [{name: ms-1}]\n")
    configuration = load_configuration(main, {})
    (log,) = configuration.settings.management_logs
    assert (log.address, log.time_zone) == (None, "UTC")
    assert log.path == "/var/log/cloudstack/management/management-server.log"
    assert configuration.management_signatures.signatures


def test_without_the_section_no_pattern_of_a_management_server_is_loaded(tmp_path: Path):
    assert load_configuration(write_main(tmp_path), {}).management_signatures.signatures == ()


def test_a_log_over_ssh_has_keys_and_known_hosts_of_its_own(tmp_path: Path):
    (tmp_path / "key").write_text(KEY)
    section = (
        "management_logs:\n"
        "  - {name: a, address: a.example.org, keys: [{file: key}], known_hosts: kh}\n"
        "  - {name: b}\n"
    )
    configuration = load_configuration(write_main(tmp_path, OFF + section), {})
    first = configuration.settings.management_logs[0]
    assert first.known_hosts == tmp_path / "kh"
    assert [len(keys) for keys in configuration.secrets.management_keys.values()] == [1, 0]
    assert any("management_logs[0].known_hosts" in one for one in configuration.warnings)


@pytest.mark.parametrize(
    ("section", "path", "piece"),
    [
        ("[{name: a}, {name: a}]", "management_logs[1].name", "two logs"),
        ("[{name: a, address: x}]", "management_logs[0].keys", "cannot be read over SSH"),
        ("[{name: a, known_hosts: x}]", "management_logs[0].known_hosts", "over SSH only"),
        ("[{name: a, time_zone: Mars/Olympus}]", "management_logs[0].time_zone", "no time zone"),
        ("[{name: a, time_zone: ../passwd}]", "management_logs[0].time_zone", "no time zone"),
        ("[{name: a, path: relative}]", "management_logs[0].path", ""),
        ("[{path: /x}]", "management_logs[0].name", "is required"),
    ],
)
def test_what_cannot_be_is_refused_at_its_place(tmp_path: Path, section, path, piece):
    told = complaints(tmp_path, f"management_logs: {section}\n")
    assert [where for where, _ in told] == [path]
    assert piece in told[0][1]


def test_a_zone_is_known_by_its_name():
    assert str(time_zone("Europe/Berlin")) == "Europe/Berlin"
    with pytest.raises(ValueError, match="no such"):
        time_zone("\x00")
