"""The newest snapshot for whoever counts log lines: with all that was read since its round.

A round decides, and may take its second for that; a line that was read counts at once. What waits
in the inbox is folded here by the same pure function that will fold it in a moment, into values
that nobody keeps: the control loop stays the only owner of state. And as in a round, what counts
is saved before it is shown, so that no counter falls back when the daemon is killed.
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
from stackward.core.state import TargetState
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
            return published
        targets = {**published.fleet.targets, **fresh}
        return replace(published, fleet=replace(published.fleet, targets=targets))


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
        target_id: replace(targets[target_id], log=state.log) for target_id, state in logs.items()
    }
