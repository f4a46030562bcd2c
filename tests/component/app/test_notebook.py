"""Rows wait in order until they are written, and a hung disk holds up nobody."""

import asyncio

from stackward.app import notebook
from stackward.app.notebook import DEADLINE_SECONDS, Notebook
from stackward.model.entry import Entry, EntryKind
from stackward.model.identity import TargetId
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

    async def save_log_positions(self, positions):
        if self.is_hanging:
            await asyncio.sleep(1e9)
        await super().save_log_positions(positions)


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
        await desk.notebook.save_positions({TargetId("vm"): a_position()})
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


@virtually
async def test_positions_that_cannot_be_saved_are_trouble_with_the_journal_and_saved_later():
    desk = Desk()
    positions = {TargetId("vm"): a_position(9)}
    desk.journal.trouble = "the disk is full"
    await desk.clock.sleep(6)
    await desk.notebook.save_positions(positions)
    assert [event for _, event, _ in desk.log.told] == ["journal cannot be written"]
    assert desk.notebook.trouble == "the disk is full"
    desk.journal.trouble = ""
    await desk.notebook.write()
    assert desk.notebook.trouble == ""
    await desk.notebook.save_positions(positions)  # too soon
    assert await desk.journal.log_positions() == {}
    await desk.clock.sleep(6)
    await desk.notebook.save_positions(positions)
    assert await desk.journal.log_positions() == positions


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
