"""Commands that need no daemon: help, check-config, and all that works on the state directory."""

import asyncio
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stackward import __version__
from stackward.app.wiring import JOURNAL_NAME, demotion_file, pause_file
from stackward.cli.exits import Exit
from stackward.journal.store import SqliteJournal
from stackward.model.entry import Entry, EntryKind
from stackward.ports import Pause
from tests.builders import NOW
from tests.component.cli.shell import write_config, write_empty_journal, write_newer_journal
from tests.fakes.clock import FixedClock

pytestmark = pytest.mark.timeout(120)

BROKEN = Path(__file__).parents[2] / "unit" / "config" / "broken"
COMMANDS = (
    "run",
    "check-config",
    "status",
    "explain",
    "plan",
    "journal",
    "pause",
    "resume",
    "clear-demotion",
    "forget-host-keys",
    "demo",
    "rehearse",
    "fault",
)


def test_the_version_is_told(shell):
    said = shell("--version")
    assert (said.code, said.out) == (Exit.DONE, f"stackward {__version__}\n")


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_every_command_and_the_exit_codes(shell, option):
    said = shell(option)
    assert said.code == Exit.DONE
    for command in COMMANDS:
        assert command in said.out
    for code in Exit:
        assert f"{code.value} " in said.out.partition("Exit codes:")[2]


def test_nothing_to_do_shows_the_help(shell):
    assert "Exit codes:" in shell().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_own_help(shell, command):
    said = shell(command, "--help")
    assert said.code == Exit.DONE
    assert f"stackward {command}" in said.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("status", "--nonsense"),
        ("explain",),
        ("pause",),
        ("journal", "--limit", "0"),
        ("status", "--format", "xml"),
        ("run", "--log-level", "loud"),
        ("rehearse", "--zones", "0"),
    ],
)
def test_wrong_usage_is_told_as_such(shell, arguments):
    said = shell(*arguments)
    assert said.code == Exit.USAGE
    assert said.err
    assert "Traceback" not in said.err


# --- check-config ---------------------------------------------------------------------------------


def test_a_right_configuration_is_ok(shell, tmp_path):
    config = write_config(tmp_path)
    said = shell("check-config", config)
    assert said.code == Exit.DONE
    assert said.out.splitlines()[-1] == f"{config}: ok"


def test_every_mistake_is_told_with_file_path_and_hint(shell):
    file = BROKEN / "out-of-bounds.yaml"
    said = shell("check-config", file)
    assert said.code == Exit.USAGE
    assert f"{file}:7: limits.storm_share:" in said.out
    assert f"{file}:9: thresholds.fall:" in said.out
    assert "hint: " in said.out
    assert said.out.splitlines()[-1] == f"{file}: 2 mistakes"


def test_mistakes_for_programs(shell, tmp_path):
    file, right = BROKEN / "out-of-bounds.yaml", write_config(tmp_path)
    said = shell("check-config", file, right, "--format", "json")
    assert said.code == Exit.USAGE
    broken, fine = said.json
    assert [(one["path"], one["line"]) for one in broken["mistakes"]] == [
        ("limits.storm_share", 7),
        ("thresholds.fall", 9),
    ]
    assert (fine["file"], fine["mistakes"]) == (str(right), [])


def test_none_of_twelve_broken_files_is_called_ok(shell):
    files = sorted(BROKEN.glob("*.yaml"))[::2][:12]
    assert len(files) == 12
    said = shell("check-config", *files, "--format", "json")
    assert said.code == Exit.USAGE
    assert [found["file"] for found in said.json] == [str(file) for file in files]
    assert all(found["mistakes"] for found in said.json)
    assert "Traceback" not in said.err


def test_a_file_that_is_not_there_is_a_mistake(shell, tmp_path):
    assert shell("check-config", tmp_path / "nowhere.yaml").code == Exit.USAGE


def test_without_the_secrets_the_syntax_can_be_checked(shell, tmp_path):
    config = write_config(tmp_path)
    (tmp_path / "secret-key").unlink()
    assert shell("check-config", config).code == Exit.USAGE
    assert shell("check-config", "--syntax-only", config).code == Exit.DONE


