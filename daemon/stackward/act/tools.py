"""What acting needs from the other rooms, in one value, and its own numbers."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from stackward.act.lease import Leases
from stackward.model.guest import FactBlock, GuestMarks, GuestReadings
from stackward.model.target import Target
from stackward.model.verdict import Observation
from stackward.ports import (
    Clock,
    CloudApi,
    EventSink,
    Guests,
    Journal,
    Log,
    PauseSwitch,
    SnapshotSource,
)

FactReader = Callable[
    [FactBlock, Target], tuple[tuple[Observation, ...], GuestMarks, GuestReadings]
]

# A tick is never asked twice on one VM, and the prober counts up from 1.
FIRST_TICK = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class ActSettings:
    """Seconds. What a step or an action carries itself is not here.

    `facts_within`: how long to ask for facts that are young enough; the loop in the VM asks
    systemd every 15 s only, so one answer may not do. `cloud_look_age_max`: facts that took longer
    to come make CloudStack be asked once more. `look_age_max`: nothing is sent on a look older than
    this, whatever has held the daemon up in between. `arrival_slack`: how long after its deadline
    a request may still come out of a server's queue. `recovery_look`: how long at least to look
    for proof after a restart of the daemon, whose picture has to fill first.
    """

    cloud_look: float = 20.0
    ask: float = 10.0
    ask_every: float = 2.0
    facts_within: float = 45.0
    facts_age_max: float = 8.0
    cloud_look_age_max: float = 5.0
    look_age_max: float = 40.0
    job_poll_every: float = 3.0
    job_ask: float = 20.0
    search_every: float = 5.0
    arrival_slack: float = 60.0
    clock_slack: float = 60.0  # between CloudStack's clock and ours
    failed_job_look: float = 60.0
    recovery_look: float = 120.0
    journal_write: float = 15.0
    journal_retry: float = 5.0


def _unchanged(text: str) -> str:
    return text


def _nobody_counts(wall: str) -> None:
    del wall


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The ports, and a few functions of other rooms.

    `read_facts` is catalog.probes.observe_block with its thresholds; `redact` goes over every text
    of remote origin; `count_crash` is told each crash that the wall contained.
    """

    api: CloudApi
    guests: Guests
    journal: Journal
    clock: Clock
    log: Log
    pause: PauseSwitch
    sink: EventSink
    snapshots: SnapshotSource
    read_facts: FactReader
    settings: ActSettings = field(default_factory=ActSettings)
    redact: Callable[[str], str] = _unchanged
    count_crash: Callable[[str], None] = _nobody_counts
    leases: Leases = field(default_factory=Leases)
    ticks: "itertools.count[int]" = field(default_factory=lambda: itertools.count(FIRST_TICK))
