"""The demonstration: a rehearsal cloud here, the real daemon in a child process, a fault, a cure.

The daemon is told nothing that a real one would not be told: API, keys, known hosts. What it does
is read from its own log and its own HTTP answers.
"""

import asyncio
import ctypes
import http.client
import json
import shlex
import shutil
import signal
import sys
import textwrap
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from stackward.cli.ask import NoAnswerError, SaysNoError, ask
from stackward.cli.exits import Exit
from stackward.rehearsal.faults import FAULTS
from stackward.rehearsal.server import Rehearsal
from stackward.rehearsal.settings import QUICK, RehearsalSettings

HEALED_WITHIN_SECONDS = 60.0
STOP_SECONDS = 10.0
PR_SET_PDEATHSIG = 1
FAULT = "agent-dies"
JOURNAL_COLUMNS = 160

# What the rehearsal's own configuration leaves to the operator. A demonstration has a minute.
HASTE: Mapping[str, Any] = {
    "mode": "act",
    "thresholds": {"boot_grace_seconds": 0},
    "timing": {"stop_grace_seconds": 2},
    "limits": {"zone_disruptive_max": 50},  # whoever plays with faults heals often
    "rules": {"builtin": False, "files": ["rules.yaml"]},
}
RULES: Mapping[str, Any] = {
    "rules": [
        {
            "name": "restart-dead-agent",
            "diagnosis": "AgentDown",
            "roles": ["ssvm", "cpvm"],
            "zones": ["*"],
            "stands_for_seconds": 2,
            "mode": "act",
            "ladder": [
                {
                    "action": "restart-agent",
                    "attempts_max": 2,
                    "cooldown_seconds": 50,
                    "verify_within_seconds": 40,
                },
                {
                    "action": "reboot-system-vm",
                    "attempts_max": 1,
                    "cooldown_seconds": 90,
                    "verify_within_seconds": 60,
                },
            ],
        }
    ]
}
# Events of the daemon's log that tell the story, and how a person would say them.
STORY: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "held": lambda e: f"{e.get('vm')}: holds back ({e.get('guard')}): {e.get('reason')}",
    "a person is needed": lambda e: f"calls a person for {e.get('subject')}: {e.get('sentence')}",
    "step begun": lambda e: f"{e.get('vm')}: {e.get('action')} is sent, once",
    "step finished": lambda e: (
        f"{e.get('vm')}: {e.get('action')} {e.get('outcome')}: {e.get('reason')}"
    ),
    "source does not answer": lambda e: f"the {e.get('source')} does not answer: {e.get('reason')}",
    "no way into vm": lambda e: f"{e.get('vm')}: no way in ({e.get('leg')})",
    "vm answers again over ssh": lambda e: f"{e.get('vm')}: can be looked into again",
    "source answers": lambda e: f"the {e.get('source')} answers",
    "paused": lambda e: f"paused, nothing is done: {e.get('reason')}",
    "resumed": lambda _: "goes on after a pause",
    "promise broken": lambda e: f"a promise is broken: {e.get('promises')}",
}


def run_demo(*, once: bool, break_after: float) -> int:
    """The demonstration; the exit code says whether the agent was healed."""
    with suppress(KeyboardInterrupt):
        # asyncio's own loop: asyncssh's server loses the first bytes of forwards on others.
        return asyncio.run(_demo(once=once, break_after=break_after))
    return Exit.DONE


def run_rehearsal(*, directory: Path | None, zones: int, quick: bool) -> int:
    """A rehearsal cloud alone, until Ctrl-C."""
    with suppress(KeyboardInterrupt):
        asyncio.run(_rehearse(directory, zones, quick=quick))
    return Exit.DONE


def switch_fault(control: str | None, name: str | None, on: str | None, *, off: bool) -> str:
    """Switch a fault over the control address; without a name list them, or end them all."""
    if name is None and not off:
        return _list_of_faults()
    if control is None:
        raise SaysNoError("say --control URL or set STACKWARD_REHEARSAL; the rehearsal prints it")
    query = f"?{urllib.parse.urlencode({'on': on})}" if on else ""
    one = f"/{urllib.parse.quote(name, safe='')}{query}" if name else ""
    url = f"{control.rstrip('/')}/faults{one}"
    request = urllib.request.Request(url, method="DELETE" if off else "POST")  # noqa: S310  checked
    if not url.startswith("http://127."):
        raise SaysNoError(f"{control} is not the control address of a rehearsal on this machine")
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310  checked above
            active = json.loads(reply.read(65536))["active"]
    except urllib.error.HTTPError as refusal:
        raise SaysNoError(refusal.read(4096).decode(errors="replace").strip()) from refusal
    except (OSError, ValueError, KeyError, http.client.HTTPException) as trouble:
        raise NoAnswerError(f"no rehearsal answers at {control}: {trouble}") from trouble
    words = [f"{one['name']} {one['on']}".strip() for one in active]
    return f"Faults that are on: {', '.join(words) or 'none'}"


