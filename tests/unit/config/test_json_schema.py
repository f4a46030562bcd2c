"""The published schemas follow the code."""

import json
from pathlib import Path
from typing import Any

import pytest

from stackward.config.json_schema import json_schema, rules_json_schema

CONFIG = Path(__file__).parents[3] / "config"


@pytest.mark.parametrize(
    ("name", "make"), [("schema.json", json_schema), ("rules.schema.json", rules_json_schema)]
)
def test_the_published_schema_is_the_one_in_the_code(name, make):
    assert (CONFIG / name).read_text() == make(), (
        f"write it again: python -c 'from stackward.config.json_schema import {make.__name__} as s;"
        f' print(s(), end="")\' > config/{name}'
    )


def properties(schema: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for definition in (schema, *schema["$defs"].values()):
        for name, said in definition.get("properties", {}).items():
            found[f"{definition['title']}.{name}"] = said
    return found


@pytest.mark.parametrize("make", [json_schema, rules_json_schema])
def test_every_option_is_described_and_every_number_bounded(make):
    schema = json.loads(make())
    for name, said in properties(schema).items():
        assert len(said.get("description", "")) > 10, name
        numbers = [
            one
            for one in (said, *said.get("anyOf", []))
            if one.get("type") in ("integer", "number")
        ]
        for number in numbers:
            assert {"minimum", "exclusiveMinimum"} & set(number), name
            assert {"maximum", "exclusiveMaximum"} & set(number), name
    assert all(not d.get("additionalProperties") for d in schema["$defs"].values())


def test_no_key_is_taken_that_the_schema_does_not_name():
    schema = json.loads(json_schema())
    assert schema["additionalProperties"] is False
