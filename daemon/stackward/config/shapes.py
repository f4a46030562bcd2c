"""Expressions that look at digits.

Lines of a storm differ in their numbers and mostly in nothing else. What an expression says of one
it says of all, unless it looks at digits one by one. Which do, and how they are without that, is
known here; an expression without digits of its own treats all of them alike.
"""

import re

from stackward.config.needles import tokens_of

_DIGITS = frozenset("0123456789")


def without_digits(expression: str) -> str | None:
    """It hits all that the expression hits, whatever the digits in it are.

    None: nobody knows. What comes back as it was does not look at digits.
    """
    tokens = tokens_of(expression)
    if tokens is None:
        return None
    return "".join(_widened(token[0], token.lastgroup) for token in tokens)


def _widened(token: str, kind: str | None) -> str:
    if kind == "class" and _DIGITS & set(token.replace("0-9", "")):
        return "." if token.startswith("[^") else f"[0-9{token[1:]}"
    return re.sub("[0-9]", r"\\d", token) if kind in ("word", "plain") else token