def _list_of_faults() -> str:
    width = max(len(fault.name) for fault in FAULTS)
    lines = [f"{fault.name:<{width}}  {fault.kind.value:<5}  {fault.does}" for fault in FAULTS]
    return "\n".join((f"{'FAULT':<{width}}  ON     WHAT IT DOES", *lines))


@dataclass(slots=True)
class _Stage:
    """Prints with the seconds since the curtain rose."""

    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    began: float = field(default_factory=time.perf_counter)

    def say(self, text: str, style: str = "") -> None:
        self.console.print(
            f"{time.perf_counter() - self.began:5.1f}s  {text}", style=style, markup=False
        )


async def _rehearse(directory: Path | None, zones: int, *, quick: bool) -> None:
    settings = RehearsalSettings(zones=zones, directory=directory)
    if quick:
        settings = RehearsalSettings(zones=zones, directory=directory, pace=QUICK)
    async with Rehearsal(settings) as cloud:
        config = _write_config(cloud, {})
        stage = _Stage()
        stage.say(f"CloudStack API   {cloud.api_url}")
        stage.say(f"control address  {cloud.control_url}   ({_ourselves()} fault --control ...)")
        stage.say(f"a daemon for it  {_ourselves()} run --config {config}")
        stage.say("Ctrl-C ends it.")
        await _until_interrupted()


