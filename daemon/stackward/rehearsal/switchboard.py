"""Which faults are on: switching them by name, for whoever asks (tests, control page, CLI)."""

from stackward.rehearsal.faults import BY_NAME, Fault, Kind
from stackward.rehearsal.stage import NotHere, Stage


class Switchboard:
    """Which faults are on. Switching on twice, or off what is not on, changes nothing."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._on: dict[tuple[str, str], Fault] = {}

    @property
    def active(self) -> tuple[tuple[str, str], ...]:
        """(name, what it is on) of each fault that has not ended."""
        self._forget_what_ended()
        return tuple(self._on)

    def inject(self, name: str, on: str = "") -> None:
        """Raises NotHere for an unknown fault or thing."""
        fault = self._fault(name, on)
        self._forget_what_ended()
        if (name, on) in self._on:
            return
        fault.begin(self._stage, on)
        if not fault.is_passing:
            self._on[name, on] = fault

    def clear(self, name: str, on: str = "") -> None:
        """A VM that is gone has taken its faults along."""
        fault = self._fault(name, on)
        if self._on.pop((name, on), None) is None:
            return
        if self._is_gone(fault, on):
            return
        fault.end(self._stage, on)

    def clear_all(self) -> None:
        for name, on in self.active:
            self.clear(name, on)

    def _forget_what_ended(self) -> None:
        self._on = {
            (name, on): fault
            for (name, on), fault in self._on.items()
            if self._is_gone(fault, on) or fault.lasts(self._stage, on)
        }

    def _is_gone(self, fault: Fault, on: str) -> bool:
        return fault.kind is Kind.VM and self._stage.world.vm_named(on) is None

    @staticmethod
    def _fault(name: str, on: str) -> Fault:
        fault = BY_NAME.get(name)
        if fault is None:
            raise NotHere(f"there is no fault {name!r}; there are: {', '.join(BY_NAME)}")
        if (fault.kind is Kind.CLOUD) != (not on):
            needs = "is for the whole cloud" if on else f"needs the name of a {fault.kind}"
            raise NotHere(f"the fault {name} {needs}")
        return fault
