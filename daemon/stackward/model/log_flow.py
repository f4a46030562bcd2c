"""How the reading of one log goes: what came, what was lost, and how far behind it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class DropReason(StrEnum):
    """Why something of a log was read and not told."""

    STORM = "storm"  # more than the VM's share of bytes: lines passed over
    TOLD_AS_COUNT = "told-as-count"  # events that came in too great numbers: counted, not told
    LINE_CUT = "line-cut"  # bytes of lines longer than any log's
    UNREADABLE = "unreadable"  # a record on which the reader crashed


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFlow:
    """Counters of one followed log since the daemon started; they only grow.

    `lines` and `bytes` were read; `unparsed` lines belong to no record that anybody knows.
    `dropped` counts by reason. `behind_bytes` is what the file held behind the place that was read
    last. `newest_logged_at` is the newest time stamp read, on the writer's clock (None: not seen);
    `last_line_at` is when lines came last, on ours (None: none since the log is followed).
    """

    lines: int = 0
    bytes: int = 0
    unparsed: int = 0
    dropped: Mapping[DropReason, int] = field(default_factory=dict)
    behind_bytes: int = 0
    newest_logged_at: datetime | None = None
    last_line_at: datetime | None = None
