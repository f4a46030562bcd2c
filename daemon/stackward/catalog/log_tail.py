"""The log tail: what is sent into a VM to follow its log, and how the bytes that come are read.

Sans I/O: the SSH transport starts `log_tail_command`, sends `log_tail_script`, then
`tail_keepalive_line` every third of `dead_man`, and feeds a `TailReader` with what comes back.
The text itself is in log_tail_script.py; what the lines mean is decided in signatures.py.

The stream is the log's own bytes, cut by records: a newline, the sign for a record, the nonce, a
letter, words, a newline. The nonce is made anew for each channel, so no content of a log can look
like a record. The sign is a byte that logs do not have, and quickly looked for.

    H KIND DEV:INODE DIGEST COUNT OFFSET GAP   what follows is this file from this offset on
    F DIGEST COUNT                             its fingerprint has grown
    K OFFSET [BEHIND]                          the bytes up to here are whole and of this file;
                                               so many more were there, if it is far behind
    W                                          no file to read yet; it is waited for
    X TEXT                                     the script gives up

DIGEST is that of the file's first bytes, and behind a colon what is known of the file before it.
KIND: `start` (no place was known), `same` (the file we stopped in, or a copy of it), `next`
(the file written after it), `anew` (cut and begun again), `lost` (not found any more).

Rules of the room:

1. Bytes become lines only when a K has confirmed them, and its offset must agree with our count.
2. What cannot be is `TailGarbled`: the caller ends the channel and resumes from its own place.
3. Only whole lines leave, except the last one of a file that has ended without a newline.
4. A line that was cut is the last of its chunk, so offsets counted from `start` stay true; so is
   one that ended with its file, and has got a newline from us.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from stackward.catalog.log_tail_script import SCRIPT
from stackward.model.guest import LogPosition

RECORD_SIGN = b"\x1e"
RECORD_BYTES_MAX = 1024
BANNER_BYTES_MAX = 65536  # what a login shell may print before the script speaks
KINDS = frozenset({"start", "same", "next", "anew", "lost"})


class TailGarbled(ValueError):
    """The stream says what cannot be: end the channel and resume from our own place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTailSettings:
    """How a log is followed.

    `dead_man`: the script ends itself when nothing came from our side for so long. `poll`: how
    often it looks for new bytes. `grace`: how long a renamed file must be quiet before the next
    one is read; whoever still has it open gets that long for a last line. `rotated_max`: how many
    files of each manner of rotation are looked at, the newest of them. The manners: `cloud.log.1`,
    `cloud.1.log`, and by date `cloud.log-20260101`, `cloud.log.2026-01-01`; as it is or with `.gz`.
    `bulk_bytes`: how much is confirmed at once; it fills four chunks, each of which, with the line
    begun before it, is one slice of the sieve.
    """

    path: str = "/var/log/cloud.log"
    dead_man: timedelta = timedelta(seconds=60)
    poll: timedelta = timedelta(milliseconds=75)
    grace: timedelta = timedelta(milliseconds=300)
    rotated_max: int = 16
    bulk_bytes: int = 1_000_000
    line_bytes_max: int = 65536
    chunk_bytes_max: int = 256_000

    @property
    def keepalive_interval(self) -> timedelta:
        """How often our side must show a sign of life."""
        return self.dead_man / 3


class RawChunk(NamedTuple):
    """Whole lines of one file; everything is as in `LogChunk`."""

    data: bytes
    start: LogPosition
    end: LogPosition
    gap_bytes_min: int | None = 0
    behind_bytes: int = 0

    @property
    def lines(self) -> tuple[bytes, ...]:
        """The lines without their newlines."""
        return tuple(self.data.split(b"\n")[:-1])


def log_tail_command(settings: LogTailSettings, resume: LogPosition | None) -> str:
    """The command to start. It reads the script from its standard input."""
    del settings, resume  # everything that varies travels in the script
    return "exec bash --norc --noprofile"


def log_tail_script(settings: LogTailSettings, resume: LogPosition | None, *, nonce: str) -> bytes:
    """What to send first. `nonce`: 16 or more letters and digits, new for each channel."""
    if len(nonce) < 16 or not (nonce.isascii() and nonce.isalnum()):
        raise ValueError("a nonce is 16 or more letters and digits")
    polls = settings.poll.total_seconds()
    words: list[str | int] = [
        settings.path,
        nonce,
        f"{polls:.3f}",
        max(1, round(settings.dead_man.total_seconds() / polls)),
        settings.bulk_bytes,
        settings.rotated_max,
        max(1, round(settings.grace.total_seconds() / polls)),
    ]
    if resume is None:
        words += ["", "", 0, 0]
    else:
        words += [
            resume.device_inode,
            resume.fingerprint,
            resume.fingerprint_bytes,
            resume.offset,
        ]
    call = " ".join(["follow", *(shlex.quote(str(word)) for word in words)])
    return f"{SCRIPT}\n{call}\n".encode()


def tail_keepalive_line() -> bytes:
    """A sign of life from our side; the script answers with a K."""
    return b"k\n"


