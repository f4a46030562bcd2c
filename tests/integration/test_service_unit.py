"""The unit as systemd's own tools see it."""

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "stackward.service"


@pytest.fixture
def unit_with_an_existing_program(tmp_path):
    """A copy of the unit whose ExecStart exists: verify refuses a missing program."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian package systemd)")
    copy = tmp_path / "stackward.service"
    lines = UNIT.read_text().splitlines()
    program = "ExecStart=/bin/true run --config /etc/stackward/stackward.yaml"
    copy.write_text(
        "\n".join(program if line.startswith("ExecStart=") else line for line in lines) + "\n"
    )
    return copy


def analyze(*arguments):
    return subprocess.run(
        ["systemd-analyze", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_the_unit_verifies_without_a_word(unit_with_an_existing_program):
    done = analyze("verify", "--recursive-errors=yes", str(unit_with_an_existing_program))
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_verify_would_notice_an_unknown_key(unit_with_an_existing_program):
    text = unit_with_an_existing_program.read_text()
    unit_with_an_existing_program.write_text(text.replace("WatchdogSec=", "WatchdogSecs="))
    done = analyze("verify", "--recursive-errors=yes", str(unit_with_an_existing_program))
    assert done.returncode != 0


def test_the_exposure_is_two_or_better(unit_with_an_existing_program):
    done = analyze(
        "security", "--offline=true", "--threshold=20", str(unit_with_an_existing_program)
    )
    assert done.returncode == 0, done.stdout[-400:]
