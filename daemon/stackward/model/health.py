"""How a target is, with the reasons that put it there."""

from dataclasses import dataclass
from enum import StrEnum


class HealthState(StrEnum):
    """Healthy, not sure yet, sick, on the way back, or nobody can tell."""

    HEALTHY = "healthy"
    SUSPECT = "suspect"  # a bad answer, not yet confirmed
    UNHEALTHY = "unhealthy"
    RECOVERING = "recovering"  # good answers after an episode, not yet confirmed
    UNKNOWN = "unknown"


class Overall(StrEnum):
    """The one verdict shown for a target."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Health:
    """State, verdict and the reasons, most telling first."""

    state: HealthState
    verdict: Overall
    reasons: tuple[str, ...] = ()
