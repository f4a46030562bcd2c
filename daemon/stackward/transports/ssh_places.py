"""How the ends of a way are called in sentences: places, legs, and other people's words."""

from dataclasses import dataclass
from typing import NamedTuple

from stackward.errors import Leg

TOLD_MAX = 300  # characters of a peer's own words in one of our sentences


class Legs(NamedTuple):
    """What the three parts of a login are called."""

    tcp: Leg
    host_key: Leg
    auth: Leg


JUMP_LEGS = Legs(Leg.JUMP_TCP, Leg.JUMP_HOST_KEY, Leg.JUMP_AUTH)
VM_LEGS = Legs(Leg.INNER_TCP, Leg.INNER_HOST_KEY, Leg.INNER_AUTH)


@dataclass(frozen=True, slots=True)
class Place:
    """One sshd. `said` names it in sentences, `alias` is its other name in known_hosts."""

    said: str
    alias: str
    address: str
    port: int
    legs: Legs


def told(words: object) -> str:
    """What a peer or the library said: on one line, printable, and not long."""
    line = " ".join(str(words).split())
    return "".join(letter for letter in line[:TOLD_MAX] if letter.isprintable())
