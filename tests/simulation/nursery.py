"""Forks daemons that have everything imported, so that fifty lives take the time of one start.

Each child is the real daemon: `stackward.cli.main` with `run`. Only its patience is shorter (how
long a restarted daemon looks for what an earlier life left). Commands on standard input, one a
line: `start` answers with the pid; `kill PID` (SIGKILL) and `stop PID` (SIGTERM) answer with how
the child ended. With `--resend` recovery is broken on purpose: it sends again what was left open.
"""

import ctypes
import functools
import gc
import os
import signal
import sys
from dataclasses import replace
from datetime import timedelta
from typing import cast

import stackward.app.runtime  # noqa: F401  imported once, for all the children
from stackward.act import proof, recovery
from stackward.act.errand import Errand
from stackward.act.follow import follow
from stackward.act.sending import Sent, send
from stackward.act.tools import ActSettings, Tools
from stackward.app import wiring
from stackward.catalog.action import Action
from stackward.catalog.actions import ACTIONS
from stackward.cli import main
from stackward.core import guards
from stackward.model.outcome import Outcome
from stackward.model.plan import ActionName

PR_SET_PDEATHSIG = 1

IMPATIENT = ActSettings(
    facts_within=5.0,
    ask_every=0.3,
    job_poll_every=0.3,
    search_every=0.3,
    arrival_slack=1.0,
    failed_job_look=1.5,
    recovery_look=2.0,
)
SETTLE = timedelta(seconds=0.3)


def be_impatient() -> None:
    """A minute here is what an hour is there."""
    vars(wiring)["Tools"] = functools.partial(Tools, settings=IMPATIENT)
    guards.LOOK_AGAIN_AFTER = timedelta(seconds=0.5)
    proof.STALE_UP = timedelta(seconds=1)
    actions = cast("dict[ActionName, Action]", ACTIONS)
    actions.update({name: replace(action, settle=SETTLE) for name, action in ACTIONS.items()})


def send_again_on_recovery() -> None:
    """The bug that this suite is there to find."""

    async def resend(tools: Tools, errand: Errand, sent: Sent) -> Outcome:
        look = await tools.api.look(errand.target_id)
        if look.target is not None:
            await send(tools, errand, look.target, look.host)
        return await follow(tools, errand, sent)

    vars(recovery)["follow"] = resend


def die_with_parent() -> None:
    """Let the kernel end this process when its parent is gone (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(config: str, log: str) -> int:
    """One more life of the daemon."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        die_with_parent()
        for number, path, flags in (
            (0, os.devnull, os.O_RDONLY),
            (1, log, os.O_WRONLY | os.O_APPEND | os.O_CREAT),
        ):
            os.dup2(os.open(path, flags, 0o600), number)
        os.dup2(1, 2)
        sys.argv = ["stackward", "run", "--config", config, "--log-format", "json"]
        code = main()
    finally:
        os._exit(code)


def end(pid: int, number: signal.Signals) -> int:
    """Minus the signal that ended it, or its exit code."""
    os.kill(pid, number)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def nurse(config: str, log: str) -> None:
    """Obey until standard input ends."""
    children: set[int] = set()
    for line in sys.stdin:
        match line.split():
            case ["start"]:
                answer = start(config, log)
                children.add(answer)
            case ["kill", pid]:
                answer = end(int(pid), signal.SIGKILL)
                children.discard(int(pid))
            case ["stop", pid]:
                answer = end(int(pid), signal.SIGTERM)
                children.discard(int(pid))
            case _:
                raise ValueError(line)
        print(answer, flush=True)
    for pid in children:
        end(pid, signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent()
    be_impatient()
    if "--resend" in sys.argv[3:]:
        send_again_on_recovery()
    gc.freeze()  # the children share these pages
    nurse(sys.argv[1], sys.argv[2])
