"""The files that a log of this machine lies in: the log, and those that were rotated away from it.

Everything here blocks, so nothing here runs on the event loop. Which file was written after which
is told by the names of each row of rotated files; times are asked only for how two rows lie between
each other, where two rotators are at work, and for what is a copy.
"""

import os
import re
import stat
import subprocess
import zlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

HEAD_BYTES = 256
BLOCK_BYTES = 65536
_PACKED = ".gz"
_GZIP_ALONE = 31  # zlib's word for: a gzip header, and nothing else
_DATE = re.compile(r"[-.]\d{4}[-.:_T\d]*")
_PART = re.compile(r"\d+|\D+")
# For another program, which must speak plainly and needs nothing else that may stand in ours.
_ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


class LogFile:
    """One open file, whatever its name has become. `close` it."""

    def __init__(self, path: str, *, is_packed: bool) -> None:
        """Open it; OSError where it is no file that can be read."""
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # a pipe must not hold us
        self._descriptor = os.open(path, flags)
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            self.close()
            raise OSError(f"{path} is no regular file")
        self.is_packed = is_packed
        self.unpacked: Unpacked | None = None

    @property
    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    @property
    def identity(self) -> str:
        """DEV:INODE."""
        status = os.fstat(self._descriptor)
        return f"{status.st_dev}:{status.st_ino}"

    def is_at(self, path: str) -> bool:
        """True while this name still is this file's."""
        return _identity(path) == self.identity

    def read(self, offset: int, most: int) -> bytes:
        """What the file holds from there on, as it lies there."""
        return os.pread(self._descriptor, most, offset)

    def head(self, most: int = HEAD_BYTES) -> bytes:
        """The first bytes as they were written."""
        if not self.is_packed:
            return self.read(0, most)
        return Unpacked(self).read(most)

    def begins_with(self, digest: str, count: int) -> bool:
        """True if its first `count` bytes have this digest."""
        head = self.head(count)
        return len(head) == count and digest_of(head) == digest

    def go_to(self, offset: int) -> bool:
        """Make ready to read from there; False: there are not so many bytes."""
        if not self.is_packed:
            return offset <= self.size
        self.unpacked = Unpacked(self)
        while offset:
            piece = self.unpacked.read(min(offset, BLOCK_BYTES))
            if not piece:
                return False
            offset -= len(piece)
        return True

    def close(self) -> None:
        os.close(self._descriptor)


class Unpacked:
    """What a packed file holds, piece by piece. `is_broken`: it ended before its end."""

    def __init__(self, file: LogFile) -> None:
        self._file = file
        self._at = 0
        self._inflater = zlib.decompressobj(_GZIP_ALONE)
        self._is_at_end = False
        self.is_broken = False

    def read(self, most: int) -> bytes:
        """The next bytes, `most` of them unless the end comes first."""
        pieces = bytearray()
        while len(pieces) < most and not self._is_at_end:
            try:
                pieces += self._next(most - len(pieces))
            except zlib.error:
                self.is_broken = self._is_at_end = True
        return bytes(pieces)

    def _next(self, most: int) -> bytes:
        if self._inflater.eof:  # another member may follow, or padding
            packed = self._inflater.unused_data.lstrip(b"\0") or self._block().lstrip(b"\0")
            if not packed:
                self._is_at_end = True
                return b""
            self._inflater = zlib.decompressobj(_GZIP_ALONE)
        else:
            packed = self._inflater.unconsumed_tail or self._block()
        piece = self._inflater.decompress(packed, most)
        if not packed and not piece and not self._inflater.eof:
            self.is_broken = self._is_at_end = True
        return piece

    def _block(self) -> bytes:
        block = self._file.read(self._at, BLOCK_BYTES)
        self._at += len(block)
        return block


@dataclass(frozen=True, slots=True)
class Names:
    """The slots of a log's past, oldest first, and which files they and the log itself were.

    What names tell counts only if they are the same afterwards.
    """

    slots: list[str]
    identities: tuple[str, ...]


