"""`stackward logs classify`: what it prints and how it ends."""

import json
import sys

import pytest

from stackward.cli import main

READY = (
    "2024-05-07 08:00:00,000 INFO  [cloud.agent.Agent] (main:null) "
    "Ready command is processed for agent id = 12\n"
)
CALM = "2024-05-07 08:00:01,000 WARN  [x.Y] (main:null) Rule already defined in SVM: x\n"


@pytest.fixture
def log(tmp_path):
    file = tmp_path / "cloud.log"
    file.write_text(f"id is 12\n{READY}{CALM}")
    return file


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["stackward", "logs", "classify", *arguments])
    return main()


def test_json_is_one_object_a_line_with_these_keys(monkeypatch, capsys, log):
    assert run(monkeypatch, str(log), "--format", "json", "--source", "cloud") == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {
            "file": str(log),
            "line": 2,
            "event": "agent_ready",
            "severity": "info",
            "fields": {"agent_id": "12"},
        }
    ]


def test_all_tells_what_is_benign_as_well(monkeypatch, capsys, log):
    assert run(monkeypatch, str(log), "--format", "json", "--all", "--role", "ssvm") == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["line"], each["event"]) for each in told] == [
        (2, "agent_ready"),
        (3, "benign"),
    ]


def test_a_pack_of_ones_own_is_tried_first_and_its_mistakes_are_told(
    monkeypatch, capsys, log, tmp_path
):
    pack = tmp_path / "own.yaml"
    pack.write_text(
        "patterns:\n"
        "  - name: own-ready\n"
        "    event: agent_exception\n"
        "    severity: warning\n"
        "    message: ^Ready command\n"
        "    samples: {match: [Ready command is processed], near_miss: [Ready]}\n"
    )
    assert run(monkeypatch, str(log), "-f", "json", "--patterns", str(pack)) == 0
    assert json.loads(capsys.readouterr().out)["event"] == "agent_exception"
    pack.write_text("patterns: [{name: x}]\n")
    assert run(monkeypatch, str(log), "--patterns", str(pack)) == 2
    assert f"{pack}:1:" in capsys.readouterr().err


def test_people_read_file_line_severity_event_and_text(monkeypatch, capsys, log):
    assert run(monkeypatch, str(log)) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{log}:2: info")
    assert "agent_ready" in line
    assert line.endswith("Ready command is processed for agent id = 12")


def test_a_file_that_is_not_there_fails_and_the_others_are_read(monkeypatch, capsys, log):
    assert run(monkeypatch, f"{log}.gone", str(log)) == 1
    captured = capsys.readouterr()
    assert captured.err == f"stackward: {log}.gone: No such file or directory\n"
    assert "agent_ready" in captured.out


def test_a_dash_is_standard_input(monkeypatch, capsys, log):
    with log.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert run(monkeypatch, "-", "-f", "json") == 0
    assert json.loads(capsys.readouterr().out)["file"] == "-"


@pytest.mark.parametrize("arguments", [(), ("x", "--source", "nowhere"), ("x", "--role", "nobody")])
def test_wrong_usage_exits_2(monkeypatch, capsys, arguments):
    assert run(monkeypatch, *arguments) == 2
    assert "Usage:" in capsys.readouterr().err
