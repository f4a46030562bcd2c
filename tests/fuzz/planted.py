"""Readers that are broken on purpose: a harness that finds nothing in these finds nothing."""

from collections.abc import Mapping

from tests.fuzz import DICE_BYTES
from tests.fuzz.readers import Reader


def crashes(data: bytes) -> None:
    """Takes for granted that a line with a date names its logger."""
    for line in data[DICE_BYTES:].split(b"\n"):
        if line.startswith(b"2024-"):
            line.split(b"[")[1]


def looks_back(data: bytes) -> None:
    """For each line looks through all that was before it."""
    body = data[DICE_BYTES:]
    at = 0
    while (at := body.find(b"\n", at) + 1) > 0:
        body.count(b"Caused by: x", 0, at)


def keeps_all(data: bytes) -> None:
    """Keeps what it has read, many times over."""
    kept = []
    for line in data.split(b"\n"):
        kept.append(bytearray(line * 40))


PLANTED: Mapping[str, Reader] = {
    reader.name: reader
    for reader in (
        Reader("planted-crash", crashes, crashes),
        Reader("planted-quadratic", looks_back, looks_back),
        Reader("planted-hoard", keeps_all, keeps_all),
    )
}
