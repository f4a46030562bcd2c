"""The newest snapshot for whoever counts log lines: with all that was read since its round.

A round decides, and may take its second for that; a line that was read counts at once. What waits
in the inbox is folded here by the same pure function that will fold it in a moment, into values
that nobody keeps: the control loop stays the only owner of state. And as in a round, what counts
is saved before it is shown, so that no counter falls back when the daemon is killed.

While the journal cannot be written, lines count and are shown all the same, as watching goes on.
If the daemon is killed then, counters begin anew where they were saved last: to Prometheus a reset,
and what was read since is read and counted again, as far as it still exists.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import islice

from stackward.app.bulletin import Bulletin
from stackward.app.inbox import Inbox
from stackward.app.notebook import Notebook
from stackward.app.picture import Picture
from stackward.core.reduce import reduce
from stackward.core.snapshot import Snapshot
from stackward.core.state import LogMemory, TargetState
from stackward.model.event import Sighted
from stackward.model.identity import TargetId
from stackward.ports import Clock

SAVED_WITHIN_SECONDS = 1.0
# More than this waits only where the loop is behind; a scrape must not hold it up.
STRETCHES_MAX = 500


class FreshLogs:
    """Shows logs as they are now, and all else as the newest round left it."""

    def __init__(
        self,
        bulletin: Bulletin,
        picture: Picture,
        inbox: Inbox,
        notebook: Notebook,
        clock: Clock,
    ) -> None:
        self._bulletin = bulletin
        self._picture = picture
        self._inbox = inbox
        self._notebook = notebook
        self._clock = clock
        self._shown: dict[TargetId, LogMemory] = {}  # beyond the round it was shown with

    async def snapshot(self) -> Snapshot | None:
        """The same one as before if nothing has come; None before the first round."""
        published = self._bulletin.latest()
        if published is None:
            return None
        now = self._clock.now()
        waiting = islice(self._inbox.sighted(), STRETCHES_MAX)
        fresh = read_since(published, self._picture.targets, waiting, now)
        if not fresh:
            return published
        try:
            async with asyncio.timeout(SAVED_WITHIN_SECONDS):
                await self._notebook.save_logs(
                    {target_id: state.log for target_id, state in fresh.items()}, is_due=False
                )
        except TimeoutError:
            fresh = self._shown_before(published)
        self._shown = {target_id: state.log for target_id, state in fresh.items()}
        targets = {**published.fleet.targets, **fresh}
        return replace(published, fleet=replace(published.fleet, targets=targets))

    def _shown_before(self, published: Snapshot) -> dict[TargetId, TargetState]:
        """What was shown stays, where it is not in the round yet: no counter ever falls."""
        targets = published.fleet.targets
        return {
            target_id: targets[target_id]._replace(log=log)
            for target_id, log in self._shown.items()
            if target_id in targets and _has_read_more(log, targets[target_id].log)
        }


def read_since(
    published: Snapshot,
    known: Mapping[TargetId, TargetState],
    waiting: Iterable[Sighted],
    now: datetime,
) -> dict[TargetId, TargetState]:
    """The published targets whose logs have told something since, with their logs of now."""
    targets = published.fleet.targets
    logs = {
        target_id: state
        for target_id, state in known.items()
        if target_id in targets and state.log is not targets[target_id].log
    }
    for event in waiting:
        state = logs.get(event.target_id) or known.get(event.target_id)
        if state is not None and event.target_id in targets:
            # As the control loop does: a line is told once, whatever the clock says.
            logs[event.target_id] = reduce(state, replace(event, at=min(event.at, now)))
    return {
        target_id: targets[target_id]._replace(log=state.log) for target_id, state in logs.items()
    }


def _has_read_more(one: LogMemory, other: LogMemory) -> bool:
    if one.read_to is None or other.read_to is None:
        return one.read_to is not None
    here, there = one.read_to, other.read_to
    return (here.generation, here.offset) > (there.generation, there.offset)
