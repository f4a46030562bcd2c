"""Whatever a file holds, it gives settings or `ConfigError`, and never a secret in a message."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.config.saying import LEAST

from stackward.config.json_schema import json_schema
from stackward.config.load import load_settings
from stackward.config.rules import load_rules
from stackward.config.schema import Settings
from stackward.errors import ConfigError

SECRET = "hunter2hunter2"
SCHEMA = json.loads(json_schema())
KEYS = sorted(
    {name for model in (SCHEMA, *SCHEMA["$defs"].values()) for name in model.get("properties", {})}
)
WORDS = ["observe", "act", "yes", "30s", "*", "AgentDown", "https://x", "127.0.0.1:1", SECRET]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.sampled_from(WORDS),
    st.text(max_size=20),
)
keys = st.one_of(st.sampled_from(KEYS), st.text(max_size=10))
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6),
    max_leaves=20,
)
sections = st.dictionaries(st.sampled_from(sorted(SCHEMA["properties"])), values, max_size=6)
slack = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


def load(content: bytes) -> Settings | ConfigError:
    with TemporaryDirectory() as directory:
        file = Path(directory) / "stackward.yaml"
        file.write_bytes(content)
        try:
            return load_settings(file).settings
        except ConfigError as error:
            return error


def is_told_well(found: Settings | ConfigError) -> bool:
    if isinstance(found, Settings):
        return True
    return bool(found.mistakes) and all(mistake.message for mistake in found.mistakes)


@slack
@given(sections)
def test_any_mapping_of_known_sections_gives_settings_or_mistakes(document):
    assert is_told_well(load(json.dumps(document).encode()))


@slack
@given(values)
def test_any_value_as_a_document_gives_settings_or_mistakes(document):
    assert is_told_well(load(json.dumps(document).encode()))


@slack
@given(sections)
def test_a_good_file_with_anything_laid_over_it_gives_settings_or_mistakes(document):
    with TemporaryDirectory() as directory:
        main = Path(directory) / "stackward.yaml"
        main.write_text(LEAST)
        drop_in = Path(directory) / "stackward.d" / "any.yaml"
        drop_in.parent.mkdir()
        drop_in.write_text(json.dumps(document))
        try:
            loaded = load_settings(main)
        except ConfigError:
            return
        load_rules(loaded.settings.rules, loaded.root, loaded.base)


@slack
@given(st.binary(max_size=200))
def test_any_bytes_give_settings_or_mistakes(content):
    assert is_told_well(load(content))


@slack
@given(st.text(alphabet="ab:-[]{}&*!|>'\"%@`#?,. \n\t\\<~1", max_size=80))
def test_any_jumble_of_yaml_signs_gives_settings_or_mistakes(text):
    assert is_told_well(load(text.encode()))


@slack
@given(values, st.sampled_from(["api_key", "secret_key"]))
def test_nothing_that_stands_where_a_secret_belongs_is_repeated(value, name):
    document = {"cloudstack": {"endpoints": ["https://x"], name: [value, SECRET]}}
    documents = [document, {"cloudstack": {name: {SECRET: value, "value": value}}}]
    for one in documents:
        found = load(json.dumps(one).encode())
        assert SECRET not in str(found)
        assert SECRET not in repr(found)
