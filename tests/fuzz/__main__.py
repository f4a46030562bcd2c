"""Shares the seconds among the readers, tells how it goes, and keeps what is found.

Each reader is fuzzed in a process of its own, at the lowest priority. It ends by itself when its
share is over; one that does not is killed, as all are when this ends. Exit code 1: something was
found, and how to repeat it is told; 2: nothing could be run here.
"""

import argparse
import importlib.util
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.planted import PLANTED
from tests.fuzz.readers import READERS

# What is started with this dies with who started it (prctl(2), PR_SET_PDEATHSIG).
LEASH = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
LATE_SECONDS = 80.0  # the last input may take its time, and the machine may be busy
TELL_EVERY_SECONDS = 30.0
PROGRESS = re.compile(r"^#(\d+)\s.*?cov: (\d+)", re.MULTILINE)
TOLD_LINES = 40


@dataclass(slots=True)
class Run:
    """One process at work."""

    reader: str
    process: subprocess.Popen[bytes]
    log: Path
    ends_at: float

    def progress(self) -> str:
        """How many inputs were tried, and how many edges of the code they reached."""
        found = PROGRESS.findall(self.log.read_text(errors="replace"))
        return f"{found[-1][0]} inputs, {found[-1][1]} edges" if found else "no inputs told yet"

    def end(self) -> None:
        """Kill it, and whatever it has started, if it is still there."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("seconds", type=float, help="wall seconds for all readers together")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    parser.add_argument(
        "--reader", action="append", choices=[*READERS, *PLANTED], help="only this one"
    )
    parser.add_argument("--keep", type=Path, default=Path(".fuzz"), help="where findings go")
    arguments = parser.parse_args()
    if platform.machine() not in ("x86_64", "AMD64") or not importlib.util.find_spec("atheris"):
        print("NOT FUZZED: atheris is for x86-64 only", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    names = arguments.reader or list(READERS)
    share = arguments.seconds / math.ceil(len(names) / arguments.jobs)
    print(f"{', '.join(names)}: {share:.0f} s each, {arguments.jobs} at a time", flush=True)
    with tempfile.TemporaryDirectory(prefix="stackward-fuzzing-") as scratch:
        found = list(fuzz(names, share, arguments.jobs, arguments.keep, Path(scratch)))
    print(f"FOUND: {', '.join(found)}" if found else "nothing found")
    return 1 if found else 0


def fuzz(names: Sequence[str], share: float, jobs: int, keep: Path, scratch: Path) -> Iterator[str]:
    """Fuzz them all; what comes back are the readers in which something was found."""
    waiting = list(names)
    running: list[Run] = []
    told_at = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(start(waiting.pop(0), share, keep, scratch))
            time.sleep(0.2)
            for run in list(running):
                if run.process.poll() is None and time.monotonic() < run.ends_at:
                    continue
                running.remove(run)
                if not has_ended_well(run, keep):
                    yield run.reader
            if time.monotonic() - told_at > TELL_EVERY_SECONDS:
                told_at = time.monotonic()
                for run in running:
                    print(f"  {run.reader}: {run.progress()}", flush=True)
    finally:
        for run in running:
            run.end()


def start(reader: str, share: float, keep: Path, scratch: Path) -> Run:
    log = scratch / f"{reader}.log"
    words = ("-m", "tests.fuzz.run", reader, "--seconds", str(share), "--keep", str(keep))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*LEASH, "nice", "-n", "19", sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(scratch)},
        )
    return Run(reader, process, log, time.monotonic() + share + LATE_SECONDS)


def has_ended_well(run: Run, keep: Path) -> bool:
    """Tell how a run ended. What it kept bears the name of its reader."""
    is_late = run.process.poll() is None
    run.end()
    if not is_late and run.process.returncode == 0:
        print(f"  {run.reader}: {run.progress()}, nothing found", flush=True)
        return True
    said = run.log.read_text(errors="replace").splitlines()
    print("\n".join(said[-TOLD_LINES:]))
    print(f"  {run.reader}: FOUND SOMETHING" + (" (it did not end in time)" if is_late else ""))
    for input_file in sorted(keep.glob(f"{run.reader}-*")):
        print(f"    repeat with: {sys.executable} -m tests.fuzz.run {run.reader} {input_file}")
    sys.stdout.flush()
    return False


if __name__ == "__main__":
    sys.exit(main())