def test_with_the_syntax_packs_are_checked(shell, tmp_path):
    pack = tmp_path / "pack.yaml"
    pack.write_text(
        "patterns: [{name: odd, event: oom, severity: error, message: '(?=odd)',"
        " samples: {match: [odd], near_miss: [even]}}]\n"
    )
    config = write_config(tmp_path, logs={"pattern_files": ["pack.yaml"]})
    said = shell("check-config", "--syntax-only", config)
    assert said.code == Exit.USAGE
    assert f"{pack}:1: patterns[0].message: is not an RE2 expression" in said.out


# --- pause and resume -----------------------------------------------------------------------------


def paused(state: Path) -> str | None:
    pause = pause_file(state).read()
    return None if pause is None else pause.reason


def test_pause_and_resume_need_no_daemon(shell, tmp_path):
    assert shell("pause", "-r", "an upgrade", "-s", tmp_path).code == Exit.DONE
    assert paused(tmp_path) == "an upgrade"
    assert shell("resume", "-s", tmp_path).code == Exit.DONE
    assert paused(tmp_path) is None
    said = shell("resume", "-s", tmp_path)
    assert said.code == Exit.DONE
    assert "not paused" in said.out


def test_pause_finds_the_directory_in_the_configuration(shell, tmp_path):
    config = write_config(tmp_path)
    (tmp_path / "state").mkdir()
    assert shell("pause", "-r", "an upgrade", "-c", config).code == Exit.DONE
    assert paused(tmp_path / "state") == "an upgrade"


def test_pause_works_where_the_secrets_cannot_be_read(shell, tmp_path):
    config = write_config(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "secret-key").unlink()
    assert shell("pause", "-r", "trouble", "-c", config).code == Exit.DONE
    assert paused(tmp_path / "state") == "trouble"


def test_pause_works_with_a_configuration_that_cannot_be_read(shell, tmp_path):
    broken = BROKEN / "bracket-left-open.yaml"
    said = shell("pause", "-r", "trouble", "-c", broken, "-s", tmp_path)
    assert said.code == Exit.DONE
    assert paused(tmp_path) == "trouble"


def test_pause_says_where_it_could_not_be_written(shell, tmp_path):
    said = shell("pause", "-r", "trouble", "-s", tmp_path / "nowhere")
    assert said.code == Exit.STATE
    assert str(tmp_path / "nowhere") in said.err
    assert "Traceback" not in said.err


def test_a_demotion_is_cleared_once_and_journalled(shell, tmp_path):
    demotion_file(tmp_path).write(Pause(reason="broken", by="stackward", at=NOW))
    assert shell("clear-demotion", "-s", tmp_path).code == Exit.DONE
    assert demotion_file(tmp_path).read() is None
    again = shell("clear-demotion", "-s", tmp_path)
    assert (again.code, "No promise" in again.out) == (Exit.DONE, True)
    rows = shell("journal", "-s", tmp_path, "-f", "json").json["entries"]
    assert [row["kind"] for row in rows] == ["cleared"]


# --- the journal, read from its file --------------------------------------------------------------


@pytest.fixture
async def state(tmp_path):
    """A state directory with two rows in its journal."""
    journal = SqliteJournal(tmp_path / JOURNAL_NAME, FixedClock())
    await journal.open()
    for name in ("s-1-VM", "v-2-VM"):
        row = Entry(
            kind=EntryKind.ESCALATED, at=NOW, text=f"[bold]{name}[/] needs you", target_name=name
        )
        await journal.append(row)
    await journal.close()
    return tmp_path


async def test_the_file_is_read_when_no_daemon_answers(state, shell):
    said = await asyncio.to_thread(shell, "journal", "-s", state)
    assert said.code == Exit.DONE
    assert "[bold]s-1-VM[/] needs you" in said.out  # what is printed is never markup
    assert "\x1b" not in said.out
    one = await asyncio.to_thread(shell, "journal", "v-2-VM", "-s", state, "-f", "json")
    assert [row["target_name"] for row in one.json["entries"]] == ["v-2-VM"]
    few = await asyncio.to_thread(shell, "journal", "-s", state, "--limit", "1", "-f", "json")
    assert [row["sequence"] for row in few.json["entries"]] == [2]


