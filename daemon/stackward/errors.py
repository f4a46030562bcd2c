"""Every exception that crosses a room's door.

    StackwardError
    ├── ConfigError          the configuration is wrong; carries every mistake, not just the first
    ├── TransportError       the world did not answer as asked
    │   ├── Unreachable      no connection could be made, or it broke
    │   ├── TimedOut         the deadline passed first
    │   ├── Refused          the peer answered, and said no (wrong key, not allowed, wrong state)
    │   └── Garbled          the peer answered with something that cannot be read
    ├── JournalError         the durable memory cannot be read or written
    └── PromiseBroken        a bug: the planner broke one of its own promises

Rule of the room: expected outcomes are values, not exceptions. A transport translates its
library's exceptions into these four and nothing else leaves it.
"""

from dataclasses import dataclass
from enum import StrEnum


class StackwardError(Exception):
    """The root of the tree."""


@dataclass(frozen=True, slots=True)
class ConfigMistake:
    """One mistake in a configuration file.

    `path` is where in the document (`cloudstack.endpoints[0]`), `line` counts from 1 and is None
    where no line applies; `hint` says what to write instead.
    """

    file: str
    path: str
    line: int | None
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line is not None else self.file
        hint = f"\n    hint: {self.hint}" if self.hint else ""
        return f"{where}: {self.path or '(whole file)'}: {self.message}{hint}"


class ConfigError(StackwardError):
    """The configuration cannot be used. `mistakes` holds all of them."""

    def __init__(self, mistakes: tuple[ConfigMistake, ...]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = mistakes


class Leg(StrEnum):
    """The part of a way to a VM that broke."""

    JUMP_TCP = "jump-tcp"
    JUMP_HOST_KEY = "jump-host-key"
    JUMP_AUTH = "jump-auth"
    INNER_TCP = "inner-tcp"
    INNER_HOST_KEY = "inner-host-key"
    INNER_AUTH = "inner-auth"
    CHANNEL = "channel"

    @property
    def spoken(self) -> str:
        """What is missing there, as people say it."""
        return _LEG_WORDS[self]


_LEG_WORDS = {
    Leg.JUMP_TCP: "no connection to the hypervisor",
    Leg.JUMP_HOST_KEY: "another host key on the hypervisor",
    Leg.JUMP_AUTH: "no login on the hypervisor",
    Leg.INNER_TCP: "no connection to the VM",
    Leg.INNER_HOST_KEY: "another host key in the VM",
    Leg.INNER_AUTH: "no login in the VM",
    Leg.CHANNEL: "no answer over the connection",
}


class TransportError(StackwardError):
    """The world did not answer as asked.

    `leg` is set by the SSH transport alone. `maybe_sent` is True unless it is certain that no byte
    of the request has left this machine: what may have been sent is never sent again.
    """

    def __init__(self, message: str, *, leg: Leg | None = None, maybe_sent: bool = True) -> None:
        super().__init__(message)
        self.leg = leg
        self.maybe_sent = maybe_sent


class Unreachable(TransportError):
    """No connection could be made, or it broke."""


class TimedOut(TransportError):
    """The deadline passed first."""


class RefusalKind(StrEnum):
    """Why a peer said no, in the terms of CloudStack's ApiErrorCode.java."""

    CREDENTIALS = "credentials"  # 401: key, signature, expiry, or a command this server lacks
    PARAMETER = "parameter"  # 430, 431 without a missing entity, 405, 400
    GONE = "gone"  # 431 for an id that no longer exists
    NOT_ALLOWED = "not-allowed"  # 432, 531: the role may not call this
    THROTTLED = "throttled"  # 429
    STANDING_DOWN = "standing-down"  # 503, or 530 "A shutdown has been triggered"
    INTERNAL = "internal"  # 530
    NO_CAPACITY = "no-capacity"  # 532, 533, 535
    UNAVAILABLE = "unavailable"  # 534
    IN_USE = "in-use"  # 536, 537
    HOST_KEY = "host-key"  # SSH: the key shown is not the key pinned
    AUTHENTICATION = "authentication"  # SSH and MySQL: the peer does not accept us
    OTHER = "other"


class Refused(TransportError):
    """The peer answered, and said no. `code` is the HTTP or API error code where there is one."""

    def __init__(
        self,
        message: str,
        *,
        kind: RefusalKind,
        code: int | None = None,
        leg: Leg | None = None,
        maybe_sent: bool = True,
    ) -> None:
        super().__init__(message, leg=leg, maybe_sent=maybe_sent)
        self.kind = kind
        self.code = code


class Garbled(TransportError):
    """The peer answered with something that cannot be read."""


class JournalError(StackwardError):
    """The durable memory cannot be read or written. It stops acting, never watching."""


class PromiseBroken(StackwardError):
    """A bug: a plan broke a promise. The plan is refused and the daemon turns itself to advise."""
