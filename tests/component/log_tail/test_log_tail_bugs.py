"""The judges judge: each of these readers is broken on purpose, and is found out."""

from collections.abc import Awaitable, Callable

import pytest
from tests.component.log_tail.test_log_tail_kills import lives_and_deaths
from tests.component.log_tail.test_log_tail_oracle import follow_while_it_rotates

from stackward.catalog.log_tail import TailReader
from stackward.transports.local_files import Past
from stackward.transports.local_tail import LocalTail

ROTATIONS = 30
ROTATIONS_OF_EACH = 6
BUG = "--places-first"
TRIES = 3


def forgets_gaps(monkeypatch):
    record = TailReader._record
    monkeypatch.setattr(
        TailReader, "_record", lambda it, words: record(it, ["0" if w == "?" else w for w in words])
    )


def takes_a_copy_for_another_file(monkeypatch):
    monkeypatch.setattr(LocalTail, "_is_alike", lambda *_: False)


def knows_no_past(monkeypatch):
    monkeypatch.setattr(Past, "slots", lambda _: [])


def does_not_unpack(monkeypatch):
    monkeypatch.setattr("stackward.transports.local_files._PACKED", ".not")


def takes_the_rows_backwards(monkeypatch):
    slots = Past.slots
    monkeypatch.setattr(Past, "slots", lambda it: slots(it)[::-1])


async def is_found_out(attempt: Callable[[int], Awaitable[object]]) -> bool:
    """Once is enough: whether a bug bites hangs on timing too."""
    for number in range(TRIES):
        try:
            await attempt(number)
        except AssertionError:
            return True
    return False


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("bug", "manner"),
    [
        (forgets_gaps, "copied and cut"),
        (takes_a_copy_for_another_file, "copied and cut"),
        (knows_no_past, "renamed up"),
        (does_not_unpack, "renamed up and packed"),
        (takes_the_rows_backwards, "renamed down"),
    ],
)
async def test_a_reader_that_is_broken_is_found_out(tmp_path, monkeypatch, bug, manner):
    bug(monkeypatch)
    assert await is_found_out(
        lambda number: follow_while_it_rotates(
            tmp_path / f"log-{number}", "local", manner, ROTATIONS, f"bug {number}", deadline=10
        )
    )


@pytest.mark.timeout(200)
async def test_places_that_are_saved_before_what_was_done_are_found_out(tmp_path):
    def attempt(number: int) -> Awaitable[int]:
        directory = tmp_path / f"{number}"
        directory.mkdir()
        return lives_and_deaths(directory, "local", ROTATIONS_OF_EACH, f"bug {number}", BUG)

    assert await is_found_out(attempt)