class TailReader:
    """Reads the stream. Feed it any bytes in any pieces; it gives chunks as they are confirmed.

    `position` is the place up to which chunks were given, `is_waiting` says that there is no log
    (yet), `lines_cut` and `bytes_cut` count what was longer than a line may be. After `TailGarbled`
    the reader is of no more use.
    """

    def __init__(
        self, resume: LogPosition | None, settings: LogTailSettings, *, nonce: str
    ) -> None:
        self.position: LogPosition | None = resume
        self.is_waiting = False
        self.lines_cut = 0
        self.bytes_cut = 0
        self._resume = resume
        self._settings = settings
        self._mark = b"\n%b%b " % (RECORD_SIGN, nonce.encode())
        self._begun = b""  # the end of what came, where a record may have begun
        self._file: LogPosition | None = None  # the open file; its offset is the confirmed one
        self._held: list[bytes] = []  # bytes behind the last K, in the pieces in which they came
        self._held_bytes = 0
        self._behind = 0  # what the open file held behind the last K, as far as it was told
        self._line = bytearray()  # confirmed bytes of a line that has not ended
        self._line_length = 0  # its true length, also where it was cut
        self._held_bytes_max = settings.bulk_bytes + 65536

    @property
    def confirmed_offset(self) -> int | None:
        """How far the open file was read, lines that have not ended included. None: no file."""
        return None if self._file is None else self._file.offset

    def feed(self, data: bytes) -> tuple[RawChunk, ...]:
        """Take what came. Raises `TailGarbled`."""
        if self._begun:
            data = self._begun + data
        at = 0
        chunks: list[RawChunk] = []
        while (begin := self._find_mark(data, at)) >= 0:
            self._hold(data[at:begin])
            words_at = begin + len(self._mark)
            end = data.find(b"\n", words_at, words_at + RECORD_BYTES_MAX)
            if end < 0:
                if len(data) - words_at >= RECORD_BYTES_MAX:
                    raise TailGarbled("a record of the tail has no end")
                break
            chunks += self._record(data[words_at:end].decode("ascii", "replace").split(" "))
            at = end + 1
        else:
            begin = self._mark_begins(data, at)
            self._hold(data[at:begin])
        self._begun = data[begin:]
        self._check_bounds()
        return tuple(chunks)

    def _find_mark(self, data: bytes, at: int) -> int:
        sign = data.find(RECORD_SIGN, at)
        return sign if sign < 0 else data.find(self._mark, max(at, sign - 1))

    def _mark_begins(self, data: bytes, at: int) -> int:
        """Where the end of the data, or nothing, may be the beginning of the mark."""
        begin = data.find(b"\n", max(at, len(data) - len(self._mark) + 1))
        while begin >= 0 and not self._mark.startswith(data[begin:]):
            begin = data.find(b"\n", begin + 1)
        return begin if begin >= 0 else len(data)

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._held.append(piece)
            self._held_bytes += len(piece)

    def _let_go(self) -> list[bytes]:
        """What was held."""
        held, self._held = self._held, []
        self._held_bytes = 0
        return held

    def _check_bounds(self) -> None:
        waiting = self._held_bytes + len(self._begun)
        if self._file is None and waiting > BANNER_BYTES_MAX:
            raise TailGarbled("the tail did not say which file it reads")
        if waiting > self._held_bytes_max:
            raise TailGarbled("the tail sent more than it may without a confirmation")

    def _record(self, words: list[str]) -> list[RawChunk]:
        match words:
            case ["H", kind, device_inode, digest, count, offset, gap] if kind in KINDS:
                position = LogPosition(
                    device_inode=device_inode,
                    fingerprint=digest,
                    fingerprint_bytes=_number(count),
                    generation=0,
                    offset=_number(offset),
                )
                return self._open(kind, position, None if gap == "?" else _number(gap))
            case ["F", digest, count] if self._file is not None:
                self._file = self._file._replace(
                    fingerprint=digest, fingerprint_bytes=_number(count)
                )
                return []
            case ["K", offset, *behind] if self._file is not None and len(behind) < 2:
                return self._confirm(self._file, _number(offset), *map(_number, behind))
            case ["W"] if self._file is None:
                self._let_go()
                self.is_waiting = True
                return []
            case ["X", *text]:
                raise TailGarbled(f"the tail gave up: {' '.join(text)}")
            case _:
                raise TailGarbled(f"the tail said {' '.join(words)[:80]!r}")

    def _open(self, kind: str, new: LogPosition, gap: int | None) -> list[RawChunk]:
        """A file begins. What was not confirmed before is no part of any line."""
        old, chunks = self._file, []
        self._let_go()
        if kind == "anew" and gap is None:
            gap = self._behind or None  # what was there, and is not to be had any more
        self._behind = 0
        known = self._resume if old is None else old
        generation = known.generation if known is not None else 0
        if kind == "same":
            if known is None or new.offset != known.offset:
                raise TailGarbled("the tail went on at a place where we did not stop")
        else:
            generation += 1
            if known is not None and new.offset != 0:
                raise TailGarbled("a new file must be read from its beginning")
        new = new._replace(generation=generation)
        if kind == "same":
            # The line begun in the file goes on in its copy.
            new_start = new.at(new.offset - self._line_length)
        else:
            if self._line_length and old is not None:
                chunks.append(self._take_last_line(old))
            new_start = new
        self._file = new
        self.is_waiting = False
        self.position = new_start
        chunks.append(RawChunk(b"", new_start, new_start, gap))
        return chunks

    def _take_last_line(self, old: LogPosition) -> RawChunk:
        """The file ended without a newline: its last line is what there is of it."""
        start = old.at(old.offset - self._line_length)
        return RawChunk(self._end_line(b"\n"), start, old)

    def _confirm(self, file: LogPosition, offset: int, behind: int = 0) -> list[RawChunk]:
        if offset - file.offset != self._held_bytes:
            raise TailGarbled(
                f"{self._held_bytes} bytes came where the tail counts {offset - file.offset}"
            )
        pieces, at = self._let_go(), file.offset
        self._file = file.at(offset)
        if not pieces:
            return []
        self._behind = behind
        chunks: list[RawChunk] = []
        for fresh in self._stretches(pieces):
            line_start, done = at - self._line_length, 0
            while (end := self._stretch_end(fresh, done)) > done:
                chunks += self._whole_lines(file, fresh, done, end, line_start)
                done, line_start = end, at + end
            rest = fresh[done:]
            self._line_length += len(rest)
            self._line += rest[: max(0, self._settings.line_bytes_max - len(self._line))]
            at += len(fresh)
        if chunks:
            self.position = chunks[-1].end
        behind += offset
        return [chunk._replace(behind_bytes=behind - chunk.end.offset) for chunk in chunks]

    def _stretches(self, pieces: list[bytes]) -> Iterator[bytes]:
        """The pieces, joined once: as much as a chunk holds, cut behind a line if that is easy."""
        last = pieces.pop()
        lines_end = last.rfind(b"\n") + 1
        pieces.append(last[:lines_end])
        joined: list[bytes | memoryview] = []
        room = self._settings.chunk_bytes_max
        for piece in pieces:
            begin = 0
            while len(piece) - begin > room:
                end = piece.rfind(b"\n", begin, max(begin, begin + room)) + 1
                if not end:
                    break
                joined.append(memoryview(piece)[begin:end])
                yield b"".join(joined)
                joined.clear()
                begin, room = end, self._settings.chunk_bytes_max
            joined.append(memoryview(piece)[begin:] if begin else piece)
            room -= len(piece) - begin
        yield b"".join(joined)
        yield last[lines_end:]

    def _stretch_end(self, fresh: bytes, begin: int) -> int:
        """Behind the last newline that fits into a chunk, else the first; 0: there is none."""
        fits = begin + self._settings.chunk_bytes_max
        return (fresh.rfind(b"\n", begin, fits) + 1) or (fresh.find(b"\n", fits) + 1)

    def _whole_lines(
        self, file: LogPosition, fresh: bytes, done: int, end: int, begin: int
    ) -> Iterator[RawChunk]:
        """The lines up to `end`: one chunk, and another behind each line that has to be cut."""
        limit = self._settings.line_bytes_max
        if self._line_length:
            first_end = fresh.find(b"\n", done) + 1
            length = self._line_length + first_end - done
            first, rest = self._end_line(fresh[done:first_end]), memoryview(fresh)[first_end:end]
            if length - 1 > limit:
                yield _chunk(file, first, begin, begin + length)
                fresh, begin = bytes(rest), begin + length
            else:
                fresh = b"".join((first, rest))
        else:
            fresh = fresh[done:end]
        while (long := _long_line(fresh, limit)) is not None:
            at, stop = long
            self._count_cut(stop - 1 - at)
            yield _chunk(file, fresh[: at + limit] + b"\n", begin, begin + stop)
            fresh, begin = fresh[stop:], begin + stop
        if fresh:
            yield _chunk(file, fresh, begin, begin + len(fresh))

    def _end_line(self, piece: bytes) -> bytes:
        """The line that ends with this piece, its newline with it."""
        length = self._line_length + len(piece) - 1
        line = bytes(self._line) + piece
        if length > self._settings.line_bytes_max:
            self._count_cut(length)
            line = line[: self._settings.line_bytes_max] + b"\n"
        self._line.clear()
        self._line_length = 0
        return line

    def _count_cut(self, length: int) -> None:
        self.lines_cut += 1
        self.bytes_cut += length - self._settings.line_bytes_max


def _chunk(file: LogPosition, data: bytes, begin: int, end: int) -> RawChunk:
    return RawChunk(data, file.at(begin), file.at(end))


def _long_line(data: bytes, limit: int) -> tuple[int, int] | None:
    """The first line longer than `limit`: where it begins, and where the next one does."""
    at = 0
    while len(data) - at > limit + 1:
        end = data.rfind(b"\n", at, at + limit + 1)
        if end < 0:
            return at, data.find(b"\n", at) + 1
        at = end + 1
    return None


def _number(word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= 19):
        raise TailGarbled(f"{word[:40]!r} is no number of the tail")
    return int(word)
