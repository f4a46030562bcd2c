"""A log that keeps what it was told."""


class MemoryLog:
    """`told` holds (level, event, values)."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, dict[str, object]]] = []

    def debug(self, event: str, **values: object) -> None:
        self.told.append(("debug", event, values))

    def info(self, event: str, **values: object) -> None:
        self.told.append(("info", event, values))

    def warning(self, event: str, **values: object) -> None:
        self.told.append(("warning", event, values))

    def error(self, event: str, **values: object) -> None:
        self.told.append(("error", event, values))

    def exception(self, event: str, **values: object) -> None:
        self.told.append(("exception", event, values))
