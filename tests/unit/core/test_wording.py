"""Lengths of time and the words of machines, as people read them."""

from datetime import timedelta

import pytest

from stackward.core.wording import plain, spoken
from stackward.errors import Leg


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.5, "0.5 s"),
        (2, "2 s"),
        (61, "61 s"),
        (900, "15 min"),
        (5400, "90 min"),
        (3600, "1 h"),
        (86400, "1 d"),
    ],
)
def test_a_span_is_said_in_the_largest_unit_that_needs_no_fraction(seconds: float, words: str):
    assert spoken(timedelta(seconds=seconds)) == words


def test_the_numbers_of_errors_are_for_programmers():
    assert plain("[Errno 111] Connect call failed") == "Connect call failed"
    assert plain("kvm1: [Errno -2] Name or service not known") == "kvm1: Name or service not known"
    assert plain("unit failed") == "unit failed"


def test_every_leg_can_be_said():
    assert len({leg.spoken for leg in Leg}) == len(Leg)
