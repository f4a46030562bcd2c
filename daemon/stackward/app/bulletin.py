"""Where the newest snapshot hangs: one writer, any number of readers who wait for the next."""

import asyncio

from stackward.core.snapshot import Snapshot


class Bulletin:
    """Implements `SnapshotSource`."""

    def __init__(self) -> None:
        self._latest: Snapshot | None = None
        self._changed = asyncio.Event()

    def publish(self, snapshot: Snapshot) -> None:
        """Hang up a new snapshot and wake those who wait."""
        self._latest = snapshot
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def latest(self) -> Snapshot | None:
        """The newest snapshot; None before the first round."""
        return self._latest

    async def next_after(self, round_number: int) -> Snapshot:
        """Wait for a snapshot newer than this round."""
        while self._latest is None or self._latest.round_number <= round_number:
            await self._changed.wait()
        return self._latest
