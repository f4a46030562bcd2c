"""The main file, its drop-ins, and the whole configuration."""

from datetime import timedelta
from pathlib import Path

import pytest
from tests.unit.config.saying import KEY, LEAST, write_drop_in, write_main

from stackward.config.load import Reach, check, load_configuration, load_settings
from stackward.core.policy import Limits, Thresholds
from stackward.errors import ConfigError
from stackward.model.plan import ActionName, Mode


def mistakes_of(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load_settings(path)
    return [str(mistake) for mistake in raised.value.mistakes]


def test_the_least_file_gives_the_careful_defaults(tmp_path: Path):
    configuration = load_configuration(write_main(tmp_path), {})
    policy = configuration.policy
    assert policy.mode is Mode.OBSERVE
    assert policy.thresholds == Thresholds()
    assert policy.limits == Limits()
    assert [rule.name for rule in policy.rules] == ["agent-down"]
    assert configuration.secrets.api_key.reveal() == "not-a-real-key"
    assert configuration.secrets.database_password is None
    assert configuration.secrets.vm_keys == ()


def test_drop_ins_are_laid_over_the_main_file_in_name_order(tmp_path: Path):
    main = write_main(tmp_path, "ssh: {enabled: false, vm_user: admin}\nlogs: {follow: true}\n")
    second = write_drop_in(tmp_path, "20.yaml", "mode: advise\nssh: {vm_port: 22}\n")
    first = write_drop_in(tmp_path, "10.yaml", "mode: act\nlogs: {follow: false}\n")
    write_drop_in(tmp_path, "30.yaml", "# only a comment\n")
    loaded = load_settings(main)
    assert loaded.files[:3] == (main, first, second)
    assert loaded.settings.mode is Mode.ADVISE
    assert (loaded.settings.ssh.vm_user, loaded.settings.ssh.vm_port) == ("admin", 22)
    assert loaded.settings.logs.follow is False


def test_a_mistake_in_a_drop_in_is_told_with_its_own_file_and_line(tmp_path: Path):
    main = write_main(tmp_path)
    write_drop_in(tmp_path, "10.yaml", "# a line\nlimits:\n  storm_count: 0\n")
    (told,) = mistakes_of(main)
    assert "stackward.d/10.yaml:3: limits.storm_count: must be at least 1" in told


def test_mistakes_of_all_files_come_together(tmp_path: Path):
    main = write_main(tmp_path, "mode: watch\n")
    write_drop_in(tmp_path, "10.yaml", "- a list\n")
    write_drop_in(tmp_path, "20.yaml", "\tmode: act\n")
    write_drop_in(tmp_path, "30.yaml", "log: {level: loud}\n")
    told = "\n".join(mistakes_of(main))
    for piece in ("stackward.yaml:6: mode", "10.yaml:1", "20.yaml:1", "30.yaml:1: log.level"):
        assert piece in told


def test_a_drop_in_that_is_not_read_is_warned_of(tmp_path: Path):
    main = write_main(tmp_path)
    write_drop_in(tmp_path, "10.yml", "mode: act\n")
    write_drop_in(tmp_path, ".hidden.yaml", "mode: act\n")
    write_drop_in(tmp_path, "20.yaml~", "mode: act\n")
    loaded = load_settings(main)
    assert loaded.settings.mode is Mode.OBSERVE
    assert ["10.yml" in warning for warning in loaded.warnings] == [True]


def test_too_many_drop_ins_or_no_directory_are_mistakes(tmp_path: Path):
    main = write_main(tmp_path)
    for number in range(101):
        write_drop_in(tmp_path, f"{number}.yaml", "mode: act\n")
    assert "more than 100 files" in mistakes_of(main)[0]
    other = tmp_path / "other"
    other.mkdir()
    (other / "stackward.d").touch()
    assert "cannot be listed" in mistakes_of(write_main(other))[0]


@pytest.mark.parametrize(
    ("name", "piece"), [("gone.yaml", "there is no such file"), (".", "is a directory")]
)
def test_a_main_file_that_is_not_there_is_a_mistake(tmp_path: Path, name, piece):
    assert piece in mistakes_of(tmp_path / name)[0]


def test_relative_paths_start_at_the_main_file(tmp_path: Path):
    extra = """
state_directory: state
ssh: {enabled: false, known_hosts: hosts, agent_socket: agent.sock}
database: {host: db, user: reader, password: {value: x}, ca_file: db.pem}
"""
    main = write_main(tmp_path, extra)
    settings = load_settings(main).settings
    assert settings.state_directory == tmp_path / "state"
    assert settings.ssh.known_hosts == tmp_path / "hosts"
    assert settings.ssh.agent_socket == tmp_path / "agent.sock"
    assert settings.database is not None
    assert settings.database.ca_file == tmp_path / "db.pem"
    assert settings.cloudstack.ca_file is None


def test_every_secret_that_is_named_is_fetched(tmp_path: Path):
    (tmp_path / "vm").write_text(KEY)
    extra = """
ssh:
  vm_keys: [{file: vm}]
  jump_keys: [{env: JUMP}, {file: vm}]
database: {host: db, user: reader, password: {credential: db}}
"""
    (tmp_path / "db").write_text("a password\n")
    environment = {"JUMP": KEY, "CREDENTIALS_DIRECTORY": str(tmp_path)}
    secrets = load_configuration(write_main(tmp_path, extra), environment).secrets
    assert secrets.database_password is not None
    assert secrets.database_password.reveal() == "a password"
    assert [key.reveal() for key in secrets.vm_keys] == [KEY]
    assert [key.reveal() for key in secrets.jump_keys] == [KEY, KEY]
    assert "real" not in repr(secrets)


def test_a_secret_that_only_the_service_sees_is_a_warning_when_checking(tmp_path: Path):
    main = tmp_path / "stackward.yaml"
    main.write_text(LEAST.replace("{value: not-a-real-key}", "{credential: key}"))
    write_drop_in(tmp_path, "ssh.yaml", "ssh: {enabled: false}\n")
    mistakes, warnings = check(main, {})
    assert mistakes == ()
    assert any("cloudstack.api_key was not checked" in warning for warning in warnings)
    with pytest.raises(ConfigError, match="credentials exist only in the service"):
        load_configuration(main, {})


def test_a_check_of_the_text_alone_looks_at_no_secret_and_no_certificate(tmp_path: Path):
    main = tmp_path / "stackward.yaml"
    main.write_text(
        LEAST.replace("{value: not-a-real-key}", "{file: gone}") + "  ca_file: gone.pem\n"
    )
    write_drop_in(tmp_path, "ssh.yaml", "ssh: {enabled: false}\n")
    assert len(check(main, {})[0]) == 2
    assert check(main, {}, reach=Reach.TEXT)[0] == ()


def test_mistakes_between_options_in_rules_and_in_files_come_together(tmp_path: Path):
    extra = """
ssh: {enabled: true}
limits: {zone_in_flight_max: 5}
rules: {files: [gone.yaml], switch_off: [agent-up]}
logs: {pattern_files: [gone/*.yaml]}
"""
    main = write_main(tmp_path, extra)
    with pytest.raises(ConfigError) as raised:
        load_configuration(main, {})
    told = {mistake.path for mistake in raised.value.mistakes}
    assert {"ssh.vm_keys", "limits.zone_in_flight_max", "logs.pattern_files[0]"} <= told
    assert any(mistake.file.endswith("gone.yaml") for mistake in raised.value.mistakes)


def test_the_fingerprint_follows_settings_and_rules_but_no_secret(tmp_path: Path):
    main = write_main(tmp_path)
    first = load_configuration(main, {})
    assert load_configuration(main, {}).fingerprint == first.fingerprint
    main.write_text(main.read_text().replace("not-a-real-key", "another-key"))
    assert load_configuration(main, {}).fingerprint == first.fingerprint
    write_drop_in(tmp_path, "rules.yaml", "rules: {switch_off: [agent-down]}\n")
    second = load_configuration(main, {})
    assert second.fingerprint != first.fingerprint
    assert second.policy.rules == ()
    write_drop_in(tmp_path, "mode.yaml", "mode: act\n")
    assert load_configuration(main, {}).fingerprint != second.fingerprint


def test_the_built_in_rule_restarts_twice_then_reboots_once(tmp_path: Path):
    (rule,) = load_configuration(write_main(tmp_path), {}).policy.rules
    assert rule.every_zone
    assert rule.stands_for == timedelta(seconds=60)
    steps = [(rung.action, rung.attempts_max, rung.cooldown) for rung in rule.ladder]
    assert steps == [
        (ActionName.RESTART_AGENT, 2, timedelta(seconds=600)),
        (ActionName.REBOOT_SYSTEM_VM, 1, timedelta(seconds=1800)),
    ]


def test_an_unknown_environment_changes_nothing(tmp_path: Path):
    main = write_main(tmp_path)
    assert load_configuration(main, {"STACKWARD_MODE": "act"}).policy.mode is Mode.OBSERVE