async def _demo(*, once: bool, break_after: float) -> int:
    stage = _Stage()
    stage.say("A rehearsal cloud: CloudStack's API, system VMs behind real SSH. Starting ...")
    async with AsyncExitStack() as stack:
        cloud = await stack.enter_async_context(Rehearsal(RehearsalSettings(zones=2, pace=QUICK)))
        config = _write_config(cloud, HASTE)
        child = await _start_daemon(config)
        stack.push_async_callback(_end, child)
        interrupted = asyncio.create_task(_until_interrupted())  # noqa: TID251  ends with the demo
        stack.callback(interrupted.cancel)
        url = await _address_of(child)
        told = asyncio.create_task(_tell(child, stage))  # noqa: TID251  ends with the child
        stack.callback(told.cancel)
        stage.say(f"The daemon runs in mode act. Its page: {url}/   for Prometheus: {url}/metrics")
        play = asyncio.create_task(  # noqa: TID251  awaited below
            _play(cloud, url, stage, break_after)
        )
        stack.callback(play.cancel)
        await asyncio.wait({play, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        if interrupted.done():
            stage.say("Ending.")
            return Exit.DONE
        is_healed = play.result()
        if once or not is_healed:
            return Exit.DONE if is_healed else Exit.FAILED
        stage.say("It runs on; Ctrl-C ends it all. In another terminal, here:")
        for line in (
            f"export STACKWARD_URL={url} STACKWARD_REHEARSAL={cloud.control_url}",
            f"{_ourselves()} status",
            f"{_ourselves()} fault     # what can be broken",
            f"{_ourselves()} fault mount-hung s-1-VM",
            f"{_ourselves()} explain s-1-VM",
            f"{_ourselves()} pause -r 'to see it hold back' -c {config}",
        ):
            stage.say(f"    {line}", "bold")
        await interrupted
        stage.say("Ending.")
    return Exit.DONE


async def _play(cloud: Rehearsal, url: str, stage: _Stage, break_after: float) -> bool:
    """All well, then a fault, then the cure. False: not healed in time."""
    rows = await _until(url, _all_passed, HEALED_WITHIN_SECONDS)
    if rows is None:
        stage.say("The fleet was not seen well within a minute.", "red")
        return False
    names = ", ".join(f"{row['name']} ({row['zone']})" for row in rows)
    stage.say(f"All well: {names}", "green")
    await asyncio.sleep(break_after)
    patient = next(row["name"] for row in rows if row["role"] == "ssvm")
    cloud.inject(FAULT, patient)
    stage.say(f"FAULT: the agent of {patient} dies, and systemd gives up on it.", "bold red")
    began = time.perf_counter()
    row = await _until(url, lambda rows: _named(rows, patient, "diagnosis"), HEALED_WITHIN_SECONDS)
    if row:
        stage.say(f"{patient}: {row[0]['sentence']}", "yellow")
    left = HEALED_WITHIN_SECONDS - (time.perf_counter() - began)
    healed = await _until(url, lambda rows: _healed(rows, patient), max(1.0, left))
    if healed is None or not await _is_proven(url, patient):
        stage.say(f"{patient} was not healed within {HEALED_WITHIN_SECONDS:.0f} s.", "bold red")
        return False
    spent = time.perf_counter() - began
    stage.say(f"{patient} is well again, {spent:.0f} s after its agent died.", "bold green")
    stage.say("What its journal says:")
    sentence = row[0]["sentence"] if row else ""
    for number, entry in enumerate(reversed(await _journal(url, patient))):
        told = entry["text"].removeprefix(sentence).strip() if number else entry["text"]
        text = textwrap.shorten(told, JOURNAL_COLUMNS, placeholder=" ...")
        stage.say(f"  {entry['at'][11:19]}  {entry['kind']:<15} {text}")
    return True


def _ourselves() -> str:
    """What to type for this very program, here."""
    return "stackward" if shutil.which("stackward") == sys.argv[0] else shlex.quote(sys.argv[0])


def _all_passed(rows: list[Any]) -> list[Any] | None:
    well = rows and all(row["verdict"] == "passed" and row["agent"] == "Up" for row in rows)
    return rows if well else None


def _named(rows: list[Any], name: str, key: str) -> list[Any] | None:
    found = [row for row in rows if row["name"] == name and row[key]]
    return found or None


def _healed(rows: list[Any], name: str) -> list[Any] | None:
    return [row for row in rows if row["name"] == name and row["health"] == "healthy"] or None


async def _until(
    url: str, wanted: Callable[[list[Any]], list[Any] | None], seconds: float
) -> list[Any] | None:
    """Ask the daemon until what comes back is what is wanted; None after so many seconds."""
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        with suppress(NoAnswerError, SaysNoError):
            answer = await asyncio.to_thread(ask, url, "/api/v1/status")
            if (found := wanted(list(answer["vms"]))) is not None:
                return found
        await asyncio.sleep(0.2)
    return None


async def _journal(url: str, name: str) -> list[Any]:
    answer = await asyncio.to_thread(ask, url, f"/api/v1/journal?target={name}")
    return list(answer["entries"])


async def _is_proven(url: str, name: str) -> bool:
    """True when the journal holds a step of ours that succeeded: not luck, not somebody else."""
    for _ in range(50):
        rows = await _journal(url, name)
        if any((row.get("outcome") or {}).get("kind") == "succeeded" for row in rows):
            return True
        await asyncio.sleep(0.2)
    return False


def _write_config(cloud: Rehearsal, haste: Mapping[str, Any]) -> Path:
    """The daemon's configuration beside the cloud's own files. JSON is YAML."""
    home = cloud.directory / "daemon"
    home.mkdir(mode=0o700, exist_ok=True)
    told = dict(cloud.daemon_config())
    for key, value in haste.items():
        known = told.get(key)
        told[key] = {**known, **value} if isinstance(known, Mapping) else value
    config = home / "stackward.yaml"
    config.write_text(json.dumps(told, indent=2))
    config.chmod(0o600)
    (home / "rules.yaml").write_text(json.dumps(RULES, indent=2))
    return config


async def _start_daemon(config: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "stackward",
        "run",
        "--config",
        str(config),
        "--log-format",
        "json",
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        preexec_fn=_die_with_parent,
        limit=1024 * 1024,
    )


def _die_with_parent() -> None:
    """Let the kernel end the daemon when the demonstration is killed (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


async def _address_of(child: asyncio.subprocess.Process) -> str:
    """The daemon's address, from its own log."""
    assert child.stderr is not None
    async with asyncio.timeout(30):
        while line := await child.stderr.readline():
            event = _event(line)
            if event.get("event") == "started":
                return f"http://127.0.0.1:{event['port']}"
            if not event or event.get("level") in ("error", "critical"):
                sys.stderr.write(line.decode(errors="replace"))
    raise SaysNoError("the daemon did not start")


async def _tell(child: asyncio.subprocess.Process, stage: _Stage) -> None:
    """Retell the daemon's log."""
    assert child.stderr is not None
    while line := await child.stderr.readline():
        event = _event(line)
        name = str(event.get("event", ""))
        if name in STORY:
            stage.say(f"daemon: {STORY[name](event)}")
        elif not event or event.get("level") in ("error", "critical"):
            stage.say(line.decode(errors="replace").strip(), "red")


def _event(line: bytes) -> Mapping[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, Mapping) else {}


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        with suppress(ProcessLookupError):
            child.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await child.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def _until_interrupted() -> None:
    """Return at SIGINT or SIGTERM."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    await asked.wait()


__all__ = ["run_demo", "run_rehearsal", "switch_fault"]
