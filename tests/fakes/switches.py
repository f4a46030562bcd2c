"""Small switches and sinks."""

from stackward.model.event import Event
from stackward.ports import Pause


class FakePause:
    """Paused while `pause` is set; with `after` > 0 only from the read after that many."""

    def __init__(self) -> None:
        self.pause: Pause | None = None
        self.after = 0

    def read(self) -> Pause | None:
        self.after -= 1
        return self.pause if self.after < 0 else None


class MemorySink:
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def put(self, event: Event) -> None:
        self.events.append(event)
