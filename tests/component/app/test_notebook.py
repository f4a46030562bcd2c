"""Rows wait in order until they are written, and a hung disk holds up nobody."""

import asyncio

from stackward.app import notebook
from stackward.app.notebook import DEADLINE_SECONDS, Notebook
from stackward.core.state import LogMemory
from stackward.model.entry import Entry, EntryKind
from stackward.model.sighting import EventClass
from tests.builders import NOW, a_position
from tests.fakes.clock import LoopClock
from tests.fakes.journal import MemoryJournal
from tests.fakes.log import MemoryLog
from tests.fakes.virtual_loop import virtually


class HangingJournal(MemoryJournal):
    """Takes rows until it hangs; then it never answers."""

    is_hanging = False

    async def append(self, entry):
        if self.is_hanging:
            await asyncio.sleep(1e9)
        return await super().append(entry)

    async def save_logs(self, logs):
        if self.is_hanging:
            await asyncio.sleep(1e9)
        await super().save_logs(logs)


def rows(*numbers: int) -> list[Entry]:
    return [Entry(kind=EntryKind.ESCALATED, at=NOW, text=f"row {number}") for number in numbers]


class Desk:
    def __init__(self) -> None:
        self.journal, self.clock, self.log = HangingJournal(), LoopClock(), MemoryLog()
        self.notebook = Notebook(self.journal, self.clock, self.log, positions_every=5.0)

    @property
    def texts(self) -> list[str]:
        return [entry.text for entry in self.journal.written]


@virtually
async def test_rows_are_written_in_the_order_in_which_they_were_noted():
    desk = Desk()
    desk.notebook.note(rows(1, 2))
    desk.notebook.note(rows(3))
    await desk.notebook.write()
    assert desk.texts == ["row 1", "row 2", "row 3"]


@virtually
async def test_rows_wait_for_a_journal_in_trouble_and_keep_their_order():
    desk = Desk()
    desk.journal.trouble = "the disk is full"
    desk.notebook.note(rows(1))
    await desk.notebook.write()
    assert desk.notebook.trouble == "the disk is full"
    desk.notebook.note(rows(2))
    desk.journal.trouble = ""
    await desk.notebook.write()
    assert desk.texts == ["row 1", "row 2"]
    assert desk.notebook.trouble == ""


@virtually
async def test_trouble_does_not_end_before_a_row_could_be_written():
    desk = Desk()
    desk.journal.trouble = "the disk is full"
    desk.notebook.note(rows(1))
    await desk.notebook.write()
    desk.notebook._waiting.clear()
    await desk.notebook.write()
    assert desk.notebook.trouble == "the disk is full"
    desk.journal.trouble = ""
    await desk.notebook.write()
    assert desk.notebook.trouble == ""
    assert desk.texts == ["The journal can be written again."]


@virtually
async def test_a_journal_that_hangs_holds_up_one_round_and_not_every_round():
    desk = Desk()
    desk.journal.is_hanging = True
    desk.notebook.note(rows(1))
    began = desk.clock.monotonic()
    await desk.notebook.write()
    assert desk.clock.monotonic() - began <= DEADLINE_SECONDS
    assert desk.notebook.trouble == "no answer within the deadline"
    for _ in range(10):
        await desk.notebook.write()
        await desk.notebook.save_logs({"vm": a_log(1)})
    assert desk.clock.monotonic() - began <= DEADLINE_SECONDS + 15
    desk.journal.is_hanging = False
    await desk.notebook.write()
    assert desk.texts[0] == "row 1"
    assert [values["reason"] for level, _, values in desk.log.told if level == "error"] == [
        "no answer within the deadline"
    ]


@virtually
async def test_what_waits_for_a_journal_is_bounded(monkeypatch):
    monkeypatch.setattr(notebook, "ROWS_WAITING_MAX", 3)
    desk = Desk()
    desk.journal.trouble = "gone"
    for number in range(10):
        desk.notebook.note(rows(number))
        await desk.notebook.write()
    desk.journal.trouble = ""
    await desk.notebook.write()
    assert desk.texts == ["row 7", "row 8", "row 9"]


def a_log(offset: int, *, ready: int = 0, gaps: int = 0) -> LogMemory:
    counts = {EventClass.AGENT_READY: ready} if ready else {}
    return LogMemory(read_to=a_position(offset), counts=counts, gaps=gaps)


@virtually
async def test_logs_that_cannot_be_saved_are_trouble_with_the_journal_and_saved_later():
    desk = Desk()
    logs = {"vm": a_log(9, ready=1)}
    desk.journal.trouble = "the disk is full"
    await desk.notebook.save_logs(logs)
    assert [event for _, event, _ in desk.log.told] == ["journal cannot be written"]
    assert desk.notebook.trouble == "the disk is full"
    desk.journal.trouble = ""
    await desk.notebook.save_logs(logs)  # there is trouble still
    assert await desk.journal.logs() == {}
    await desk.notebook.write()
    assert desk.notebook.trouble == ""
    await desk.notebook.save_logs(logs)
    assert await desk.journal.logs() == logs


@virtually
async def test_what_counts_is_saved_at_once_and_a_place_when_its_time_has_come():
    desk = Desk()

    async def saved(log: LogMemory) -> bool:
        await desk.notebook.save_logs({"vm": log})
        return await desk.journal.logs() == {"vm": log}

    assert await saved(a_log(1))
    assert not await saved(a_log(2))
    assert await saved(a_log(3, ready=1))
    assert not await saved(a_log(4, ready=1))
    assert await saved(a_log(5, ready=1, gaps=1))
    await desk.clock.sleep(6)
    assert await saved(a_log(6, ready=1, gaps=1))
    assert not await saved(a_log(7, ready=1, gaps=1))


@virtually
async def test_an_older_state_of_a_log_never_takes_the_place_of_a_newer_one():
    desk = Desk()
    newer = a_log(5, ready=2)
    await desk.notebook.save_logs({"vm": newer})
    await desk.clock.sleep(6)
    await desk.notebook.save_logs({"vm": a_log(4, ready=1)})
    assert await desk.journal.logs() == {"vm": newer}
    another = a_log(7, ready=3)
    async with asyncio.TaskGroup() as group:
        group.create_task(desk.notebook.save_logs({"vm": another}))
        group.create_task(desk.notebook.save_logs({"vm": a_log(6, ready=2)}))
    assert await desk.journal.logs() == {"vm": another}


@virtually
async def test_a_log_that_never_changes_is_saved_again_now_and_then():
    desk = Desk()
    log = a_log(1)
    await desk.notebook.save_logs({"vm": log})
    desk.journal._logs.clear()
    await desk.clock.sleep(600)
    await desk.notebook.save_logs({"vm": log})
    assert await desk.journal.logs() == {}
    await desk.clock.sleep(3600)
    await desk.notebook.save_logs({"vm": log})
    assert await desk.journal.logs() == {"vm": log}


@virtually
async def test_what_a_vm_said_in_a_diagnosis_is_written_without_its_secrets():
    desk = Desk()
    told = "The agent is dead: https://admin:hunter2@db.example password=hunter2"
    entry = Entry(kind=EntryKind.EPISODE_OPENED, at=NOW, text=told, evidence=(told,))
    desk.notebook.note([entry])
    await desk.notebook.write()
    (written,) = desk.journal.written
    assert "hunter2" not in repr(written)
    assert "The agent is dead" in written.text
