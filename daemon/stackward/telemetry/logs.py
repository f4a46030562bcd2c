"""The daemon's own log: structlog, JSON for machines, key=value with colours on a terminal.

Every value passes redaction, and every line of WARNING or worse is counted for the metrics.
"""

import logging
import sys
from collections import Counter
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from stackward.catalog.redact import redact

VALUE_LENGTH_MAX = 2000


class LogCounts:
    """How many lines were written at each level that asks for attention."""

    def __init__(self) -> None:
        self.lines: Counter[str] = Counter()

    def count(
        self, _logger: object, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Count a line; a structlog processor."""
        if method in ("warning", "error", "exception", "critical"):
            self.lines["error" if method == "exception" else method] += 1
        return event


def _redacted(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str) and key not in ("event", "level", "timestamp"):
            event[key] = redact(value)[:VALUE_LENGTH_MAX]
        elif not isinstance(value, (int, float, bool, type(None), str)):
            event[key] = redact(str(value))[:VALUE_LENGTH_MAX]
    return event


def open_log(
    *, style: str = "auto", level: str = "info", stream: TextIO | None = None
) -> tuple[structlog.typing.FilteringBoundLogger, LogCounts]:
    """Set the log up. `style`: json, console, or auto (console on a terminal)."""
    stream = stream or sys.stderr
    counts = LogCounts()
    is_console = style == "console" or (style == "auto" and stream.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=34)
        if is_console
        else structlog.processors.JSONRenderer()
    )
    # The libraries' own chatter is not ours to print; their exceptions come back translated.
    logging.getLogger("asyncssh").setLevel(logging.CRITICAL)
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    processors: list[structlog.typing.Processor] = [
        counts.count,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redacted,
        renderer,
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(
            getattr(logging, level.upper(), logging.INFO)
        ),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return log, counts
