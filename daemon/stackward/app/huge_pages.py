"""The process's memory in huge pages, once the fleet is connected.

What is kept of each VM lies scattered over the heap and is touched once a poll. In a large fleet
the machine then spends much of its time on looking up where pages are; with 512 in one there is
less to look up. It is a wish: where the kernel does not take it, all stays as it was.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

MAPS = Path("/proc/self/maps")
HUGE_BYTES = 2 * 1024 * 1024
MADV_COLLAPSE = 25  # linux/mman.h, from Linux 6.1 on

# Memory of the process alone, readable and writable, without a file: proc(5).
_ANONYMOUS = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p 0+ 00:00 0\s*(?:\[heap\])?\s*")


def use_huge_pages() -> int:
    """Ask for it, in a thread: it takes a fifth of a second for 100 MB. Bytes that were taken."""
    try:
        import ctypes  # noqa: PLC0415  some sandboxes do not let it be imported

        madvise = ctypes.CDLL(None, use_errno=True).madvise
        lines = MAPS.read_text("ascii", "replace").splitlines()
    except (ImportError, MemoryError, OSError, AttributeError):
        return 0
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return sum(
        size for start, size in huge_stretches(lines) if madvise(start, size, MADV_COLLAPSE) == 0
    )


def huge_stretches(maps: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Start and size of each part of our own memory that is made of whole huge pages."""
    for line in maps:
        match = _ANONYMOUS.fullmatch(line)
        if match is None:
            continue
        begin, end = (int(match[at], 16) for at in (1, 2))
        begin = -(-begin // HUGE_BYTES) * HUGE_BYTES
        end = end // HUGE_BYTES * HUGE_BYTES
        if begin < end:
            yield begin, end - begin
