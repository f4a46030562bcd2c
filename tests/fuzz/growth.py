"""Does reading stay linear in time and bounded in memory as an input grows?

An input grows by repeating a slice of itself in its place, so that its beginning and its end stay.
Measured is CPU time of this thread. Only what was slow is measured again, so most inputs cost
little; what is told was slow three times.
"""

import gc
import time
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

from tests.fuzz import DICE_BYTES

SIZES = (2_000, 8_000, 64_000)
SURE_SIZE = 128_000
# Time that grows with the size to this power is on its way to its square.
POWER_MAX = 1.65
IDLE_SECONDS = 0.030  # so little is never looked at twice
SLOW_SECONDS_PER_BYTE = 60e-6
PUMP_BYTES_MAX = 500
PEAK_BYTES = 256_000
PEAK_BYTES_MAX = 8 << 20


class TooSlowError(AssertionError):
    """The time grows faster than the input, or a byte costs too much."""


class TooLargeError(AssertionError):
    """The memory grows with the input."""


def grown(data: bytes, size: int) -> bytes:
    """The input with a slice of it repeated until it is about `size` bytes.

    Little is kept of the rest, so that an input of any size is made of the same, and costs
    the same for each byte.
    """
    dice, body = Random(zlib.crc32(data)), data[DICE_BYTES:]
    begin = dice.randrange(len(body))
    end = begin + dice.randint(1, dice.choice((1, 4, 30, PUMP_BYTES_MAX)))
    before, pump, after = body[max(0, begin - 200) : begin], body[begin:end], body[end : end + 50]
    times = max(1, (size - len(before) - len(after)) // len(pump))
    return data[:DICE_BYTES] + before + pump * times + after


def check_time(read: Callable[[bytes], None], data: bytes) -> None:
    """Raise `TooSlowError` if this input, grown, takes more time than it may."""
    if len(data) <= DICE_BYTES:
        return
    inputs = [grown(data, size) for size in SIZES]
    try:
        check_growth(read, inputs)
    except TooSlowError:
        # Between two sizes another way of reading may begin, which costs more and does not grow.
        check_growth(read, [inputs[-1], grown(data, SURE_SIZE)])


def check_growth(read: Callable[[bytes], None], inputs: Sequence[bytes]) -> None:
    """Raise `TooSlowError` if these inputs, each larger than the one before, take too long."""
    spent = [0.0] * len(inputs)
    for attempt in range(3):
        for place, bigger in enumerate(inputs):
            seconds = _seconds(read, bigger)
            spent[place] = min(seconds, spent[place]) if attempt else seconds
        if not _is_slow(spent, inputs):
            return
    told = ", ".join(
        f"{len(bigger)} bytes {seconds * 1e3:.1f} ms"
        for bigger, seconds in zip(inputs, spent, strict=True)
    )
    raise TooSlowError(told)


def _is_slow(spent: Sequence[float], inputs: Sequence[bytes]) -> bool:
    if spent[-1] > SLOW_SECONDS_PER_BYTE * len(inputs[-1]):
        return True
    measured = [(seconds, len(bigger)) for seconds, bigger in zip(spent, inputs, strict=True)]
    return any(
        later > IDLE_SECONDS and later > max(earlier, 50e-6) * (large / small) ** POWER_MAX
        for (earlier, small), (later, large) in pairwise(measured)
    )


def _seconds(read: Callable[[bytes], None], data: bytes) -> float:
    was_on = gc.isenabled()
    gc.disable()
    try:
        began = time.thread_time()
        read(data)
        return time.thread_time() - began
    finally:
        if was_on:
            gc.enable()


def check_memory(read: Callable[[bytes], None], data: bytes) -> None:
    """Raise `TooLargeError` if reading this input, grown, holds on to more than it may."""
    if len(data) <= DICE_BYTES:
        return
    bigger = grown(data, PEAK_BYTES)
    read(data)  # what is loaded once does not count
    tracemalloc.start()
    try:
        read(bigger)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if peak > PEAK_BYTES_MAX:
        raise TooLargeError(f"{len(bigger)} bytes took {peak} bytes of memory")
