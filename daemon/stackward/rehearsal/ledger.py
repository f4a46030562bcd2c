"""What was asked of the cloud: every request that changes something, kept on disk.

One JSON object a line, flushed before the deed is done. The test that kills the daemon reads here
how often it asked.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from stackward.rehearsal.clock import world_now


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLine:
    """One request. `origin`: `api` or `systemctl`; `what`: the command or verb.

    `vm` is the VM's name, "" where none was found. `is_executed` False: it was turned away, and
    `note` says why.
    """

    at: datetime
    origin: str
    what: str
    vm: str
    is_executed: bool
    note: str = ""
    params: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        return {
            "at": self.at.isoformat(),
            "origin": self.origin,
            "what": self.what,
            "vm": self.vm,
            "executed": self.is_executed,
            "note": self.note,
            "params": dict(self.params),
        }


class Ledger:
    """Append only. `path` None keeps it in memory alone."""

    def __init__(self, path: Path | None) -> None:
        self._lines: list[LedgerLine] = []
        self._file = None if path is None else path.open("a", encoding="utf-8")

    def write(
        self,
        origin: str,
        what: str,
        *,
        vm: str,
        is_executed: bool,
        note: str = "",
        params: Mapping[str, str] | None = None,
    ) -> LedgerLine:
        line = LedgerLine(
            at=world_now(),
            origin=origin,
            what=what,
            vm=vm,
            is_executed=is_executed,
            note=note,
            params=params or {},
        )
        self._lines.append(line)
        if self._file is not None:
            self._file.write(json.dumps(line.as_json()) + "\n")
            self._file.flush()
        return line

    @property
    def lines(self) -> tuple[LedgerLine, ...]:
        return tuple(self._lines)

    def of(self, vm: str, what: str | None = None) -> tuple[LedgerLine, ...]:
        """The lines about one VM, of one command or all."""
        return tuple(
            line for line in self._lines if line.vm == vm and (what is None or line.what == what)
        )

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
