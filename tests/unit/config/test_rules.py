"""Rule packs: the built-in one, the operator's, and how they stand together."""

from datetime import timedelta
from pathlib import Path

import pytest
from tests.unit.config.saying import write_main

from stackward.config.load import load_settings
from stackward.config.rules import RuleBook, load_rules
from stackward.core.policy import Rule
from stackward.errors import ConfigMistake
from stackward.model.diagnosis import DiagnosisCode
from stackward.model.identity import VmRole
from stackward.model.plan import ActionName, Mode

RULE = """
  - name: {name}
    diagnosis: {diagnosis}
    roles: {roles}
    zones: {zones}
    stands_for_seconds: 30
    mode: advise
    replaces: {replaces}
    ladder: {ladder}
"""


def rule(name: str = "mine", **changes: str) -> str:
    said = {"diagnosis": "AgentDown", "roles": "[ssvm]", "zones": '["*"]', "ladder": "[]"}
    return RULE.format_map({"name": name, "replaces": "false", **said, **changes})


def write(directory: Path, *rules: str, more: str = "") -> Path:
    (directory / "mine.yaml").write_text("rules:" + ("".join(rules) or " []"))
    options = f"rules: {{files: [mine.yaml]{', ' + more if more else ''}}}\n"
    return write_main(directory, f"ssh: {{enabled: false}}\n{options}")


def book_of(main: Path) -> RuleBook:
    loaded = load_settings(main)
    return load_rules(loaded.settings.rules, loaded.root, loaded.base)


def rules_of(main: Path) -> tuple[Rule, ...]:
    book = book_of(main)
    assert book.mistakes == []
    return book.rules


def mistakes_of(main: Path) -> list[ConfigMistake]:
    return book_of(main).mistakes


def warnings_of(main: Path) -> list[str]:
    book = book_of(main)
    assert book.mistakes == []
    return book.warnings


def test_a_rule_is_compiled_as_it_is_written(tmp_path: Path):
    numbers = "attempts_max: 2, cooldown_seconds: 90, verify_within_seconds: 80"
    ladder = f"[{{action: reboot-system-vm, {numbers}}}]"
    main = write(tmp_path, rule(zones="[z1, z2]", roles="[cpvm]", ladder=ladder))
    mine, builtin = rules_of(main)
    assert (mine.name, builtin.name) == ("mine", "agent-down")
    assert mine.diagnosis is DiagnosisCode.AGENT_DOWN
    assert mine.roles == {VmRole.CONSOLE_PROXY}
    assert mine.zones == {"z1", "z2"}
    assert not mine.every_zone
    assert (mine.stands_for, mine.mode) == (timedelta(seconds=30), Mode.ADVISE)
    (rung,) = mine.ladder
    assert (rung.action, rung.attempts_max) == (ActionName.REBOOT_SYSTEM_VM, 2)
    assert (rung.cooldown, rung.verify_within) == (timedelta(seconds=90), timedelta(seconds=80))


def test_every_zone_must_be_said(tmp_path: Path):
    everywhere, nowhere, _ = rules_of(write(tmp_path, rule("a"), rule("b", zones="[]")))
    assert everywhere.every_zone
    assert everywhere.zones == frozenset()
    assert not nowhere.every_zone
    assert nowhere.zones == frozenset()


def test_a_rule_that_matches_nothing_is_warned_of(tmp_path: Path):
    main = write(tmp_path, rule("a", zones="[]"), rule("b", roles="[]"))
    assert warnings_of(main) == [
        "rule a: zones is empty, so it matches nothing",
        "rule b: roles is empty, so it matches nothing",
    ]


def test_a_built_in_rule_is_replaced_only_when_the_rule_says_so(tmp_path: Path):
    (mine,) = rules_of(write(tmp_path, rule("agent-down", replaces="true")))
    assert mine.mode is Mode.ADVISE
    (mistake,) = mistakes_of(write(tmp_path, rule("agent-down")))
    assert mistake.path == "rules[0].name"


def test_two_rules_of_one_name_are_a_mistake_even_when_they_replace(tmp_path: Path):
    for replaces in ("true", "false"):
        name = "agent-down" if replaces == "true" else "mine"
        twice = [rule(name, replaces=replaces)] * 2
        (mistake,) = mistakes_of(write(tmp_path, *twice))
        assert mistake.path == "rules[1].name"
        assert "mine.yaml:2" in mistake.message


def test_rules_can_be_switched_off_by_name(tmp_path: Path):
    main = write(tmp_path, rule("a"), rule("b"), more="switch_off: [agent-down, a]")
    assert [found.name for found in rules_of(main)] == ["b"]


def test_without_the_built_in_pack_only_the_operators_rules_count(tmp_path: Path):
    main = write(tmp_path, rule("agent-down"), more="builtin: false")
    assert [found.name for found in rules_of(main)] == ["agent-down"]
    assert rules_of(write(tmp_path, more="builtin: false")) == ()


def test_a_name_is_not_called_unknown_when_its_file_could_not_be_read(tmp_path: Path):
    main = write(tmp_path, rule("a", diagnosis="x"), more="switch_off: [a]")
    assert [mistake.path for mistake in mistakes_of(main)] == ["rules[0].diagnosis"]


def test_a_file_of_rules_that_is_empty_holds_none(tmp_path: Path):
    main = write(tmp_path)
    (tmp_path / "mine.yaml").write_text("# nothing yet\n")
    assert [found.name for found in rules_of(main)] == ["agent-down"]


def test_a_file_named_twice_is_read_once(tmp_path: Path):
    main = write(tmp_path, rule("a"), more="switch_off: []")
    main.write_text(main.read_text().replace("[mine.yaml]", "[mine.yaml, 'm*.yaml']"))
    assert [found.name for found in rules_of(main)] == ["a", "agent-down"]


@pytest.mark.parametrize(
    ("first", "second", "is_warned"),
    [
        ("['*']", "[z1]", True),
        ("['*']", "['*']", True),
        ("[z1, z2]", "[z2]", True),
        ("[z1]", "[z2]", False),
        ("[z1]", "['*']", False),
    ],
)
def test_a_rule_that_hides_another_is_warned_of(tmp_path: Path, first, second, is_warned):
    main = write(tmp_path, rule("a", zones=first), rule("b", zones=second), more="builtin: false")
    assert bool(warnings_of(main)) is is_warned


def test_rules_for_other_roles_or_diagnoses_do_not_hide_each_other(tmp_path: Path):
    rules = [rule("a"), rule("b", roles="[cpvm]"), rule("c", diagnosis="DiskFull")]
    assert warnings_of(write(tmp_path, *rules, more="builtin: false")) == []


@pytest.mark.parametrize("code", [str(code) for code in DiagnosisCode])
def test_the_agent_is_restarted_only_where_it_is_known_to_be_dead(tmp_path: Path, code):
    main = write(tmp_path, rule(diagnosis=code, ladder="[{action: restart-agent}]"))
    assert bool(mistakes_of(main)) is (code not in {"AgentDown", "AgentStopped"})


def test_a_reboot_of_a_disconnected_agent_is_warned_of(tmp_path: Path):
    ladder = "[{action: reboot-system-vm}]"
    main = write(tmp_path, rule(diagnosis="AgentDisconnected", ladder=ladder))
    assert ["may be copying" in warning for warning in warnings_of(main)] == [True]


def test_a_zone_named_twice_is_a_mistake(tmp_path: Path):
    (mistake,) = mistakes_of(write(tmp_path, rule(zones="[z1, Z1]")))
    assert mistake.path == "rules[0].zones"
