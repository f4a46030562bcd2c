"""How lengths of time, and what machines say, are put to people. Sentences live in the table."""

import re
from datetime import timedelta

_UNITS = (("d", 86400), ("h", 3600), ("min", 60))
_ERRNO = re.compile(r"\[Errno -?\d+\] ?")


def spoken(span: timedelta) -> str:
    """A length of time in the largest unit that needs no fraction: 1 h, 90 min, 2 s."""
    seconds = span.total_seconds()
    for unit, length in _UNITS:
        if seconds and seconds % length == 0:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:g} s"


def plain(text: str) -> str:
    """What a machine said, without the number that an error has among programmers."""
    return _ERRNO.sub("", text)
