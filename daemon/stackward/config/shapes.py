"""Expressions that look at digits.

Lines of a storm differ in their numbers and mostly in nothing else. What an expression says of one
it says of all, unless it looks at digits one by one. Which do, and how they are without that, is
known here; an expression without digits of its own treats all of them alike.
"""

import re
from dataclasses import dataclass

from stackward.config.needles import tokens_of

_NEVER = r"[^\x00-\x{10FFFF}]"


@dataclass(frozen=True, slots=True)
class Shapes:
    """An expression without digits of its own.

    `some` hits what the expression hits, and would with other digits; `every` hits only what the
    expression hits whatever the digits are.
    """

    some: str
    every: str


def shapes_of(expression: str) -> Shapes | None:
    """None: nobody knows. `some` is the expression if it does not look at digits."""
    tokens = tokens_of(expression)
    if tokens is None:
        return None
    some = [_replaced(token[0], token.lastgroup, r"\d") for token in tokens]
    every = [_replaced(token[0], token.lastgroup, _NEVER) for token in tokens]
    return Shapes("".join(some), "".join(every))


def _replaced(token: str, kind: str | None, digit: str) -> str:
    if kind == "class" and re.search("[0-9]", token.replace("0-9", "")):
        if digit == _NEVER:
            return _NEVER
        return "." if token.startswith("[^") else f"[0-9{token[1:]}"
    return re.sub("[0-9]", lambda _: digit, token) if kind in ("word", "plain") else token
