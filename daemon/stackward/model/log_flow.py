"""How the reading of one log goes: what came, what was lost, how far behind it is, its habits."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class DropReason(StrEnum):
    """Why something of a log was not told as it stands there. It was read and counted all the same.

    A log that comes faster than it may is not passed over: it waits (`LogFlow.behind_bytes`), and
    what is destroyed meanwhile is a gap.
    """

    TOLD_AS_COUNT = "told-as-count"  # events in too great numbers: they count, and are not told
    LINE_CUT = "line-cut"  # lines longer than any log's, kept as far as records go
    UNREADABLE = "unreadable"  # records on which the reader crashed


_NONE: Mapping[DropReason, int] = MappingProxyType({})


class LogFlow(NamedTuple):
    """Counters of one followed log since the daemon started; they only grow.

    `lines` and `bytes` were read; `unparsed` lines belong to no record that anybody knows (those
    behind an empty line among records that say nothing are not looked for).
    `dropped` counts by reason. `behind_bytes` is what the file held behind the place that was read
    last. `newest_logged_at` is the newest time stamp read, on the writer's clock (None: not seen);
    `last_line_at` is when lines came last, on ours (None: none since the log is followed).
    """

    lines: int = 0
    bytes: int = 0
    unparsed: int = 0
    dropped: Mapping[DropReason, int] = _NONE
    behind_bytes: int = 0
    newest_logged_at: datetime | None = None
    last_line_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogHabit:
    """The pauses that a log usually makes, learned while it is followed without a break.

    `pauses` counts them by length, each place for twice the length of the one before. `spoke_at`
    is when the log spoke last (None: it is not followed, or said nothing since).
    """

    pauses: tuple[int, ...] = ()
    spoke_at: datetime | None = None
