"""The commands, in the order in which people meet them.

What a command needs is imported inside it: `stackward --help` and completion stay quick.
"""

# ruff: noqa: PLC0415

import json
import os
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stackward import __version__
from stackward.cli.exits import Exit
from stackward.cli.logs import logs

if TYPE_CHECKING:
    from rich.console import Console

CONFIG = Path("/etc/stackward/stackward.yaml")
STATE = Path("/var/lib/stackward")

EPILOG = """Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 no daemon answers, 4 the
state directory cannot be used. To begin with: stackward demo."""


def _examples(*lines: str) -> str:
    """Under a command's help, each on a line of its own."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


class Format(StrEnum):
    """For people, or for programs."""

    TEXT = "text"
    JSON = "json"


app = typer.Typer(
    help="Watch the system VMs of Apache CloudStack, say what is wrong, and heal with care.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

FormatOption = Annotated[
    Format, typer.Option("--format", "-f", help="text for people, json for programs.")
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        "-u",
        help="Address of the daemon; else $STACKWARD_URL, else http://127.0.0.1:9787.",
    ),
]
ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="The main configuration file.", dir_okay=False)
]
StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state-directory", "-s", help="The state directory; else the one of the configuration."
    ),
]


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _print_json(value: object) -> None:
    _print(json.dumps(value, indent=2, ensure_ascii=False))


def _console() -> "Console":
    """Colours and width of the terminal; elsewhere neither, but for a width that is asked for."""
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(highlight=False, width=200, no_color=True)


def _ask(url: str | None, path: str) -> Mapping[str, Any]:
    from stackward.cli.ask import ask, daemon_url

    return ask(daemon_url(url), path)


def _show_version(wanted: bool) -> None:
    if wanted:
        _print(f"stackward {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


# --- the daemon ---------------------------------------------------------------------------------


@app.command(
    epilog=_examples(
        "stackward run",
        "stackward run --config stackward.yaml --log-level debug",
    )
)
def run(
    config: ConfigOption = CONFIG,
    log_format: Annotated[
        str | None, typer.Option(help="json, console or auto; else the configuration's.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error; else the configuration's.")
    ] = None,
) -> None:
    """Run the daemon until SIGTERM. SIGHUP reads the configuration again."""
    from stackward.app.runtime import RunSettings, run_daemon

    for option, value, allowed in (
        ("--log-format", log_format, ("json", "console", "auto")),
        ("--log-level", log_level, ("debug", "info", "warning", "error")),
    ):
        if value is not None and value not in allowed:
            raise typer.BadParameter(f"{option}: {value!r} is none of {', '.join(allowed)}")
    run_daemon(RunSettings(config=config, log_format=log_format, log_level=log_level))


@app.command(
    "check-config",
    short_help="Print every mistake in configuration files.",
    epilog=_examples(
        "stackward check-config",
        "stackward check-config --syntax-only config/stackward.yaml  # in CI, without the secrets",
    ),
)
def check_config(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Main files; else the usual one.")
    ] = None,
    output: FormatOption = Format.TEXT,
    syntax_only: Annotated[
        bool,
        typer.Option(
            "--syntax-only",
            help="Leave secrets, certificates and host keys of other machines aside.",
        ),
    ] = False,
) -> None:
    """Read configuration files as the daemon would, and print every mistake."""
    from stackward.config.load import Reach, check
    from stackward.errors import ConfigMistake

    findings: list[tuple[Path, tuple[ConfigMistake, ...], tuple[str, ...]]] = []
    for file in files or [CONFIG]:
        reach = Reach.TEXT if syntax_only else Reach.CHECK
        findings.append((file, *check(file, reach=reach)))
    if output is Format.JSON:
        _print_json(
            [
                {
                    "file": str(file),
                    "mistakes": [
                        {
                            "file": one.file,
                            "line": one.line,
                            "path": one.path,
                            "message": one.message,
                            "hint": one.hint,
                        }
                        for one in mistakes
                    ],
                    "warnings": list(warnings),
                }
                for file, mistakes, warnings in findings
            ]
        )
    else:
        for file, mistakes, warnings in findings:
            for mistake in mistakes:
                _print(str(mistake))
            for warning in warnings:
                _print(f"{file}: warning: {warning}")
            count = len(mistakes)
            _print(f"{file}: {'ok' if not count else f'{count} mistake' + 's' * (count > 1)}")
    if any(mistakes for _, mistakes, _ in findings):
        raise typer.Exit(Exit.USAGE)


# --- asking the daemon ----------------------------------------------------------------------------


@app.command(
    epilog=_examples(
        "stackward status",
        "stackward status -f json | jq -r '.vms[] | select(.verdict != \"passed\") | .name'",
    )
)
def status(output: FormatOption = Format.TEXT, url: UrlOption = None) -> None:
    """Show every system VM with verdict, cause and next step."""
    answer = _ask(url, "/api/v1/status")
    if output is Format.JSON:
        _print_json(answer)
    else:
        from stackward.cli import show

        show.status(_console(), answer)


@app.command(
    short_help="Explain one system VM: who says what, what to do.",
    epilog=_examples(
        "stackward explain s-1-VM",
        "stackward explain s-1-VM -f json | jq .explanation.advice",
    ),
)
def explain(
    vm: Annotated[str, typer.Argument(help="Name or id of a system VM, such as s-1-VM.")],
    output: FormatOption = Format.TEXT,
    url: UrlOption = None,
) -> None:
    """Explain one system VM: who says what, what follows, what to do and what not to do."""
    from urllib.parse import quote

    answer = _ask(url, f"/api/v1/vms/{quote(vm, safe='')}")
    if output is Format.JSON:
        _print_json(answer)
    else:
        from stackward.cli import show

        show.explanation(_console(), answer)


@app.command(
    short_help="Show what would be done now, and what is held back.",
    epilog=_examples(
        "stackward plan",
        "stackward plan -f json | jq '.plan.holds[].reason'",
    ),
)
def plan(output: FormatOption = Format.TEXT, url: UrlOption = None) -> None:
    """Show what the daemon would do now, what it holds back and why, and whom it calls."""
    answer = _ask(url, "/api/v1/plan")
    if output is Format.JSON:
        _print_json(answer)
    else:
        from stackward.cli import show

        show.plan(_console(), answer)


@app.command(
    epilog=_examples(
        "stackward journal s-1-VM",
        "stackward journal --limit 5 -f json",
        "stackward journal -s /var/lib/stackward     # when no daemon answers",
    )
)
def journal(
    vm: Annotated[str | None, typer.Argument(help="Only rows of this VM (name or id).")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many rows.")] = 50,
    output: FormatOption = Format.TEXT,
    url: UrlOption = None,
    state_directory: Annotated[
        Path | None,
        typer.Option(
            "--state-directory", "-s", help="Read the file there instead of asking the daemon."
        ),
    ] = None,
) -> None:
    """Show decisions and outcomes, newest first."""
    rows: list[Any]
    if state_directory is not None:
        from stackward.cli.local import read_journal

        rows = read_journal(state_directory, vm, limit)
    else:
        from urllib.parse import urlencode

        query = {"limit": limit} | ({"target": vm} if vm else {})
        rows = list(_ask(url, f"/api/v1/journal?{urlencode(query)}")["entries"])
    if output is Format.JSON:
        _print_json({"entries": rows})
    else:
        from stackward.cli import show

        show.journal(_console(), rows)


# --- holding the daemon back: these work when it does not answer ---------------------------------


@app.command(epilog=_examples("stackward pause -r 'upgrade of zone-1'", "stackward resume"))
def pause(
    reason: Annotated[str, typer.Option("--reason", "-r", help="Shown wherever it is held.")],
    config: ConfigOption = CONFIG,
    state_directory: StateOption = None,
) -> None:
    """Stop all action at once; watching goes on. Works when the daemon does not answer."""
    from stackward.cli import local

    directory = local.state_directory(state_directory, config, STATE)
    local.pause(directory, reason)
    _print(f"The daemon of {directory} is paused: {reason}")


@app.command()
def resume(config: ConfigOption = CONFIG, state_directory: StateOption = None) -> None:
    """Allow action again, as far as the configuration does."""
    from stackward.cli import local

    directory = local.state_directory(state_directory, config, STATE)
    was_paused = local.resume(directory)
    _print(f"The daemon of {directory} {'goes on' if was_paused else 'was not paused'}.")


@app.command("clear-demotion")
def clear_demotion(config: ConfigOption = CONFIG, state_directory: StateOption = None) -> None:
    """Trust the planner again after a broken promise. Please report that one first."""
    from stackward.cli import local

    was_demoted = local.clear_demotion(local.state_directory(state_directory, config, STATE))
    _print("The planner is trusted again." if was_demoted else "No promise was broken.")


@app.command("forget-host-keys", short_help="Pin a template's SSH host keys anew.")
def forget_host_keys(
    template: Annotated[str, typer.Argument(help="Id of the template whose keys are forgotten.")],
    config: ConfigOption = CONFIG,
    state_directory: StateOption = None,
) -> None:
    """Forget the pinned SSH host keys of a template; the next ones seen are pinned anew.

    For a HostKeyChanged that you can explain, such as a new system VM template of the same id.
    """
    from stackward.cli import local

    directory = local.state_directory(state_directory, config, STATE)
    count = local.forget_host_keys(directory, template)
    _print(f"{count} {'key' if count == 1 else 'keys'} of template {template} forgotten.")


# --- reading logs ---------------------------------------------------------------------


app.add_typer(logs, name="logs")


# --- rehearsing ----------------------------------------------------------------------


@app.command(
    short_help="Watch it at work on a rehearsal cloud.",
    epilog=_examples(
        "stackward demo",
        "stackward demo --once     # for a script: exits 0 when healed, else 1",
    ),
)
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End when healed (0), or after 60 s if not (1).")
    ] = False,
    break_after: Annotated[
        float, typer.Option(min=0, max=600, help="Seconds until an agent dies.")
    ] = 3.0,
) -> None:
    """Watch the daemon at work: a rehearsal cloud, an agent that dies, and its healing.

    Needs no root and no network. It runs on until Ctrl-C, so that you can look around and break
    something yourself with `stackward fault`.
    """
    from stackward.cli.demo import run_demo

    raise typer.Exit(run_demo(once=once, break_after=break_after))


@app.command(
    short_help="Run a rehearsal cloud alone.",
    epilog=_examples("stackward rehearse --zones 3 --directory /tmp/cloud"),
)
def rehearse(
    directory: Annotated[
        Path | None, typer.Option(help="Where to keep it; else a temporary directory.")
    ] = None,
    zones: Annotated[int, typer.Option(min=1, max=20, help="Zones, two VMs each.")] = 2,
    quick: Annotated[bool, typer.Option(help="Shorten boots, jobs and scans.")] = True,
) -> None:
    """Run a rehearsal cloud alone, with a configuration to point a daemon at it."""
    from stackward.cli.demo import run_rehearsal

    raise typer.Exit(run_rehearsal(directory=directory, zones=zones, quick=quick))


@app.command(
    epilog=_examples(
        "stackward fault                       # lists them",
        "stackward fault agent-dies s-1-VM",
        "stackward fault agent-dies s-1-VM --off",
        "stackward fault --off                 # ends them all",
    )
)
def fault(
    name: Annotated[str | None, typer.Argument(help="The fault; without it: list them.")] = None,
    on: Annotated[
        str | None, typer.Argument(help="The VM, hypervisor or zone that is to have it.")
    ] = None,
    off: Annotated[
        bool, typer.Option("--off", help="Switch it off again; without a name: all.")
    ] = False,
    control: Annotated[
        str | None,
        typer.Option(
            envvar="STACKWARD_REHEARSAL", help="The control address, as the rehearsal prints it."
        ),
    ] = None,
) -> None:
    """Switch a fault of a rehearsal cloud on or off."""
    from stackward.cli.demo import switch_fault

    _print(switch_fault(control, name, on, off=off))
