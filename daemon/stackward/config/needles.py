"""Words that must stand in a text for an expression to hit it.

To look for words is many times quicker than to look for expressions. Of an expression `needles`
names some of which one is in every text of ASCII that RE2 hits; the text may hold them and not be
hit. Nothing is said where the expression is not understood, or hits texts without such words.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce

LETTERS_MIN = 4
GROUPS_MAX = 100
# So many texts are spelled out where parts follow each other, and so many words are worth it.
SPELLED_MAX = 24
WORDS_MAX = 80
# Longer ones are not much rarer.
LETTERS_ENOUGH = 14

_TOKEN = re.compile(
    r"(?P<group>\(\?(?::|P?<\w+>|[imsU]*(?:-[imsU]+)?[:)])|[()|])"
    r"|(?P<repeat>[*+?]\??|\{\d+(?:,\d*)?\}\??)"
    r"|(?P<anchor>[\^$]|\\[bB])"
    r"|(?P<class>\[(?!\^?\])(?:\\[wdsWDS.\-\[\](){}+*?^$|/\\]|[^\\\[\]])+\])"
    r"|(?P<any>\.|\\[wdsWDSnrtfv])"
    r"|\\(?P<quoted>[^\w\s])"
    r"|(?P<word>[\w ,:;'\"/=<>@#%&!~-]{2,}(?![*+?{]))"
    r"|(?P<plain>[^\\\[])",
    re.DOTALL | re.ASCII,
)
_SET = re.compile(r"\[((?:\\[^\w\s]|[^\\\-^\[\]])+)\]", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Needle:
    """A word, written small if its case does not matter."""

    text: str
    any_case: bool = False

    def is_in(self, other: "Needle") -> bool:
        """True if every text that holds the other holds this."""
        if self.any_case:
            return self.text in other.text.lower()
        return not other.any_case and self.text in other.text

    def __add__(self, other: "Needle") -> "Needle":
        any_case = self.any_case or other.any_case
        text = self.text + other.text
        return Needle(text.lower() if any_case else text, any_case)


Needles = frozenset[Needle]
_NOTHING = frozenset({Needle("")})


def needles(expression: str) -> Needles:
    """Words of which every text that is hit holds one; empty: none are known."""
    tokens = tokens_of(expression)
    if tokens is None or expression.count("(") > GROUPS_MAX:
        return frozenset()
    reading = _Reading(tokens)
    best = _best(reading.choice(any_case=False))
    if reading.at < len(tokens) or min(map(_length, best), default=0) < LETTERS_MIN:
        return frozenset()
    return _fewest(best)


def tokens_of(expression: str) -> list[re.Match[str]] | None:
    """Its tokens, each with its kind as `lastgroup`. None: there is something not known here."""
    tokens, at = [], 0
    while at < len(expression):
        token = _TOKEN.match(expression, at)
        if token is None:
            return None
        tokens.append(token)
        at = token.end()
    return tokens if expression.isascii() else None


@dataclass(frozen=True, slots=True)
class _Part:
    """What is known of a part of an expression.

    `spelled` are all the texts that it hits, if they are few; `held` words of which one is in
    every text that it hits. Empty: not known.
    """

    spelled: Needles = frozenset()
    held: Needles = frozenset()


_ANY = _Part()
_EMPTY = _Part(_NOTHING)


class _Reading:
    """Reads an expression from its beginning to its end, by descent."""

    def __init__(self, tokens: list[re.Match[str]]) -> None:
        self.at = 0
        self._tokens = tokens

    def choice(self, *, any_case: bool) -> _Part:
        """Alternatives, up to the end of the group that they stand in."""
        ways: list[_Part] = []
        while True:
            way, any_case = self._sequence(any_case)
            ways.append(way)
            if self._next() != "|":
                return reduce(_or, ways)
            self.at += 1

    def _next(self) -> str:
        return self._tokens[self.at][0] if self.at < len(self._tokens) else ""

    def _sequence(self, any_case: bool) -> tuple[_Part, bool]:
        """Parts one behind the other. A flag set in them holds to the end of the group."""
        parts: list[_Part] = []
        while self._next() not in ("", "|", ")"):
            token = self._tokens[self.at]
            self.at += 1
            kind = token.lastgroup
            if kind == "repeat":
                if parts:
                    parts.append(_repeated(parts.pop(), token[0]))
            elif kind == "group":
                inner_case = _case(token[0], any_case)
                if token[0].endswith(")"):
                    any_case = inner_case
                    continue
                parts.append(self.choice(any_case=inner_case))
                self.at += 1  # the end of the group
            else:
                parts.append(_one(token, any_case=any_case))
        return _and(parts), any_case


def _case(opening: str, any_case: bool) -> bool:
    """Whether case matters behind this beginning of a group."""
    if not opening.startswith("(?") or "<" in opening:
        return any_case
    on, _, off = opening[2:].partition("-")
    return "i" in on or (any_case and "i" not in off)


def _one(token: re.Match[str], *, any_case: bool) -> _Part:
    """A token that stands for some text, or for a place."""
    letters: Iterable[str]  # those that it may be
    match token.lastgroup:
        case "anchor":
            return _EMPTY
        case "word":
            letters = (token[0],)
        case "plain" | "quoted":
            letters = (token[0][-1],)
        case "class" if found := _SET.fullmatch(token[0]):
            letters = found[1].replace("\\", "")
        case _:
            return _ANY
    if "\n" in letters or "\r" in letters:
        return _ANY
    return _Part(frozenset(_letter(each, any_case=any_case) for each in letters))


def _letter(text: str, *, any_case: bool) -> Needle:
    is_both = any_case and (text.lower() != text.upper())
    return Needle(text.lower() if is_both else text, is_both)


def _repeated(part: _Part, repeat: str) -> _Part:
    if repeat[0] == "?":
        return _Part(part.spelled | _NOTHING if part.spelled else frozenset())
    if repeat[0] == "*" or re.match(r"\{0+\D", repeat):
        return _ANY
    return _Part(held=_best(part))


def _or(one: _Part, other: _Part) -> _Part:
    spelled = _together(one.spelled, other.spelled, lambda: one.spelled | other.spelled)
    if len(spelled) > SPELLED_MAX:
        spelled = frozenset()
    held = _together(_best(one), _best(other), lambda: _best(one) | _best(other))
    return _Part(spelled, held)


def _together(one: Needles, other: Needles, made: Callable[[], Needles]) -> Needles:
    """Nothing is known of two if nothing is known of one of them."""
    return made() if one and other else frozenset()


def _and(parts: list[_Part]) -> _Part:
    """Parts one behind the other: what can be spelled is joined as far as it goes."""
    runs, run = [], _NOTHING
    for part in parts:
        if part.spelled and len(run) * len(part.spelled) <= SPELLED_MAX:
            run = frozenset(one + other for one in run for other in part.spelled)
            continue
        runs += [run, part.held]
        run = part.spelled or _NOTHING
    if not runs:
        return _Part(run, run)
    return _Part(held=max([*runs, run], key=_worth))


def _best(part: _Part) -> Needles:
    return max(part.spelled, part.held, key=_worth)


def _worth(words: Needles) -> tuple[int, float]:
    """How rare these words are likely to be: the worst of them, then all."""
    if not words or len(words) > WORDS_MAX:
        return 0, 0
    lengths = [min(_length(word), LETTERS_ENOUGH) for word in words]
    return min(lengths), sum(lengths) / len(lengths)


def _length(word: Needle) -> int:
    return len(word.text)


def _fewest(words: Needles) -> Needles:
    """Without those that hold another of them."""
    return frozenset(
        word for word in words if not any(other.is_in(word) for other in words - {word})
    )
