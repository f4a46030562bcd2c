"""The agent inside: systemd's word on cloud.service, its JVM, its socket to a management server.

`ExecStart` is a bash that runs java as its child, so java's end shows as bash's exit status, and
`systemctl stop` (SIGTERM to the whole cgroup) shows as bash killed by signal 15, which systemd
counts as clean. Exit statuses: ExitStatus in agent/src/main/java/com/cloud/agent/Agent.java.
"""

from datetime import timedelta

from stackward.catalog.facts import GuestFacts, UnitFacts, Unreadable, seconds
from stackward.catalog.probe import Answer, ProbeThresholds
from stackward.model.verdict import Failed, Passed, Sign, Unknown, Verdict

_EXITED, _KILLED, _DUMPED = 1, 2, 3  # CLD_* of siginfo
_SIGTERM = 15
_STARTS_BEFORE_GIVING_UP = 5  # systemd's default: 5 starts in 10 s
# A unit that is active at every look, but each time only just, dies again and again all the same.
RESTARTS_OF_A_LOOP = 3
_YOUNG = timedelta(seconds=30)

_EXIT_STATUS = {
    0: "the agent ended by itself without an error, and systemd leaves it so",
    1: "the management server refused it, or the console proxy could not go on",
    65: "the agent ended to be upgraded",
    66: "its configuration cannot be used (agent.properties)",
    67: "the agent could not start; its log says why",
    126: "java or the script's interpreter may not be executed",
    127: "java or the script's interpreter is not there",
    134: "the JVM aborted",
    137: "the JVM was killed by SIGKILL, often by the kernel for want of memory",
    143: "the JVM was ended by SIGTERM",
    200: "the agent's directory is missing",
    203: "_run.sh is missing or not executable: the VM was never patched, or only in part",
}


def interpret_unit(facts: GuestFacts, thresholds: ProbeThresholds) -> Answer:
    """How is cloud.service?"""
    age = facts.age("unit")
    if isinstance(facts.unit, Unreadable):
        return Answer(Unknown(facts.unit.reason))
    if age > thresholds.slow_stale_after:
        return Answer(Unknown(f"systemd last answered {seconds(age)} ago"), ("unit",))
    return Answer(_unit(facts.unit), ("unit",))


def _unit(unit: UnitFacts) -> Verdict:
    detail = f" ({unit.sub_state})" if unit.sub_state != unit.active_state else ""
    words = f"cloud.service is {unit.active_state}{detail}"
    if unit.load_state in ("not-found", "masked", "error", "bad-setting"):
        return Unknown(f"systemd says that cloud.service is {unit.load_state}")
    match unit.active_state:
        case "active":
            return _active(unit, words)
        case "failed":
            return Failed(Sign.UNIT_FAILED, f"{words}: {_why(unit)}{_gave_up(unit)}")
        case "activating" if unit.sub_state.startswith("auto-restart"):
            return Failed(Sign.UNIT_RESTARTING, f"{words}: {_why(unit)}{_restarts(unit)}")
        case "inactive":
            return _inactive(unit, words)
        case _:
            return Unknown(words)


def _active(unit: UnitFacts, words: str) -> Verdict:
    if unit.sub_state != "running":
        return Unknown(words)
    restarts = unit.restarts or 0
    if restarts >= RESTARTS_OF_A_LOOP and unit.active_for is not None and unit.active_for < _YOUNG:
        return Failed(
            Sign.UNIT_RESTARTING,
            f"{words} for only {seconds(unit.active_for)}: {_why(unit)}{_restarts(unit)}",
        )
    return Passed(words + _restarts(unit))


def _inactive(unit: UnitFacts, words: str) -> Verdict:
    if not unit.exit_code:
        return Failed(Sign.UNIT_STOPPED, f"{words}: it has not been started since the boot")
    if unit.exit_code == _EXITED and unit.exit_status == 0:
        return Failed(Sign.UNIT_EXITED, f"{words}: {_why(unit)}")
    if unit.exit_code == _KILLED and unit.exit_status == _SIGTERM:
        return Failed(Sign.UNIT_STOPPED, f"{words}: somebody stopped it")
    return Failed(Sign.UNIT_STOPPED, f"{words}: it was stopped; {_why(unit)}")


def _why(unit: UnitFacts) -> str:
    status = unit.exit_status
    match unit.exit_code:
        case None | 0:
            return f"systemd says {unit.result or 'nothing'} about why"
        case 1:
            meaning = _EXIT_STATUS.get(status or 0, "a status without a known meaning")
            return f"it exited with {status} ({meaning})"
        case _:
            return f"it was ended by signal {status} (result {unit.result})"


def _gave_up(unit: UnitFacts) -> str:
    is_limit = unit.result == "start-limit-hit" or (
        unit.restarts is not None and unit.restarts >= _STARTS_BEFORE_GIVING_UP - 1
    )
    if not is_limit:
        return ""
    return ", and systemd has given up starting it (start limit: reset-failed comes first)"


def _restarts(unit: UnitFacts) -> str:
    return f"; restarted {unit.restarts} times" if unit.restarts else ""


def interpret_process(facts: GuestFacts, thresholds: ProbeThresholds) -> Answer:
    """Is there a JVM below an active cloud.service?"""
    if isinstance(facts.jvm, Unreadable):
        return Answer(_no_jvm_expected(facts) or Unknown(facts.jvm.reason))
    if facts.jvm.pid is not None:
        return Answer(Passed(f"the JVM is process {facts.jvm.pid}"))
    age = facts.age("unit")
    if isinstance(facts.unit, Unreadable):
        return Answer(Unknown(f"no JVM, and {facts.unit.reason}"))
    if age > thresholds.slow_stale_after:
        return Answer(Unknown(f"no JVM, and systemd last answered {seconds(age)} ago"), ("unit",))
    if expected := _no_jvm_expected(facts):
        return Answer(expected, ("unit",))
    words = "cloud.service is active, and there is no java in its cgroup"
    return Answer(Failed(Sign.JVM_MISSING, words), ("unit",))


def _no_jvm_expected(facts: GuestFacts) -> Unknown | None:
    """With a unit that does not run its cgroup goes away: there is nothing to be listed."""
    if isinstance(facts.unit, Unreadable) or facts.unit.active_state == "active":
        return None
    return Unknown(f"no JVM is expected: the unit is {facts.unit.active_state}")


def interpret_link(facts: GuestFacts, thresholds: ProbeThresholds) -> Answer:
    """Has the JVM an established socket to a management server?"""
    del thresholds
    if isinstance(facts.link, Unreadable):
        return Answer(Unknown(facts.link.reason))
    if facts.link.peer is not None:
        return Answer(Passed(f"connected to {facts.link.peer}"))
    if isinstance(facts.jvm, Unreadable):
        return Answer(_no_jvm_expected(facts) or Unknown(f"no connection, and {facts.jvm.reason}"))
    if facts.jvm.pid is None:
        return Answer(Unknown("no connection, and no JVM that could have one"))
    return Answer(
        Failed(
            Sign.LINK_DOWN,
            f"the JVM (process {facts.jvm.pid}) has no connection to a management server",
        )
    )
