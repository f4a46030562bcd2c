"""The files that operators start from: they load, say every option, and say the defaults."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from stackward.config.document import parse_document
from stackward.config.load import Reach, check, load_settings
from stackward.config.patterns import load_patterns
from stackward.config.schema import Settings
from stackward.config.schema_sources import ManagementLogSettings
from stackward.config.secrets import SecretRef
from stackward.model.sighting import EventClass

CONFIG = Path(__file__).parents[3] / "config"
FULL = CONFIG / "stackward.yaml"


@pytest.mark.parametrize("name", ["stackward.yaml", "minimal.yaml"])
def test_an_example_has_no_mistake(name):
    mistakes, _ = check(CONFIG / name, {})
    assert mistakes == ()
    assert check(CONFIG / name, {}, reach=Reach.TEXT)[0] == ()


def test_the_example_of_a_pack_loads_and_stands_where_it_says():
    names = [each.name for each in load_patterns((CONFIG / "patterns.example.yaml",)).signatures]
    benign = [each.event is EventClass.BENIGN for each in load_patterns(()).signatures].count(True)
    assert names[0] == "our-mirror-is-slow"
    assert names[1 + benign] == "our-mirror-is-away"


def test_the_full_example_stands_at_the_defaults():
    said = load_settings(FULL).settings
    least = Settings(cloudstack=said.cloudstack)
    known_hosts = said.ssh.known_hosts.relative_to(CONFIG)
    ssh = said.ssh.model_copy(update={"vm_keys": (), "known_hosts": known_hosts})
    assert said.model_copy(update={"ssh": ssh}) == least
    for name, field in type(said.cloudstack).model_fields.items():
        assert field.is_required() or getattr(said.cloudstack, name) == field.default


def options(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
        holder = getattr(field.annotation, "__origin__", None)
        if inner is None or inner is SecretRef or holder is tuple:
            yield (*path, name)
        elif holder is not dict:
            yield from options(inner, (*path, name))


def test_the_full_example_shows_every_option():
    """With its commented options switched on; of options shown twice the second counts."""
    text = re.sub(r"(?m)^( *)#(?=\w|  )", r"\1", FULL.read_text())
    document = parse_document(text.encode(), str(FULL))
    assert {mistake.path for mistake in document.mistakes} == {
        "zones", "ssh.jump_keys", "ssh.hypervisors", "logs.pattern_files", "rules.files",
        "management_logs",
    }  # fmt: skip
    assert document.root is not None
    settings = Settings.model_validate_json(document.root.json())
    assert settings.database is not None
    assert set(ManagementLogSettings.model_fields) == settings.management_logs[0].model_fields_set
    shown = document.root.plain()
    missing = []
    for path in options(Settings):
        found: object = shown
        for step in path:
            found = found.get(step) if isinstance(found, dict) else None
        if found is None:
            missing.append(".".join(path))
    assert missing == []