def test_a_directory_without_a_journal_is_told(shell, tmp_path):
    for directory in (tmp_path, tmp_path / "nowhere"):
        said = shell("journal", "-s", directory)
        assert said.code == Exit.STATE
        assert "Traceback" not in said.err


def test_a_journal_of_a_newer_program_is_left_alone(shell, tmp_path):
    path = asyncio.run(write_newer_journal(tmp_path))
    before = path.read_bytes()
    for command in (("journal",), ("forget-host-keys", "template-1")):
        said = shell(*command, "-s", tmp_path)
        assert (said.code, "newer" in said.err) == (Exit.STATE, True)
    assert path.read_bytes() == before


def test_keys_of_a_template_without_any_are_none(shell, tmp_path):
    asyncio.run(write_empty_journal(tmp_path))
    said = shell("forget-host-keys", "template-1", "-s", tmp_path)
    assert said.code == Exit.DONE
    assert said.out.startswith("0 ")


def test_no_journal_is_made_where_there_is_none(shell, tmp_path):
    said = shell("forget-host-keys", "template-1", "-s", tmp_path)
    assert said.code == Exit.STATE
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("pause", "-r", "upgrade"), ("resume",), ("clear-demotion",)])
def test_nobody_is_paused_where_no_daemon_lives(shell, tmp_path, command):
    said = shell(*command, "-s", tmp_path / "elsewhere")
    assert said.code == Exit.STATE
    assert "no state directory" in said.err


# --- rehearsing -----------------------------------------------------------------------------------


def test_faults_are_listed_without_a_rehearsal(shell):
    said = shell("fault")
    assert said.code == Exit.DONE
    assert "agent-dies" in said.out


@pytest.mark.parametrize(
    ("control", "code"),
    [
        (None, Exit.FAILED),
        ("http://192.0.2.1:1", Exit.FAILED),
        ("http://127.0.0.1:1", Exit.NO_ANSWER),
    ],
)
def test_a_fault_needs_a_rehearsal_on_this_machine(shell, monkeypatch, control, code):
    monkeypatch.delenv("STACKWARD_REHEARSAL", raising=False)
    options = () if control is None else ("--control", control)
    assert shell("fault", "agent-dies", "s-1-VM", *options).code == code


def test_what_is_json_is_only_json(shell, tmp_path):
    json.loads(shell("check-config", write_config(tmp_path), "-f", "json").out)


def test_two_logs_are_put_on_one_time_line(shell, tmp_path):
    head = "2026-03-01 12:00:00,000"
    management, own = tmp_path / "ms.log", tmp_path / "cloud.log"
    management.write_text(
        f"{head} INFO  [c.c.a.m.AgentManagerImpl] (x:ctx-1) (logid:1) Host "
        '{"id":4,"name":"s-12-VM"} is disconnecting with event AgentDisconnected\n'
    )
    own.write_text(
        f"{head} WARN  [utils.nio.NioClient] (main:null) IOException while connecting to "
        "192.0.2.4:8250 java.net.NoRouteToHostException: No route to host\n"
    )
    said = shell("logs", "correlate", management, own)
    assert said.code == Exit.DONE
    assert said.out.startswith("s-12-VM  The cause lies in the network")
    assert "management server" in said.out
    told = shell("logs", "correlate", management, own, "--format", "json").json
    assert (told["vm"], told["culprit"], len(told["timeline"])) == ("s-12-VM", "network", 2)


def test_logs_of_nobody_and_files_that_are_not_there_are_told(shell, tmp_path):
    empty = tmp_path / "ms.log"
    head = "2026-03-01 12:00:00,000 INFO  [c.c.a.m.AgentManagerImpl] (x:ctx-1) (logid:1)"
    empty.write_text(f"{head} about s-1-VM\n{head} about v-2-VM\n")
    said = shell("logs", "correlate", empty)
    assert (said.code, "--vm" in said.err) == (Exit.USAGE, True)
    os.mkfifo(tmp_path / "fifo")
    for file in (tmp_path / "none", tmp_path / "fifo", tmp_path, "-"):
        said = shell("logs", "correlate", empty, file)
        assert said.code == Exit.FAILED
    assert "Traceback" not in said.err
    assert shell("logs", "correlate", empty, "--time-zone", "Nowhere").code == Exit.USAGE


