"""Expressions that look at digits.

Lines of a storm differ in their numbers and mostly in nothing else. What an expression says of one
it says of all, unless it looks at digits one by one. Which do, and how they are without that, is
known here; an expression without digits of its own treats all of them alike.
"""

import re
from dataclasses import dataclass

from stackward.config.needles import tokens_of

_NEVER = r"[^\x00-\x{10FFFF}]"
# Counted gaps make an automaton large.
_COUNTED_GAP = re.compile(r"(?<!\\)\.\{\d+,\d*\}\??")


@dataclass(frozen=True, slots=True)
class Shapes:
    """An expression without digits of its own.

    `some` hits at least what the expression hits, and would with other digits; `every` hits at most
    what the expression hits whatever the digits are.
    """

    some: str
    every: str
    is_other: bool


def shapes_of(expression: str) -> Shapes | None:
    """None: nobody knows."""
    tokens = tokens_of(expression)
    if tokens is None:
        return None
    some = "".join(_replaced(token[0], token.lastgroup, r"\d") for token in tokens)
    every = "".join(_replaced(token[0], token.lastgroup, _NEVER) for token in tokens)
    return Shapes(_COUNTED_GAP.sub(".*", some), every, is_other=some != expression)


def _replaced(token: str, kind: str | None, digit: str) -> str:
    if kind == "class" and re.search("[0-9]", token.replace("0-9", "")):
        if digit == _NEVER:
            return _NEVER
        return "." if token.startswith("[^") else f"[0-9{token[1:]}"
    return re.sub("[0-9]", lambda _: digit, token) if kind in ("word", "plain") else token
