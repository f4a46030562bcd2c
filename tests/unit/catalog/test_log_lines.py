"""Stretches of a log are cut into slices that are read in a short time, and nothing is left out."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from stackward.catalog.log_lines import SLICE_BYTES_MAX, SLICE_LINES_MAX, slices

# Lines of so many bytes, and how many of them follow each other.
RUNS = st.sampled_from(
    [
        (0, 1),
        (0, 1600),
        (1, 90),
        (1, 4000),
        (150, 90),
        (150, 2000),
        (4000, 1),
        (4000, 70),
        (300_000, 1),
    ]
)


@settings(max_examples=30, deadline=None)
@given(st.lists(RUNS, max_size=6))
@example([(4000, 1), (0, 1600)])  # a line that is more than half of what holds too many
@example([(1, 90), (4000, 1), (0, 1600)])
def test_slices_follow_each_other_and_are_small(runs):
    data = b"".join((b"x" * length + b"\n") * count for length, count in runs)
    at = 0
    for start, end, lines in slices(data):
        assert start == at < end
        assert data[end - 1 : end] == b"\n"
        assert lines == data.count(b"\n", start, end) <= SLICE_LINES_MAX
        assert end - start <= SLICE_BYTES_MAX or lines == 1
        at = end
    assert at == len(data)
