"""A line counts as soon as it was read, and never before it is saved."""

import asyncio

import pytest

from stackward.app.bulletin import Bulletin
from stackward.app.fresh_logs import SAVED_WITHIN_SECONDS, STRETCHES_MAX, FreshLogs
from stackward.app.inbox import Inbox
from stackward.app.notebook import Notebook
from stackward.app.picture import Picture
from stackward.core.replay import Remembered
from stackward.core.snapshot import Snapshot, Totals
from stackward.model.event import Sighted, TargetsListed
from stackward.model.identity import TargetId
from stackward.model.plan import Plan
from stackward.model.sighting import EventClass, Severity, Sighting
from tests.builders import VM, a_policy, a_position, a_state, a_target, an_inventory
from tests.fakes.clock import LoopClock
from tests.fakes.journal import MemoryJournal
from tests.fakes.log import MemoryLog
from tests.fakes.virtual_loop import virtually

EVENT = EventClass.TLS_FAILURE


class SlowJournal(MemoryJournal):
    """Takes its time, and may not answer in time."""

    seconds = 10 * SAVED_WITHIN_SECONDS

    async def save_logs(self, logs):
        await asyncio.sleep(self.seconds)
        await super().save_logs(logs)


class Desk:
    """A picture of one VM, as the newest round has published it."""

    def __init__(self, journal: MemoryJournal | None = None) -> None:
        self.clock = LoopClock()
        self.journal = journal or MemoryJournal()
        self.inbox, self.bulletin = Inbox(), Bulletin()
        self.picture = Picture(Remembered())
        self.notebook = Notebook(self.journal, self.clock, MemoryLog(), positions_every=5.0)
        self.fresh = FreshLogs(self.bulletin, self.picture, self.inbox, self.notebook, self.clock)
        self._fold(TargetsListed(an_inventory(a_target(), at=self.clock.now())))
        self._offset = 0

    def _fold(self, event) -> None:
        now = self.clock.now()
        self.picture.fold(event, now, a_policy().limits.zone_window)

    def publish(self) -> Snapshot:
        now = self.clock.now()
        snapshot = Snapshot(
            taken_at=now,
            started_at=now,
            round_number=1,
            fleet=self.picture.view(
                pause_reason=None, demotion=None, journal_trouble="", capabilities=None
            ),
            policy=a_policy(),
            health={},
            diagnoses={},
            fleet_diagnoses=(),
            plan=Plan(made_at=now),
            totals=Totals(),
        )
        self.bulletin.publish(snapshot)
        return snapshot

    def line(self, target_id: TargetId = VM) -> Sighted:
        """One more line of the log, read now."""
        begin, self._offset = self._offset, self._offset + 100
        now = self.clock.now()
        sighting = Sighting(
            event=EVENT,
            severity=Severity.ERROR,
            pattern="p",
            text="t",
            line_start=a_position(begin),
            seen_at=now,
        )
        place = a_position(self._offset)
        return Sighted(target_id=target_id, sightings=(sighting,), position=place, at=now)

    def take(self) -> None:
        """The control loop takes what waits."""
        for event in self.inbox.take(100):
            self._fold(event)

    async def count(self) -> int:
        snapshot = await self.fresh.snapshot()
        assert snapshot is not None
        return snapshot.fleet.targets[VM].log.counts.get(EVENT, 0)

    async def saved(self) -> int:
        logs = await self.journal.logs()
        return logs[VM].counts.get(EVENT, 0) if VM in logs else 0


@virtually
async def test_what_waits_in_the_inbox_counts_and_is_saved_and_stays_in_the_inbox():
    desk = Desk()
    published = desk.publish()
    desk.inbox.put(desk.line())
    desk.inbox.put(desk.line())
    assert await desk.count() == 2
    assert await desk.saved() == 2
    assert len(desk.inbox) == 2
    assert published.fleet.targets[VM].log.counts == {}
    assert desk.picture.targets[VM].log.counts == {}


@virtually
async def test_a_line_counts_once_wherever_it_is_on_its_way():
    desk = Desk()
    desk.publish()
    desk.inbox.put(desk.line())
    for step in (lambda: None, desk.take, desk.publish):
        step()
        assert await desk.count() == 1
    desk.inbox.put(desk.line())
    assert await desk.count() == 2


@virtually
async def test_nothing_new_is_the_same_snapshot():
    desk = Desk()
    assert await desk.fresh.snapshot() is None
    published = desk.publish()
    assert await desk.fresh.snapshot() is published


@virtually
async def test_only_the_log_is_newer_than_the_round():
    desk = Desk()
    published = desk.publish()
    desk.picture.put(a_state())  # an answer came
    desk.inbox.put(desk.line())
    snapshot = await desk.fresh.snapshot()
    assert snapshot is not None
    assert snapshot.fleet.targets[VM].probes == published.fleet.targets[VM].probes == {}


@virtually
async def test_a_vm_that_no_round_knows_is_not_shown():
    desk = Desk()
    published = desk.publish()
    desk.inbox.put(desk.line(TargetId("a stranger")))
    assert await desk.fresh.snapshot() is published


@virtually
async def test_what_cannot_be_saved_in_time_is_shown_later():
    desk = Desk(SlowJournal())
    desk.publish()
    desk.inbox.put(desk.line())
    began = desk.clock.monotonic()
    assert await desk.count() == 0
    assert desk.clock.monotonic() - began == pytest.approx(SAVED_WITHIN_SECONDS)


@virtually
async def test_a_count_that_was_shown_stays_while_the_next_one_cannot_be_saved_in_time():
    journal = SlowJournal()
    desk = Desk(journal)
    journal.seconds = 0
    desk.publish()
    desk.inbox.put(desk.line())
    desk.inbox.put(desk.line())
    assert await desk.count() == 2
    journal.seconds = 10 * SAVED_WITHIN_SECONDS
    desk.inbox.put(desk.line())
    assert await desk.count() == 2
    desk.publish()  # a round that has not come to the lines yet
    assert await desk.count() == 2
    desk.take()
    desk.publish()
    assert await desk.count() == 3


@virtually
async def test_what_a_round_is_about_to_save_is_not_shown_before():
    journal = SlowJournal()
    desk = Desk(journal)
    desk.publish()
    desk.inbox.put(desk.line())
    desk.take()
    journal.seconds = SAVED_WITHIN_SECONDS / 2
    async with asyncio.TaskGroup() as group:
        group.create_task(desk.notebook.save_logs({VM: desk.picture.targets[VM].log}))
        await asyncio.sleep(0)
        assert await desk.saved() == 0
        assert await desk.count() == await desk.saved() == 1


@virtually
async def test_a_journal_in_trouble_keeps_no_line_from_counting():
    desk = Desk()
    desk.journal.trouble = "disk full"
    desk.publish()
    desk.inbox.put(desk.line())
    assert await desk.count() == 1
    desk.inbox.put(desk.line())
    assert await desk.count() == 2
    assert await desk.saved() == 0


@virtually
async def test_a_scrape_takes_no_more_than_so_much_and_the_count_never_falls():
    desk = Desk()
    desk.publish()
    for _ in range(2 * STRETCHES_MAX):
        desk.inbox.put(desk.line())
    counts = [await desk.count()]
    while len(desk.inbox):
        desk.take()
        counts.append(await desk.count())
    assert counts[0] == STRETCHES_MAX
    assert counts == sorted(counts)
    assert counts[-1] == 2 * STRETCHES_MAX
