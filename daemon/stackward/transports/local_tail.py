"""Follows a log of this machine as the script in catalog/log_tail_script.py follows one in a VM.

What `look` returns is the same stream of bytes and records, so one reader and one suite of tests
serve both. The reasons for what is done here stand there; the functions have the same names.
Everything here blocks: it runs in a thread of its own, see local_logs.py.
"""

from collections.abc import Callable
from functools import partial

from stackward.catalog.log_tail import RECORD_SIGN, LogTailSettings
from stackward.model.guest import LogPosition
from stackward.transports.local_files import HEAD_BYTES, LogFile, Names, Past, actual, digest_of

YOUNG_BYTES = 32  # fewer of a file's first bytes say little of which file it is
PLACE_TRIES = 5
TRIES = 3  # names may have been moving while they were looked through
BACK_OFF_LOOKS = 10
LINE_BYTES_SOUGHT = 65536
_NOT_KNOWN = "?"


class LocalTail:
    """One followed log. `look` says what is new since it was called last."""

    def __init__(
        self, settings: LogTailSettings, resume: LogPosition | None, *, nonce: str
    ) -> None:
        self._settings = settings
        self._resume = resume
        self._mark = RECORD_SIGN + nonce.encode()
        self._past = Past(settings.path, settings.rotated_max)
        self._grace = max(1, round(settings.grace / settings.poll))
        self._told: list[bytes] = []
        self._file: LogFile | None = None
        self._position = 0
        self._head = b""
        self._fingerprint = ("", 0)
        self._before = _NOT_KNOWN
        self._has_copies = resume is not None and resume.fingerprint.endswith("~")
        if resume is not None and ":" in resume.fingerprint:
            self._before = resume.fingerprint.rstrip("~").partition(":")[2]
        self._unfinished: Callable[[], None] | None = None
        self._missed = 0
        self._is_waiting = False
        self._calm = 0
        self._is_lossy = False
        self._is_by_name = False

    def look(self) -> bytes:
        """What a script would have written since; empty: nothing is new. OSError: it cannot be."""
        if self._unfinished is not None:
            self._unfinished()
        elif self._file is None:
            self._start()
        elif self._drain(self._file):
            self._calm = 0
        else:
            self._wait(self._file)
        told, self._told = b"".join(self._told), []
        return told

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _say(self, *words: object) -> None:
        self._told.append(b"\n%b %b\n" % (self._mark, " ".join(map(str, words)).encode()))

    # --- the bytes

    def _known_as(self) -> str:
        return f"{self._fingerprint[0]}:{self._before}{'~' if self._has_copies else ''}"

    def _drain(self, file: LogFile) -> bool:
        if file.is_packed:
            return self._unpack(file)
        data = file.read(self._position, self._settings.bulk_bytes)
        if not data:
            return False
        seen = file.head()
        if not seen.startswith(self._head if self._position else data[:HEAD_BYTES]):
            self._truncated()
            return True
        if not self._fingerprint[1] and not self._follows(file) and not self._follows(file):
            self._resettle("next")
            return True
        self._head = seen
        self._grow(seen[: self._position + len(data)])
        self._position += len(data)
        self._told.append(data)
        self._confirm(max(0, file.size - self._position))
        return True

    def _confirm(self, behind: int) -> None:
        self._say("K", self._position, *([behind] if behind else []))

    def _grow(self, known: bytes) -> None:
        if self._fingerprint[1] < len(known):
            self._fingerprint = (digest_of(known), len(known))
            self._say("F", self._known_as(), len(known))

    def _unpack(self, file: LogFile) -> bool:
        if file.unpacked is None:
            return False
        data = file.unpacked.read(self._settings.bulk_bytes)
        if not data:
            self._is_lossy |= file.unpacked.is_broken
            file.unpacked = None
            self._calm = self._grace
            return False
        self._position += len(data)
        self._told.append(data)
        self._confirm(0)
        return True

    def _follows(self, file: LogFile) -> bool:
        """Whether a file that was empty still follows the file before it."""
        slots = self._past.slots()
        own = self._find_own(slots, file)
        before = self._what_precedes(slots, own)
        if self._before in (before, _NOT_KNOWN):
            return True
        # Ours was renamed, and what was before it thrown away, but for some of the empty ones.
        known, empty = _parts(before)
        return own < len(slots) and not known and empty <= _parts(self._before)[1]

    # --- what happens to a file

    def _wait(self, file: LogFile) -> None:
        if not file.is_packed:
            if file.size < self._position or not file.head().startswith(self._head):
                self._truncated()
                return
            if file.is_at(self._past.log):
                self._calm = 0
                return
        self._calm += 1
        if self._calm < self._grace:
            return
        if self._advance(file):
            self._calm = 0
        elif self._calm >= self._grace + TRIES:
            self._calm = self._grace - BACK_OFF_LOOKS  # it may be long in coming

    def _truncated(self) -> None:
        """The file was cut. If a copy was taken before, the rest of it is read there first."""
        self._has_copies = True
        self._unfinished = self._truncated
        seen = self._past.seen()
        twin = self._find_twin(seen.slots)
        if twin is None and self._past.seen() != seen:
            return
        if twin is None or self._go_on_in_copy(seen.slots, twin):
            self._resettle("anew")

    def _go_on_in_copy(self, slots: list[str], twin: int) -> bool:
        """True if there is nothing left in it to go on with."""
        opened = self._past.open_slot(slots, twin)
        if opened is None:
            return False
        copy, _ = opened
        is_copy = self._is_alike(copy.head())
        if is_copy and self._place(copy, "same", self._position, gap=0):
            self._is_lossy = True
            return False
        if is_copy:  # all of it was read before, and more than that
            self._before = _precedes(copy)
        copy.close()
        return is_copy

    def _advance(self, file: LogFile) -> bool:
        if not self._fingerprint[1] and not self._follows(file) and not self._follows(file):
            self._resettle("next")
            return True
        seen = self._past.seen()
        slots, is_itself = seen.slots, False
        gap: int | str = 0
        number = self._find_own(slots, file) + 1
        if number > len(slots) and not self._past.has_log:
            return False
        if number <= len(slots):
            is_itself = bool(self._fingerprint[1])
        else:
            number, gap = self._behind_twin(slots)
        opened = self._past.open_slot(slots, number)
        if opened is None:
            return False
        next_file, name = opened
        if is_itself:
            before = f"{self._fingerprint[0]}.{self._fingerprint[1]}"
        else:
            before = self._what_precedes(slots, number)
        is_next_a_copy = self._past.is_copy(slots, number)
        is_settled = not file.is_at(name) and self._past.seen() == seen and next_file.is_at(name)
        if is_settled and len(self._head) >= YOUNG_BYTES and self._is_alike(next_file.head()):
            # What was read was a copy of it, and it has not been cut yet.
            is_settled = self._place(next_file, "same", self._position, 0, seen)
        elif is_settled:
            old, self._before = self._before, before
            self._has_copies |= self._past.has_two_rows(slots)
            is_copy = self._is_lossy or (self._is_by_name and self._has_copies)
            is_settled = self._place(next_file, "next", 0, _NOT_KNOWN if is_copy else gap, seen)
            if not is_settled:
                self._before = old
        if not is_settled:
            next_file.close()
            return False
        self._is_lossy, self._is_by_name = is_next_a_copy, number < len(slots)
        return True

    def _behind_twin(self, slots: list[str]) -> tuple[int, int | str]:
        """The slot of what was written after a file that has none any more, and what is missing."""
        twin = self._find_twin(slots)
        if twin is not None:
            return twin + 1, 0
        return self._behind_before(slots), _NOT_KNOWN

    def _resettle(self, kind: str) -> None:
        """The place is lost: go on behind the file that lay before it."""
        self._unfinished = partial(self._resettle, kind)
        if not self._past.has_log:
            return
        seen, old = self._past.seen(), self._before
        number = self._behind_before(seen.slots)
        opened = self._past.open_slot(seen.slots, number)
        if opened is None:
            return
        file = opened[0]
        before = self._what_precedes(seen.slots, number)
        is_placed = False
        if self._past.seen() == seen:
            is_rotated = number < len(seen.slots)
            is_copy = self._past.is_copy(seen.slots, number)
            if is_rotated and self._is_alike(file.head()):  # a copy of ours, after all
                is_copy = True
                is_placed = self._place(file, "same", self._position, 0)
                if not is_placed:
                    self._before = _precedes(file)
            else:
                self._before = before
                is_placed = self._place(file, kind, 0, _NOT_KNOWN, seen)
                if not is_placed:
                    self._before = old
            if is_placed:
                self._is_lossy, self._is_by_name = is_copy, is_rotated
        if not is_placed:
            file.close()

    # --- which file is which

    def _is_alike(self, seen: bytes) -> bool:
        """Whether it begins as the open file. A copy may have been taken when it was shorter."""
        if not seen or not self._head:
            return False
        return seen.startswith(self._head) or (
            len(seen) >= YOUNG_BYTES and self._head.startswith(seen)
        )

    def _find_own(self, slots: list[str], file: LogFile) -> int:
        """The slot of the file itself; as many as there are: it has none."""
        for number, slot in enumerate(slots):
            if file.is_at(actual(slot)):
                return number
        return len(slots)

    def _find_twin(self, slots: list[str]) -> int | None:
        """The slot of a copy of the open file, or of itself, packed meanwhile."""
        if not self._head:
            return None
        numbers = range(len(slots))
        if len(self._head) < YOUNG_BYTES:
            behind = self._behind_before(slots)
            numbers = range(behind, min(behind + 1, len(slots)))
        for number in reversed(numbers):
            opened = self._past.open_slot(slots, number)
            if opened is None:
                continue
            file, name = opened
            try:
                is_other = self._file is None or not self._file.is_at(name)
                if is_other and self._is_alike(file.head()):
                    return number
            finally:
                file.close()
        return None

    def _what_precedes(self, slots: list[str], number: int) -> str:
        """What is said of the file before this slot; empty: there is none."""
        empty = 0
        for earlier in range(number - 1, -1, -1):
            opened = self._past.open_slot(slots, earlier)
            if opened is None:
                continue
            before = _precedes(opened[0])
            opened[0].close()
            if before:
                return f"{before}+{empty}" if empty else before
            empty += 1
        return f"+{empty}" if empty else ""

    def _behind_before(self, slots: list[str]) -> int:
        """The slot behind the file before ours; if that is gone, so are all that were older."""
        if self._before == _NOT_KNOWN:
            return len(slots)
        known, empty = _parts(self._before)
        digest, _, count = known.partition(".")
        found = 0
        for number in range(len(slots) - 1 if digest else -1, -1, -1):
            opened = self._past.open_slot(slots, number)
            if opened is None:
                continue
            is_it = opened[0].begins_with(digest, int(count))
            opened[0].close()
            if is_it:
                found = number + 1
                break
        else:
            if digest:
                return 0
        for _ in range(empty):
            found += found < len(slots) and self._is_empty(slots, found)
        return found

    def _is_empty(self, slots: list[str], number: int) -> bool:
        opened = self._past.open_slot(slots, number)
        if opened is None:
            return False
        head = opened[0].head()
        opened[0].close()
        return not head

    # --- places

    def _place(
        self, file: LogFile, kind: str, offset: int, gap: int | str, seen: Names | None = None
    ) -> bool:
        """Go on in this file, and tell which it is.

        False: the offset is not there, or the names are not what they were `seen` to be.
        """
        for _ in range(PLACE_TRIES):
            if not file.go_to(offset):
                return False
            head = file.head()
            if len(head) < min(offset, HEAD_BYTES) or not file.head().startswith(head):
                continue  # it is being cut this moment
            if seen is not None and self._past.seen() != seen:
                return False
            if self._file is not None and self._file is not file:
                self._file.close()
            self._file, self._unfinished = file, None
            self._head, self._position, self._calm = head, offset, 0
            self._fingerprint = (digest_of(head), len(head))
            self._say("H", kind, file.identity, self._known_as(), len(head), offset, gap)
            return True
        return False

    def _start(self) -> None:
        if self._resume is None:
            self._missed += not self._begin()
        elif self._missed < TRIES or self._past.has_log:
            self._search(self._resume)
        if self._file is None and not self._is_waiting:
            self._is_waiting = True
            self._say("W")

    def _search(self, resume: LogPosition) -> None:
        seen = self._past.seen()
        if self._find(resume, seen):
            return
        # While names are moving it may be anywhere: look again before it is lost.
        self._missed += self._past.seen() == seen
        if self._missed >= TRIES and self._past.has_log:
            self._resettle("lost")

    def _begin(self) -> bool:
        """No place is known: begin at the end, or at the first byte of what was waited for."""
        seen = self._past.seen()
        opened = self._past.open_slot(seen.slots, len(seen.slots))
        if opened is None:
            return False
        file, name = opened
        offset = 0 if self._missed else _line_end(file)
        self._before = self._what_precedes(seen.slots, len(seen.slots))
        is_settled = self._past.seen() == seen and file.is_at(name)
        if is_settled and self._place(file, "start", offset, 0):
            return True
        file.close()
        return False

    def _find(self, resume: LogPosition, seen: Names) -> bool:
        """The file in which we stopped: by identity and first bytes, or by first bytes alone."""
        slots = seen.slots
        is_young = resume.fingerprint_bytes < YOUNG_BYTES
        if is_young and self._before != _NOT_KNOWN:
            number = self._behind_before(slots)
            return self._is_found(resume, seen, number, by_identity=False)
        return any(
            self._is_found(resume, seen, number, by_identity=by_identity)
            for by_identity in ((True,) if is_young else (True, False))
            for number in range(len(slots), -1, -1)
        )

    def _is_found(
        self, resume: LogPosition, seen: Names, number: int, *, by_identity: bool
    ) -> bool:
        slots = seen.slots
        opened = self._past.open_slot(slots, number)
        if opened is None:
            return False
        file, _ = opened
        digest = resume.fingerprint.partition(":")[0]
        is_original = file.identity == resume.device_inode
        is_it = is_original or not by_identity
        if is_it and file.begins_with(digest, resume.fingerprint_bytes):
            self._is_by_name = number < len(slots)
            self._is_lossy = self._is_by_name and not is_original and not file.is_packed
            self._is_lossy |= self._past.is_copy(slots, number)
            is_cut = self._is_by_name and self._past.log_identity() == resume.device_inode
            if self._past.seen() != seen:
                file.close()
                return False
            self._has_copies |= self._is_lossy or is_cut
            if self._place(file, "same", resume.offset, 0):
                return True
            if not by_identity and number < len(slots) and self._missed < TRIES:
                # A copy that ends before our place: all of it was read.
                self._before = _precedes(file)
                self._missed = TRIES
        file.close()
        return False


def _precedes(file: LogFile) -> str:
    """What is said of a file as the one before another: DIGEST.COUNT of its first bytes."""
    head = file.head()
    return f"{digest_of(head)}.{len(head)}" if head else ""


def _parts(before: str) -> tuple[str, int]:
    """The file before, empty for none, and how many empty ones lie between."""
    known, _, empty = before.partition("+")
    return known, int(empty or 0)


def _line_end(file: LogFile) -> int:
    """The current end, moved back to the beginning of its line."""
    size = file.size
    begin = max(0, size - LINE_BYTES_SOUGHT)
    data = file.read(begin, size - begin)
    if data.endswith(b"\n") or not data:
        return size
    return begin + data.rfind(b"\n") + 1