def test_how_fast_a_log_is_read_is_said_with_what_is_in_it(shell, tmp_path):
    lines = [
        f"2025-06-01 11:59:{n % 60:02},000 INFO  [cloud.agent.Agent] (m:null) Reconnecting to ms{n}"
        for n in range(500)
    ]
    log = tmp_path / "cloud.log"
    log.write_text("\n".join([*lines, "one more line", ""]))
    told = shell("logs", "bench", log, "--format", "json").json
    assert (told["lines"], told["bytes"]) == (501, log.stat().st_size)
    assert told["events"] == {"agent_connecting": 500}
    assert told["matched_lines"] == 500 > told["told_events"] > 10
    assert told["lines_per_cpu_second"] > 0
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    assert "agent connecting                       500" in shell("logs", "bench", packed).out
    assert shell("logs", "bench", tmp_path / "none").code == Exit.FAILED


def test_how_fast_a_log_of_another_kind_is_read_is_said_by_its_own_patterns(shell, tmp_path):
    log = tmp_path / "ms.log"
    said = "(x:ctx-1) (logid:1) Console proxy agent disconnected, proxy: v-13-VM"
    log.write_text(f"2026-03-01 12:00:00,000 WARN  [c.c.c.AgentHookBase] {said}\n" * 500)
    told = shell("logs", "bench", log, "--source", "management", "-f", "json").json
    assert told["events"] == {"agent_disconnect_event": 500}
    assert (told["lines"], told["unparsed_lines"]) == (500, 0)
    assert shell("logs", "bench", log, "--source", "nothing").code == Exit.USAGE


HEAD = "2026-03-01 12:00:05,123 INFO  [cloud.agent.Agent] (m:1)"


def test_a_line_of_a_log_cannot_steer_the_terminal_and_a_first_mark_hides_no_line(shell, tmp_path):
    log = tmp_path / "cloud.log"
    log.write_text(f"\ufeff{HEAD} Reconnecting to \x1b]0;x\x07\x1b[31mms.example\r\n")
    said = shell("logs", "classify", log)
    assert said.out.strip().endswith("Reconnecting to  ]0;x  [31mms.example")
    assert "\x1b" not in shell("logs", "correlate", log).out


@pytest.mark.parametrize(
    "year", ["0001-01-01 00:00:00", "9999-12-31 23:59:59", "2026-03-01 12:00:00"]
)
def test_no_time_in_a_log_is_too_odd_to_put_it_on_a_time_line(shell, tmp_path, year):
    own, management = tmp_path / "cloud.log", tmp_path / "ms.log"
    own.write_text(f"{HEAD} Reconnecting to ms\n".replace("2026-03-01 12:00:05", year))
    head = f"{year},000 WARN  [c.c.c.X] (x:ctx-1) (logid:1)"
    management.write_text(f"{head} Console proxy agent disconnected, proxy: v-13-VM\n" * 2)
    for more in ([], ["--until", "0001-01-01"], ["--management-offset", -3e9, "--vm-offset", 3e9]):
        said = shell("logs", "correlate", management, own, "-f", "json", *more)
        assert (said.code, said.err) == (Exit.DONE, "")
    for offset in ("1e11", "-1e11", "1e308", "nan", "inf"):
        assert shell("logs", "correlate", own, "--vm-offset", offset).code == Exit.USAGE


@pytest.mark.parametrize(
    ("streams", "code", "out", "err"),
    [
        (">/dev/full", Exit.FAILED, "", "stackward: cannot write: No space left on device\n"),
        ("<&-", Exit.DONE, "Reconnecting to M?ller\n", ""),
        (">&-", Exit.DONE, "", ""),
    ],
)
def test_streams_that_are_full_closed_or_narrow_need_no_traceback(
    tmp_path, streams, code, out, err
):
    log = tmp_path / "cloud.log"
    log.write_bytes(f"{HEAD} Reconnecting to M\xfcller\n".encode("latin-1"))
    words = [sys.executable, "-m", "stackward", "logs", "classify", str(log)]
    said = subprocess.run(
        ["sh", "-c", f'exec "$@" {streams}', "sh", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert (said.returncode, said.stdout[-len(out) :] if out else said.stdout) == (code, out)
    assert said.stderr == err
