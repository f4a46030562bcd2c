"""Every broken file tells its mistakes: file, path, line and what to write instead."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from stackward.config.load import check
from stackward.errors import ConfigMistake

BROKEN = Path(__file__).parent / "broken"

# file: [(path, line, piece of the message, piece of the hint)]; a fifth names another file.
EXPECTED: dict[str, list[tuple[Any, ...]]] = {
    "aliases-without-end": [("a4", 10, "more than 20000 values", "")],
    "bad-endpoint": [
        ("cloudstack.endpoints[0]", 2, "must start with http://", "for example https://"),
        ("cloudstack.endpoints[1]", 2, "must not hold a user or password", "api_key"),
    ],
    "bracket-left-open": [("", 6, "is not YAML", "look at this line and above")],
    "duplicate-key": [("mode", 8, "given twice; the first is in line 6", "keep one")],
    "empty": [("", 1, "is empty", "cloudstack.endpoints")],
    "empty-section": [("ssh", 5, "must be a mapping", "remove the line")],
    "file-missing": [
        ("cloudstack.ca_file", 5, "no such file", "relative ones start at"),
        ("cloudstack.api_key", 3, "not-there: there is no such file", "check the path"),
        ("cloudstack.secret_key", 4, "is a directory", "name the file in it"),
    ],
    "latin-1": [("", 3, "is not UTF-8 text", "save the file as UTF-8")],
    "list": [("", 1, "must be a mapping", "name: value")],
    "misplaced-key": [("poll_interval_seconds", 6, "not a known key", "belongs under ssh")],
    "nested-too-deep": [("zones[0]", 6, "nested deeper than 20", "")],
    "no-key-to-the-vms": [("ssh.vm_keys", 5, "is empty", "ssh.enabled: false")],
    "out-of-bounds": [
        ("limits.storm_share", 7, "must be at most 1", "more than 0 to 1"),
        ("thresholds.fall", 9, "must be at least 1", "from 1 to 100"),
    ],
    "public-key": [("ssh.vm_keys[0]", 6, "is no private key", "-----BEGIN")],
    "required-missing": [
        ("cloudstack", 2, "is required", "it needs endpoints, api_key, secret_key")
    ],
    "rule-ladder": [
        (
            "rules[0].ladder[0].cooldown_seconds", 9, "longer than verify_within_seconds",
            "more than 120 seconds", "rules/ladder.yaml",
        ),
        (
            "rules[0].ladder[1].action", 10, "goes back down",
            "restart-agent, reboot-system-vm", "rules/ladder.yaml",
        ),
        (
            "rules[0].ladder[2].action", 11, "repeats an action",
            "attempts_max", "rules/ladder.yaml",
        ),
    ],
    "rule-name-taken": [
        (
            "rules[0].name", 2, "has the name of a built-in rule",
            "replaces: true", "rules/name-taken.yaml",
        )
    ],
    "rule-names": [
        ("rules.files[0]", 7, "matches no file", "correct the pattern"),
        ("rules.switch_off[0]", 8, "no rule has this name", "did you mean agent-down?"),
    ],
    "rule-replaces-nothing": [
        (
            "rules[0].replaces", 8, "replaces a rule that is not there",
            "did you mean agent-down?", "rules/replaces-nothing.yaml",
        )
    ],
    "rule-restart-of-the-living": [
        (
            "rules[0].ladder[0].action", 8, "may be alive and copying",
            "leave the rung out", "rules/restart-of-the-living.yaml",
        ),
        (
            "rules[1].ladder[0].action", 15, "may be alive and copying",
            "leave the rung out", "rules/restart-of-the-living.yaml",
        ),
    ],
    "rule-unknown-words": [
        ("rules[0].diagnosis", 3, "allowed words", "mean AgentDown?", "rules/unknown-words.yaml"),
        ("rules[0].roles[1]", 4, "allowed words", "ssvm, cpvm", "rules/unknown-words.yaml"),
        (
            "rules[0].ladder[0].action", 9, "allowed words",
            "did you mean restart-agent?", "rules/unknown-words.yaml",
        ),
        (
            "rules[0].ladder[1].action", 10, "allowed words",
            "did you mean reboot-system-vm?", "rules/unknown-words.yaml",
        ),
        ("rules[1].roles", 11, "is required", "Roles of the VMs", "rules/unknown-words.yaml"),
        ("rules[1].zones", 11, "is required", "Names of the zones", "rules/unknown-words.yaml"),
        ("rules[1].stands_for_seconds", 11, "is required", "", "rules/unknown-words.yaml"),
        ("rules[1].mode", 11, "is required", "", "rules/unknown-words.yaml"),
        ("rules[1].ladder", 11, "is required", "", "rules/unknown-words.yaml"),
    ],
    "rule-wide-ladder": [
        ("rules[0].ladder", 8, "about many VMs", "ladder: []", "rules/wide-ladder.yaml"),
        ("rules[0].zones", 5, "already is every zone", '["*"]', "rules/wide-ladder.yaml"),
    ],
    "secret-in-clear": [
        ("cloudstack.api_key", 3, "must be a mapping", "{file: path}"),
        ("cloudstack.secret_key.value", 4, "must be text", "quotes"),
    ],
    "secret-in-two-places": [
        ("cloudstack.api_key", 3, "must name exactly one place", "{credential: name}"),
        ("cloudstack.secret_key", 4, "holds a key that is not known", "file, credential, env"),
    ],
    "stale-at-once": [
        ("thresholds.stale_after_seconds", 7, "twice ssh.poll_interval_seconds", "90 seconds"),
        ("ssh.back_off_seconds_max", 8, "less than back_off_seconds_min", "at least 2 seconds"),
    ],
    "tab": [("", 6, "a tab where YAML allows none", "indent with spaces")],
    "tag": [("", 6, "tags (!) are not used here", "quote text")],
    "two-documents": [("", 5, "holds a second document", "---")],
    "unit-in-value": [("ssh.poll_interval_seconds", 7, "must be a number", "its unit is seconds")],
    "unknown-key": [("ssh.poll_interval", 7, "not a known key", "mean poll_interval_seconds?")],
    "unknown-word": [
        ("mode", 6, "allowed words", "observe, advise, act"),
        ("zones.zone-1.mode", 8, "allowed words", "did you mean act?"),
    ],
    "yes-and-no": [("ssh.enabled", 5, "must be true or false", "plain text in YAML 1.2")],
    "zone-twice": [("zones.zone-1", 8, "is given twice", "CloudStack shows")],
}  # fmt: skip


@cache
def mistakes_in(name: str) -> tuple[ConfigMistake, ...]:
    mistakes, _ = check(BROKEN / f"{name}.yaml", {})
    return mistakes


def test_every_broken_file_is_in_the_table():
    assert {file.stem for file in BROKEN.glob("*.yaml")} == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_broken_file_tells_each_of_its_mistakes_with_place_and_hint(name):
    told = {(mistake.path, mistake.line): mistake for mistake in mistakes_in(name)}
    assert set(told) == {(path, line) for path, line, *_ in EXPECTED[name]}
    for path, line, message, hint, *file in EXPECTED[name]:
        mistake = told[path, line]
        assert message in mistake.message
        assert hint in mistake.hint
        assert mistake.file == str(BROKEN / (file[0] if file else f"{name}.yaml"))


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_no_mistake_repeats_a_secret(name):
    text = "".join(str(mistake) for mistake in mistakes_in(name))
    for secret in ("hunter2", "20251128", "not-a-real", "AAAAC3NzaC1"):
        assert secret not in text


def test_a_mistake_reads_as_one_line_and_a_hint():
    (mistake,) = mistakes_in("unknown-key")
    first, second = str(mistake).splitlines()
    assert first.endswith("unknown-key.yaml:7: ssh.poll_interval: is not a known key")
    assert second == "    hint: did you mean poll_interval_seconds?"
