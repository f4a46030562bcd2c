"""The readers of logs on any bytes: what atheris looks for at length, tried at every run."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import DICE_BYTES
from tests.fuzz.growth import (
    PEAK_BYTES,
    SIZES,
    TooLargeError,
    TooSlowError,
    check_growth,
    check_memory,
    check_time,
    grown,
)
from tests.fuzz.planted import PLANTED
from tests.fuzz.readers import READERS
from tests.fuzz.seeds import seeds

# A loaded machine is no reason to fail.
PATIENT = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
SOME_SEEDS = 60
# To compile all patterns takes its time, so one process does it, and once.
pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("fuzz-readers")]
every_reader = pytest.mark.parametrize("name", READERS)


def inputs(name: str) -> st.SearchStrategy[bytes]:
    """Bytes of any kind, and seeds with bytes of any kind in the middle of them."""
    known = st.sampled_from(seeds(name))

    def hurt(seed: bytes, odd: bytes, at: int, gone: int) -> bytes:
        at = DICE_BYTES + at % max(1, len(seed) - DICE_BYTES)
        return seed[:at] + odd + seed[at + gone :]

    damaged = st.builds(hurt, known, st.binary(max_size=12), st.integers(0), st.integers(0, 40))
    return st.binary(max_size=600) | damaged


@every_reader
@PATIENT
@given(data=st.data())
def test_a_reader_keeps_its_word_on_any_bytes(name, data):
    READERS[name].check(data.draw(inputs(name)))


@every_reader
def test_a_reader_keeps_its_word_on_what_it_is_made_for(name):
    known = seeds(name)
    assert len(known) > SOME_SEEDS
    for seed in known[:: len(known) // SOME_SEEDS]:
        READERS[name].check(seed)


@every_reader
def test_twice_as_much_takes_twice_as_long(name):
    known = seeds(name)
    for seed in known[:: len(known) // 6]:
        check_time(READERS[name].read, seed)


@pytest.mark.parametrize(
    "name", [name for name, reader in READERS.items() if not reader.is_given_whole]
)
def test_an_endless_input_takes_no_endless_memory(name):
    check_memory(READERS[name].read, seeds(name)[0])


CONSOLE = b"\0\0\0\xf5"  # dice that make of it what a console shows


def test_blanks_where_a_status_could_stand_are_read_once():
    check_growth(READERS["files"].read, [CONSOLE + b"[" + b" " * size for size in SIZES])


def test_an_input_grows_to_the_size_asked_for():
    seed = seeds("records")[0]
    assert abs(len(grown(seed, PEAK_BYTES)) - PEAK_BYTES) < 1000


def test_a_reader_that_looks_back_is_noticed():
    of_short_lines = bytes(DICE_BYTES) + b"a\nb\n" * 50
    with pytest.raises(TooSlowError):
        check_time(PLANTED["planted-quadratic"].read, of_short_lines)


def test_a_reader_that_keeps_all_is_noticed():
    with pytest.raises(TooLargeError):
        check_memory(PLANTED["planted-hoard"].read, seeds("records")[0])
