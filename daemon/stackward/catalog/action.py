"""What an action is: its traits, and the kinds of answer that its request can get.

An action is a request and a way to read the reply. Sending it, and proving that it helped, is the
executor's work. What a reply does not say clearly may have been done.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from stackward.model.plan import ActionName


class Means(StrEnum):
    """By what an action reaches its target."""

    SSH = "ssh"
    API = "api"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing that can be done.

    `deadline` is for the one request alone; `settle` passes before anything is taken for proof.
    `is_disruptive`: the VM's service is interrupted for others, so the zone's budget counts it.
    `commands` are the API commands that the user must be allowed, those to look afterwards too.
    """

    name: ActionName
    means: Means
    is_disruptive: bool
    deadline: timedelta
    settle: timedelta
    commands: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Done:
    """The request was taken: it will happen."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Compared and not done: the target is not any more what was diagnosed."""

    found: str


@dataclass(frozen=True, slots=True)
class Declined:
    """Surely not done."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """It may have been done."""

    reason: str


Reading = Done | Changed | Declined | Unclear
