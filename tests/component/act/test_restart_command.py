"""The restart command, run by a real sh with a stand-in systemctl in front of PATH."""

import os
import subprocess
from pathlib import Path

import pytest

from stackward.catalog.action import Changed, Declined, Done, Reading, Unclear
from stackward.catalog.actions.restart_agent import read_restart_reply, restart_command
from stackward.model.guest import CommandReply

ID = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32

SYSTEMCTL = """\
#!/bin/sh
echo "$*" >> "$LEDGER"
case $* in
  "show cloud -p LoadState -p ActiveState -p InvocationID") cat "$SHOWN"; exit "$SHOW_EXIT" ;;
  "reset-failed cloud") exit "$RESET_EXIT" ;;
  "--no-block restart cloud") [ "$RESTART_EXIT" = 0 ] || echo "Connection timed out" >&2
    exit "$RESTART_EXIT" ;;
esac
exit 99
"""


class Unit:
    """A unit that shows what the test says, and a ledger of what was asked of it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        stand_in = directory / "systemctl"
        stand_in.write_text(SYSTEMCTL)
        stand_in.chmod(0o755)
        (directory / "ledger").touch()

    def restart(
        self,
        expected: str | None,
        *,
        state: str = "failed",
        invocation_id: str = ID,
        load: str = "loaded",
        shell: str = "sh",
        shown: str | None = None,
        **exits: int,
    ) -> Reading:
        shows = f"LoadState={load}\nActiveState={state}\nInvocationID={invocation_id}\n"
        (self._directory / "shown").write_text(shows if shown is None else shown)
        environment = {
            "PATH": f"{self._directory}:{os.environ['PATH']}",
            "LEDGER": str(self._directory / "ledger"),
            "SHOWN": str(self._directory / "shown"),
            "SHOW_EXIT": str(exits.get("show_exit", 0)),
            "RESET_EXIT": str(exits.get("reset_exit", 0)),
            "RESTART_EXIT": str(exits.get("restart_exit", 0)),
        }
        done = subprocess.run(
            [shell, "-c", restart_command(expected)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=25,
            check=False,
        )
        assert done.stderr == ""
        return read_restart_reply(CommandReply(done.returncode, done.stdout))

    @property
    def changes(self) -> list[str]:
        lines = (self._directory / "ledger").read_text().splitlines()
        return [line for line in lines if not line.startswith("show")]


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    return Unit(tmp_path)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_failed_unit_is_reset_and_restarted(unit: Unit, shell: str):
    assert unit.restart(ID, shell=shell) == Done()
    assert unit.changes == ["reset-failed cloud", "--no-block restart cloud"]


@pytest.mark.parametrize("state", ["inactive", "active", "activating"])
def test_a_unit_that_is_not_failed_is_restarted_without_a_reset(unit: Unit, state: str):
    assert unit.restart(ID, state=state) == Done()
    assert unit.changes == ["--no-block restart cloud"]


def test_a_unit_that_was_never_started_is_started(unit: Unit):
    assert unit.restart(None, state="inactive", invocation_id="") == Done()
    assert unit.changes == ["--no-block restart cloud"]


@pytest.mark.parametrize(
    ("expected", "found"), [(ID, OTHER), (ID, ""), (None, ID), (ID, "[unprintable]")]
)
def test_another_life_of_the_unit_is_left_alone(unit: Unit, expected: str | None, found: str):
    assert isinstance(unit.restart(expected, invocation_id=found), Changed)
    assert unit.changes == []


@pytest.mark.parametrize("state", ["deactivating", "reloading", "maintenance", ""])
def test_a_unit_on_its_way_to_another_state_is_left_alone(unit: Unit, state: str):
    assert isinstance(unit.restart(ID, state=state), Changed)
    assert unit.changes == []


@pytest.mark.parametrize("state", ["active", "activating"])
def test_a_unit_whose_life_cannot_be_told_is_touched_only_when_dead(unit: Unit, state: str):
    assert isinstance(unit.restart(None, state=state, invocation_id="[unprintable]"), Changed)
    assert unit.changes == []
    assert unit.restart(None, invocation_id="[unprintable]") == Done()


@pytest.mark.parametrize("load", ["not-found", "masked", "error", ""])
def test_a_unit_that_cannot_be_started_is_left_alone(unit: Unit, load: str):
    assert isinstance(unit.restart(ID, load=load), Declined)
    assert unit.changes == []


def test_a_systemctl_that_does_not_answer_leaves_everything_alone(unit: Unit):
    said = unit.restart(ID, shown="Failed to connect\nto bus: $(reboot)\n", show_exit=1)
    assert said == Declined("systemctl show: Failed to connect to bus: $(reboot)")
    assert unit.changes == []


def test_a_reset_that_fails_stops_before_the_restart(unit: Unit):
    assert isinstance(unit.restart(ID, reset_exit=1), Declined)
    assert unit.changes == ["reset-failed cloud"]


def test_a_restart_that_fails_may_have_been_queued(unit: Unit):
    assert unit.restart(ID, restart_exit=1) == Unclear("systemctl restart: Connection timed out")


def test_no_systemctl_at_all_leaves_everything_alone(tmp_path: Path):
    done = subprocess.run(
        ["/bin/sh", "-c", restart_command(ID)],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert isinstance(read_restart_reply(CommandReply(done.returncode, done.stdout)), Declined)
