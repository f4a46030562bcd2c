"""How an answer of the CloudStack API is read: from bytes to rows, or to a refusal. Pure.

The forms are those of `ApiResponseSerializer` (server/src/main/java/com/cloud/api/response/) and
the codes those of `ApiErrorCode` (api/src/main/java/org/apache/cloudstack/api/), 4.11 to 4.23.
Asking is not here (cloudstack_http.py), nor what a row means (cloudstack_rows.py).
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from stackward.errors import Garbled, RefusalKind, Refused

Row = Mapping[str, object]
T = TypeVar("T")

QUOTE_LENGTH_MAX: Final = 300  # how much of a server's own text goes into a message of ours

_KIND_BY_CODE: Final = {
    400: RefusalKind.PARAMETER,
    401: RefusalKind.CREDENTIALS,
    403: RefusalKind.NOT_ALLOWED,
    405: RefusalKind.PARAMETER,
    429: RefusalKind.THROTTLED,
    430: RefusalKind.PARAMETER,
    431: RefusalKind.PARAMETER,
    432: RefusalKind.NOT_ALLOWED,
    503: RefusalKind.STANDING_DOWN,
    530: RefusalKind.INTERNAL,
    531: RefusalKind.NOT_ALLOWED,
    532: RefusalKind.NO_CAPACITY,
    533: RefusalKind.NO_CAPACITY,
    534: RefusalKind.UNAVAILABLE,
    535: RefusalKind.NO_CAPACITY,
    536: RefusalKind.IN_USE,
    537: RefusalKind.IN_USE,
}
_GONE: Final = re.compile(r"entity does not exist|unable to find", re.IGNORECASE)
_STANDING_DOWN: Final = re.compile(
    r"(shutdown|maintenance).*has been (triggered|initiated)", re.IGNORECASE
)
_PAGE_SIZE_MAX: Final = re.compile(r"max allowed page size value: (\d{1,9})")


def read_reply(
    command: str, *, status: int, content_type: str, body: bytes, clock_note: str = ""
) -> Row:
    """The root object of an answer, or the refusal that it is.

    Only the root that belongs to the command counts: an unrelated `{}` is no empty list.
    `clock_note` says how far the server's clock is from ours; it is added to a 401, which is
    CloudStack's one answer to a wrong key and to a wrong clock.
    """
    try:
        # A control character can sit raw in a string: the server undoes the escapes of JSON.
        document: object = json.loads(body.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        root: object = document.get(f"{command.lower()}response")
        for error in (root, document.get("errorresponse")):
            if isinstance(error, dict) and "errorcode" in error:
                raise _refusal(command, error, status=status, clock_note=clock_note)
        if status == 200 and isinstance(root, dict):
            return root
    raise _wordless(command, status=status, content_type=content_type, body=body, note=clock_note)


def _refusal(command: str, error: Row, *, status: int, clock_note: str) -> Refused:
    """The refusal that CloudStack put into words."""
    code = read_count(error.get("errorcode")) or status
    text = quoted(error.get("errortext"))
    kind = _KIND_BY_CODE.get(code, RefusalKind.OTHER)
    if code == 431 and _GONE.search(text):
        kind = RefusalKind.GONE
    if code == 530 and _STANDING_DOWN.search(text):
        kind = RefusalKind.STANDING_DOWN
    if kind is RefusalKind.CREDENTIALS:
        text = f"{text} ({_credentials_hint(clock_note)})"
    return Refused(f"{command} refused with {code}: {text}", kind=kind, code=code)


def _credentials_hint(clock_note: str) -> str:
    return (
        "wrong api key or secret key, clocks that differ, or a command this server does not have; "
        f"{clock_note or 'the server did not tell its time'}"
    )


def _wordless(
    command: str, *, status: int, content_type: str, body: bytes, note: str
) -> Refused | Garbled:
    """What an answer means that is not in CloudStack's words.

    A 5xx other than 503 stays open: a proxy that says 502 or 504 may have passed the request on.
    """
    what = f"HTTP {status}, {content_type or 'no content type'}"
    begins = f"{what}, beginning {quoted(body[:80].decode('utf-8', 'replace'))!r}"
    if status in (401, 407):
        return Refused(
            f"{command} refused with {what} ({_credentials_hint(note)})",
            kind=RefusalKind.CREDENTIALS,
            code=status,
        )
    if 300 <= status < 500 or status == 503:
        kind = _KIND_BY_CODE.get(status, RefusalKind.OTHER)
        return Refused(f"{command} refused with {begins}", kind=kind, code=status)
    return Garbled(f"{command} was not answered with JSON of CloudStack: {begins}")


def page_size_allowed(refused: Refused) -> int | None:
    """The page size that a server asks for when ours is above its `default.page.size`."""
    found = _PAGE_SIZE_MAX.search(str(refused)) if refused.code == 431 else None
    return int(found[1]) or None if found else None


def quoted(value: object) -> str:
    """A server's own text on one line, cut to a bearable length."""
    text = value if isinstance(value, str) else "no text"
    return " ".join(text.encode("utf-8", "replace").decode().split())[:QUOTE_LENGTH_MAX]


def read_count(value: object) -> int | None:
    """A count or code; some versions send numbers as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


# --- lists ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listing:
    """All rows of one list command, and what of it could not be read or did not come."""

    command: str
    rows: tuple[Row, ...] = ()
    holes: tuple[str, ...] = ()


def read_rows(command: str, reply: Row, array: str) -> Sequence[object]:
    """The rows of one page; `{}` and a page past the end are empty lists."""
    rows = reply.get(array)
    if rows is None:
        return ()
    if not isinstance(rows, list):
        raise Garbled(f"{command}: {array} is a {type(rows).__name__}, not a list")
    return rows


def read_each(listing: Listing, read: Callable[[Row], T]) -> tuple[tuple[T, ...], tuple[str, ...]]:
    """Every row that can be read, and a line on each that cannot."""
    values: list[T] = []
    holes: list[str] = list(listing.holes)
    for index, row in enumerate(listing.rows):
        try:
            values.append(read(row))
        except Exception as trouble:
            name = row.get("name")
            title = quoted(name) if isinstance(name, str) and name else f"row {index}"
            holes.append(f"{listing.command}: {title}: {trouble}")
    return tuple(values), tuple(holes)
