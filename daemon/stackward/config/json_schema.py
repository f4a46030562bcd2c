"""The published JSON Schemas of the two kinds of files that operators write."""

import json

from pydantic import BaseModel

from stackward.config.rules import RuleFile
from stackward.config.schema import Settings


def json_schema() -> str:
    """The schema of the main file and its drop-ins; the same text every time."""
    return _text(Settings)


def rules_json_schema() -> str:
    """The schema of a rule file."""
    return _text(RuleFile)


def _text(model: type[BaseModel]) -> str:
    return json.dumps(model.model_json_schema(), indent=2, sort_keys=True) + "\n"
