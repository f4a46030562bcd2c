"""How late the event loop wakes a sleeper: the one number that says whether it is blocked."""

from collections import deque
from collections.abc import Mapping

from stackward.ports import Clock

EVERY_SECONDS = 0.2
SAMPLES_KEPT = 200  # 40 s: what a scrape sees is of now, not of the start


def until_beat(now: float, every: float) -> float:
    """Seconds until the next multiple of `every` on the clock, between a half and one and a half.

    Who sleeps so wakes up together with others that do: with the slots of the polls, for one.
    """
    pause = every - now % every
    return pause if pause >= every / 2 else pause + every


class LagMeter:
    """Sleeps again and again and notes by how much it slept too long."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._samples: deque[float] = deque(maxlen=SAMPLES_KEPT)

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            began = self._clock.monotonic()
            pause = until_beat(began, EVERY_SECONDS)
            await self._clock.sleep(pause)
            self._samples.append(max(0.0, self._clock.monotonic() - began - pause))

    def quantiles(self) -> Mapping[str, float]:
        """Seconds, by quantile; empty before the first sample."""
        ordered = sorted(self._samples)
        if not ordered:
            return {}
        last = len(ordered) - 1
        return {name: ordered[round(q * last)] for name, q in QUANTILES}


QUANTILES = (("0.5", 0.5), ("0.99", 0.99), ("1", 1.0))
