"""A process that appends and tells each append that returned; made to be killed.

Arguments: the journal's path, a prefix for intent ids, and optionally a file size limit in bytes.
With the limit it appends until an append fails, lifts the limit, and appends once more.
"""

import asyncio
import resource
import sys
from pathlib import Path

from stackward.errors import JournalError
from stackward.journal.store import SqliteJournal
from tests.component.journal.entries import an_entry
from tests.fakes.clock import FixedClock


def tell(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def write_for_ever(journal: SqliteJournal, prefix: str, lane: int) -> None:
    number = 0
    while True:
        intent = f"{prefix}-{lane}-{number}"
        sequence = await journal.append(an_entry(intent=intent))
        tell("acknowledged", sequence, intent)
        number += 1


async def write_until_full(journal: SqliteJournal, limit: int) -> None:
    await journal.append(an_entry(intent="before"))
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    number = 0
    while True:
        try:
            await journal.append(an_entry(intent=f"intent-{number}", text="x" * 3000))
        except JournalError as error:
            tell("failed", error)
            break
        tell("acknowledged", number)
        number += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await journal.append(an_entry(intent="after"))
    tell("usable again")


async def main(path: Path, prefix: str, limit: int | None) -> None:
    journal = SqliteJournal(path, FixedClock(), deadline_seconds=25.0)
    if limit is not None:
        await write_until_full(journal, limit)
        await journal.close()
        return
    async with asyncio.TaskGroup() as group:
        for lane in range(4):
            group.create_task(write_for_ever(journal, prefix, lane))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if sys.argv[3:] else None))
