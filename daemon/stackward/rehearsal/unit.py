"""systemd's cloud.service, as far as anybody can see it from outside.

Type=simple, Restart=on-failure, RestartSec=100ms, the default start limit of 5 in 10 s, KillMode
control-group. What systemd 247 and 252 do: facts on the boot chain. The unit's main process is
bash (`_run.sh`), the JVM its child; how the JVM ends is how bash ends.
"""

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from stackward.rehearsal.clock import Timers, world_now

_START_LIMIT_BURST = 5
_START_LIMIT_SECONDS = 10.0
_SIGTERM, _SIGKILL = 15, 9
_EXITED, _KILLED = 1, 2  # CLD_EXITED, CLD_KILLED


@dataclass(slots=True, kw_only=True)
class UnitState:
    """The properties that `systemctl show` tells."""

    active: str = "inactive"
    sub: str = "dead"
    result: str = "success"
    invocation_id: str = ""
    restarts: int = 0
    main_code: int = 0
    main_status: int = 0
    main_pid: int = 0
    exec_main_pid: int = 0  # stays after the end
    jvm_pid: int = 0
    # Seconds since boot; 0: never.
    active_at: float = 0.0
    inactive_at: float = 0.0
    exited_at: float = 0.0
    changed_at: float = 0.0


class Unit:
    """The unit. `started` and `ended` tell the machine that a JVM has come or gone.

    `ended(is_clean)`: clean means that the JVM was asked to stop and could say goodbye.
    """

    def __init__(
        self,
        timers: Timers,
        dice: random.Random,
        *,
        restart_seconds: float,
        stop_seconds: float,
        started: Callable[[], None],
        ended: Callable[[bool], None],
        changed: Callable[[], None],
    ) -> None:
        self.state = UnitState()
        self.is_deaf = False  # the JVM does not hear SIGTERM
        self._timers = timers
        self._dice = dice
        self._restart_seconds = restart_seconds
        self._stop_seconds = stop_seconds
        self._started = started
        self._ended = ended
        self._changed = changed
        self._booted_at = world_now()
        self._window_from: float | None = None
        self._window_count = 0
        self._change = 0  # grows with each change of state: an old timer sees that it is late
        self._next_pid = 700
        self._start_after_stop = False

    # --- what people ask for --------------------------------------------------------------------

    def boot(self, booted_at: datetime) -> None:
        """A new life of the machine: nothing is remembered; then the unit is started."""
        self._booted_at = booted_at
        self.state = UnitState()
        self._window_from = None
        self._next_pid = self._dice.randrange(600, 900)
        self.start()

    def forget_starts(self) -> None:
        """The start limit counts from now."""
        self._window_from = None

    def start(self) -> bool:
        """False when the start limit refuses."""
        if self.state.active in ("active", "deactivating"):
            self._start_after_stop = self.state.active == "deactivating"
            return True
        self.state.restarts = 0
        return self._start()

    def stop(self) -> None:
        self._start_after_stop = False
        if self.state.active == "active":
            self._terminate()
        elif self.state.active == "activating":
            self._become("inactive", "dead")

    def restart(self) -> bool:
        """Stop, then start; a JVM that does not hear delays it by the stop time-out."""
        if self.state.active != "active":
            return self.start()
        self._start_after_stop = True
        self._terminate()
        return self.state.active != "failed"

    def reset_failed(self) -> None:
        self.forget_starts()
        if self.state.active == "failed":
            self.state.result = "success"
            self.state.restarts = 0
            self._become("inactive", "dead")

    def shut_down(self) -> None:
        """The machine goes down: everything ends, nothing comes back."""
        self._start_after_stop = False
        if self.state.active in ("active", "deactivating"):
            self._end_jvm(is_clean=not self.is_deaf)
        self._become("inactive", "dead")

    # --- what happens to the main process ---------------------------------------------------------

    def jvm_exited(self, code: int) -> None:
        """The JVM ended by itself; bash ends with the same code (128 + n for a signal)."""
        if self.state.active != "active":
            return
        self._end_jvm(is_clean=False)
        self._record_end(_EXITED, code)
        if code == 0:
            self.state.result = "success"
            self._become("inactive", "dead")
            return
        self.state.result = "exit-code"
        self._become("activating", "auto-restart")
        self._later(self._restart_seconds, self._restart_by_itself)

    def _restart_by_itself(self) -> None:
        self.state.restarts += 1
        self._start()

    def _start(self) -> bool:
        if not self._is_below_limit():
            # The result stays what it was (exit-code): only old systemd says start-limit-hit.
            self._become("failed", "failed")
            return False
        self.state.invocation_id = uuid.UUID(int=self._dice.getrandbits(128), version=4).hex
        self.state.main_pid = self.state.exec_main_pid = self._pid()
        self.state.jvm_pid = self._pid()
        self.state.main_code = self.state.main_status = 0
        self.state.result = "success"
        self.state.active_at = self.uptime()
        self.state.exited_at = 0.0
        self._become("active", "running")
        self._started()
        return True

    def _is_below_limit(self) -> bool:
        now = self.uptime()
        if self._window_from is None or now > self._window_from + _START_LIMIT_SECONDS:
            self._window_from, self._window_count = now, 0
        self._window_count += 1
        return self._window_count <= _START_LIMIT_BURST

    def _terminate(self) -> None:
        if not self.is_deaf:
            self._end_jvm(is_clean=True)
            self._stopped("success", _SIGTERM)
            return
        self._become("deactivating", "stop-sigterm")

        def lose_patience() -> None:
            self._end_jvm(is_clean=False)
            self._stopped("timeout", _SIGKILL)

        self._later(self._stop_seconds, lose_patience)

    def _stopped(self, result: str, signal: int) -> None:
        self._record_end(_KILLED, signal)
        self.state.result = result
        self._become("inactive" if result == "success" else "failed", "dead")
        if self._start_after_stop:
            self._start_after_stop = False
            self.state.restarts = 0
            self._start()

    def _end_jvm(self, *, is_clean: bool) -> None:
        self.is_deaf = False
        self.state.jvm_pid = 0
        self._ended(is_clean)

    def _record_end(self, code: int, status: int) -> None:
        self.state.main_pid = 0
        self.state.main_code = code
        self.state.main_status = status
        self.state.exited_at = self.uptime()

    def _become(self, active: str, sub: str) -> None:
        self._change += 1
        self.state.active = active
        self.state.sub = "failed" if active == "failed" else sub
        if active in ("inactive", "failed", "activating"):
            self.state.main_pid = self.state.jvm_pid = 0
        self.state.changed_at = self.uptime()
        if active in ("inactive", "failed"):
            self.state.inactive_at = self.state.changed_at
        self._changed()

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        at = self._change

        def unless_changed() -> None:
            if self._change == at:
                action()

        self._timers.after(seconds, unless_changed)

    def _pid(self) -> int:
        self._next_pid += self._dice.randrange(1, 9)
        return self._next_pid

    def uptime(self) -> float:
        """Seconds since boot."""
        return (world_now() - self._booted_at).total_seconds()
