"""From pydantic's errors to mistakes for people: place, plain words, and what to write instead.

What may be written is read from the JSON Schema of the same model, so hints cannot go stale.
Rule of the file: an input is never repeated. Keys are, except inside a secret.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from stackward.config.document import MISTAKES_MAX, DocumentPath, Node, spoken
from stackward.errors import ConfigMistake

SECRET = "SecretRef"  # noqa: S105  the name of a type
UNITS = ("seconds", "bytes", "ratio")

_WORDS = {
    "missing": "is required",
    "extra_forbidden": "is not a known key",
    "enum": "is not one of the allowed words",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "path_type": "must be text",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "string_too_short": "must not be empty",
    "string_too_long": "is too long",
    "string_pattern_mismatch": "holds characters that are not allowed, or is too long",
    "too_short": "must not be empty",
    "too_long": "has too many entries",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "is too large",
}
_BOUNDS = {
    "greater_than": ("gt", "must be more than"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be less than"),
    "less_than_equal": ("le", "must be at most"),
}


@dataclass(frozen=True, slots=True)
class Words:
    """A model's JSON Schema, to look things up in."""

    schema: Mapping[str, Any]

    @staticmethod
    @cache
    def of(model: type[BaseModel]) -> "Words":
        """The words of a model."""
        return Words(model.model_json_schema())

    def at(self, path: DocumentPath) -> Mapping[str, Any]:
        """What is said of the place `path`; empty where nothing is known."""
        found = self._whole(self.schema)
        for step in path:
            if isinstance(step, int):
                inner = found.get("items", {})
            else:
                inner = found.get("properties", {}).get(step, found.get("additionalProperties"))
            found = self._whole(inner) if isinstance(inner, Mapping) else {}
        return found

    def parents_of(self, key: str) -> Iterator[DocumentPath]:
        """Sections of the model that know this key."""
        for name, inner in self.schema.get("properties", {}).items():
            if key in self._whole(inner).get("properties", {}):
                yield (name,)

    def _whole(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Follow references, and skip the null of what is optional."""
        if "$ref" in schema:
            name = schema["$ref"].removeprefix("#/$defs/")
            definition: Mapping[str, Any] = self.schema["$defs"][name]
            return definition
        for choice in schema.get("anyOf", ()):
            if choice.get("type") != "null":
                return self._whole(choice)
        return schema


def mistakes_of(
    error: ValidationError, root: Node, words: Words, file: str
) -> tuple[ConfigMistake, ...]:
    """Every mistake that pydantic found, in the order of the file's lines."""
    details = error.errors(include_url=False, include_input=False)
    places = [tuple(detail["loc"]) for detail in details]
    found = [
        _mistake(detail["type"], loc, detail.get("ctx", {}), root, words, file)
        for detail, loc in zip(details, places, strict=True)
        if not (detail["type"] == "too_short" and _has_inner(loc, places))
    ]
    found.sort(key=lambda mistake: (mistake.file, mistake.line or 0))
    left = len(found) - MISTAKES_MAX
    more = (
        [ConfigMistake(file, "", None, f"{left} more mistakes are not shown")] if left > 0 else []
    )
    return (*found[:MISTAKES_MAX], *more)


def _has_inner(loc: DocumentPath, places: Sequence[DocumentPath]) -> bool:
    """True when a mistake is told inside; then the outer one is its echo."""
    return any(len(other) > len(loc) and other[: len(loc)] == loc for other in places)


def _mistake(
    kind: str,
    loc: DocumentPath,
    context: Mapping[str, Any],
    root: Node,
    words: Words,
    file: str,
) -> ConfigMistake:
    secret = _inside_secret(loc, words)
    if loc and loc[-1] == "[key]":
        loc = loc[:-1]
        message, hint = "is not a usable name", "names are not empty and have no spaces around them"
    elif secret is not None and kind == "extra_forbidden":
        loc = secret
        message, hint = (
            "holds a key that is not known",
            "a secret is one of file, credential, env, value",
        )
    else:
        message = _message(kind, context)
        hint = context.get("hint", "") or _hint(kind, loc, root, words)
    node = root.at(loc[:-1] if kind == "missing" else loc)
    return ConfigMistake(node.place.file or file, spoken(loc), node.place.line, message, hint)


def _inside_secret(loc: DocumentPath, words: Words) -> DocumentPath | None:
    """The path of the secret that `loc` lies in."""
    for length in range(len(loc)):
        if words.at(loc[:length]).get("title") == SECRET:
            return loc[:length]
    return None


def _message(kind: str, context: Mapping[str, Any]) -> str:
    if kind in _BOUNDS:
        name, message = _BOUNDS[kind]
        return f"{message} {context[name]:g}"
    if "message" in context:
        return str(context["message"])
    return _WORDS.get(kind, "cannot be used")


def _hint(kind: str, loc: DocumentPath, root: Node, words: Words) -> str:
    """What to write instead."""
    said = words.at(loc)
    value = root.at(loc).value
    if kind == "extra_forbidden":
        return _hint_for_key(loc, words)
    if kind == "missing":
        return _what_is_missing(said)
    if kind == "enum":
        return did_you_mean(value if isinstance(value, str) else "", said.get("enum", ()))
    if said.get("title") == SECRET:
        return "name where it is kept: {file: path}, {credential: name} or {env: NAME}"
    if kind == "bool_type":
        return "yes, no, on and off are plain text in YAML 1.2" if isinstance(value, str) else ""
    if kind in ("int_type", "float_type", *_BOUNDS):
        return _hint_for_number(loc, said, value)
    if kind == "string_type" and isinstance(value, int | float):
        return "put it in quotes"
    if value is None and said.get("type") in ("object", "array"):
        return "it is empty: remove the line, or indent what belongs to it"
    if kind == "tuple_type":
        return "put a '-' before each entry, or the whole in [ ]"
    return ""


def _hint_for_key(loc: DocumentPath, words: Words) -> str:
    *parent, key = loc
    known = sorted(words.at(tuple(parent)).get("properties", {}))
    text = str(key)
    longer = [name for name in known if name.startswith(f"{text}_")]
    close = difflib.get_close_matches(text[:80], known, n=1, cutoff=0.6) or longer[:1]
    if close:
        return f"did you mean {close[0]}?"
    elsewhere = [spoken(path) for path in words.parents_of(text)]
    if elsewhere:
        return f"it belongs under {elsewhere[0]}"
    return f"known here: {', '.join(known)}" if known else ""


def _hint_for_number(loc: DocumentPath, said: Mapping[str, Any], value: object) -> str:
    name = next((str(step) for step in reversed(loc) if isinstance(step, str)), "")
    unit = next((unit for unit in UNITS if unit in re.split("_", name)), "")
    low, is_open = said.get("minimum", said.get("exclusiveMinimum")), "exclusiveMinimum" in said
    high = said.get("maximum", said.get("exclusiveMaximum"))
    parts = []
    if isinstance(value, str) and unit:
        parts.append(f"write the number alone, its unit is {unit}")
    if low is not None and high is not None:
        of = f" {unit}" if unit and unit != "ratio" else ""
        parts.append(f"{'more than' if is_open else 'from'} {low:g} to {high:g}{of}")
    return "; ".join(parts)


def _what_is_missing(said: Mapping[str, Any]) -> str:
    """What has to be in it, or else what it is: the first sentence of its description."""
    if said.get("required") and said.get("title") != SECRET:
        return f"it needs {', '.join(said['required'])}"
    text = " ".join(str(said.get("description", "")).split())
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A hint for a word that is not among the known ones; the word itself is not repeated."""
    folded = {name.casefold().replace("-", ""): name for name in known}
    wanted = re.sub(r"[-_ ]", "", word[:80].casefold())
    close = difflib.get_close_matches(wanted, list(folded), n=1, cutoff=0.6)
    if close:
        return f"did you mean {folded[close[0]]}?"
    return f"known: {', '.join(known)}" if known else "there is none"
