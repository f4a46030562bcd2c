"""atheris itself: it finds what was planted, and thirty seconds of it find nothing else."""

import os
import platform
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.fuzz.readers import READERS

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "fuzz"
# All that a loaded machine may take beyond the seconds asked for.
PATIENCE = 150

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(300),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="atheris is for x86-64 only"),
]


def fuzz(seconds: int, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, str(seconds), *words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=seconds + PATIENCE,
        env={**os.environ, "VENV": str(Path(os.environ.get("VENV", ROOT / ".venv")).absolute())},
        check=False,
    )


def test_thirty_seconds_find_nothing(tmp_path):
    done = fuzz(30, "--jobs", "2", "--keep", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in READERS:
        assert f"{name}: " in done.stdout
    assert "nothing found" in done.stdout.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_a_planted_crash_and_a_planted_slowness_are_found_and_can_be_repeated(tmp_path):
    planted = ("--reader", "planted-crash", "--reader", "planted-quadratic")
    done = fuzz(40, *planted, "--jobs", "2", "--keep", tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    repeats = [line for line in done.stdout.splitlines() if "repeat with: " in line]
    assert len(repeats) == 2, done.stdout
    for line in repeats:
        again = subprocess.run(
            shlex.split(line.partition("repeat with: ")[2]),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert again.returncode != 0, again.stdout
        assert "IndexError" in again.stderr or "TooSlowError" in again.stderr, again.stderr