class Past:
    """The names of a log. `rotated_max`: how many of each row are looked at, the newest of them."""

    def __init__(self, path: str, rotated_max: int) -> None:
        self.log = path
        self._rotated_max = rotated_max
        folder, slash, name = path.rpartition("/")
        stem, dot, ending = name.rpartition(".")
        self._stem = f"{folder}{slash}{stem}" if dot else path
        self._ending = f".{ending}" if dot else ".rotated"
        numbers = range(1, rotated_max + 1)
        self._up = [f"{path}.{n}" for n in numbers]
        self._down = [f"{self._stem}.{n}{self._ending}" for n in numbers]

    @property
    def has_log(self) -> bool:
        """True while there is a file under the log's own name."""
        return _is_file(self.log)

    def log_identity(self) -> str:
        """DEV:INODE of what has the log's own name now; empty: nothing has."""
        return _identity(self.log)

    def seen(self) -> Names:
        """All names as they are now."""
        slots = self.slots()
        return Names(slots, tuple(_identity(name) for name in (*map(actual, slots), self.log)))

    def has_two_rows(self, slots: list[str]) -> bool:
        """Whether two rotators are at work: one counts down, another up or the days."""
        return 0 < sum(slot in self._down for slot in slots) < len(slots)

    def is_copy(self, slots: list[str], number: int) -> bool:
        """Whether a later file was there before this slot's, so that it is no renamed one.

        Packing makes another file, and leaves it the time of its last bytes. Not every file system
        knows when a file came to be. The names must be the same afterwards.
        """
        if number >= len(slots):
            return False
        names = [*map(actual, slots[number:]), *([self.log] if self.has_log else [])]
        (born, written), *later = _times(names)
        since = written if names[0].endswith(_PACKED) else born
        return any(0 < other < since for other, _ in later)

    def slots(self) -> list[str]:
        """What is left of the log's past, oldest first, without the .gz of those packed.

        Names move up in one row and down in another while we look: each is walked in the direction
        in which a moving file cannot slip past.
        """
        up = [name for name in self._up if _exists(name)]
        down = [name for name in reversed(self._down) if _exists(name)]
        return _joined(_joined(up[::-1], down[::-1]), self._dated())

    def open_slot(self, slots: list[str], number: int) -> tuple[LogFile, str] | None:
        """The file in this slot, behind the last one the log itself; None: it is not there now."""
        name = actual(slots[number]) if number < len(slots) else self.log
        try:
            file = LogFile(name, is_packed=name.endswith(_PACKED) and name != self.log)
        except OSError:
            return None
        if file.is_at(name):
            return file, name
        file.close()
        return None

    def _dated(self) -> list[str]:
        """Those with a date in their names, be they logrotate's or log4j's."""
        folder, slash, log = self.log.rpartition("/")
        stem = self._stem[len(folder + slash) :]
        found = set()
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208  names as they are, not paths
        except OSError:
            return []
        for name in names:
            plain = name.removesuffix(_PACKED)
            if plain.startswith(log):
                middle = plain[len(log) :]
            elif plain.startswith(stem) and plain.endswith(self._ending):
                middle = plain[len(stem) : -len(self._ending)]
            else:
                continue
            if _DATE.fullmatch(middle):
                found.add(f"{folder}{slash}{plain}")
        return sorted(found, key=_natural)[-self._rotated_max :]


def actual(slot: str) -> str:
    """The name under which a slot's file lies. While it is packed both are there, one not whole."""
    return slot if _is_file(slot) else slot + _PACKED


def digest_of(data: bytes) -> str:
    """What a position and the tail's records call a digest."""
    return sha256(data).hexdigest()[:32]


def _identity(name: str) -> str:
    try:
        status = os.stat(name)  # noqa: PTH116  links are followed, and a name may be anything
    except OSError:
        return ""
    return f"{status.st_dev}:{status.st_ino}"


def _exists(slot: str) -> bool:
    return _is_file(slot) or _is_file(slot + _PACKED)


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:
        return False


def _joined(row: list[str], other: list[str]) -> list[str]:
    """Two rows in one, by the times of their last bytes; the order within each is kept."""
    if not row or not other:
        return row + other
    joined, left, right = [], list(row), list(other)
    while left and right:
        joined.append((right if _written_at(right[0]) < _written_at(left[0]) else left).pop(0))
    return joined + left + right


def _times(names: list[str]) -> list[tuple[int, int]]:
    """When these files came to be, and were written last, in nanoseconds; 0: nobody knows."""
    # Python has no word for the first of the two.
    command = ["stat", "-L", "-c", "%.9W %.9Y", "--", *names]
    try:
        told = subprocess.run(  # noqa: S603  no shell, and names stand behind `--`
            command, capture_output=True, text=True, timeout=5, check=True, env=_ENVIRONMENT
        ).stdout
        times = [
            (int(born), int(written))
            for born, written in (line.replace(".", "").split() for line in told.splitlines())
        ]
    except (OSError, ValueError, subprocess.SubprocessError):
        times = []
    return times if len(times) == len(names) else [(0, 0)] * len(names)


def _written_at(slot: str) -> int:
    try:
        return Path(actual(slot)).stat().st_mtime_ns
    except OSError:
        return 0


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in _PART.findall(name)]
