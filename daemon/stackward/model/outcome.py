"""How a step ended."""

from dataclasses import dataclass
from enum import StrEnum


class OutcomeKind(StrEnum):
    """Succeeded and failed are verified; withdrawn was never sent; unknown may have been."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"
    UNKNOWN = "unknown"
    WOULD_HAVE = "would-have"  # advise: looked again, and would have done it


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended, and why, for people.

    Only a withdrawn step (nothing left this machine) does not count for cooldown, budget, ladder.
    """

    kind: OutcomeKind
    reason: str

    @property
    def counts_as_done(self) -> bool:
        """True unless it is certain that nothing was sent."""
        return self.kind in (OutcomeKind.SUCCEEDED, OutcomeKind.FAILED, OutcomeKind.UNKNOWN)
