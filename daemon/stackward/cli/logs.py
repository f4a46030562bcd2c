"""Reading log files by hand: `stackward logs`."""

# ruff: noqa: PLC0415  imports cost; each command has its own

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stackward.cli import logs_correlate
from stackward.cli.exits import Exit
from stackward.cli.terminal import printable

logs = typer.Typer(help="Read log files.", no_args_is_help=True, rich_markup_mode=None)


class Format(StrEnum):
    """For people, or for programs."""

    TEXT = "text"
    JSON = "json"


class Source(StrEnum):
    """Which log a file is."""

    CLOUD = "cloud"
    MANAGEMENT = "management"
    JOURNAL = "journal"
    HOST_AGENT = "host-agent"
    SSVM_CHECK = "ssvm-check"
    BOOT = "boot"


class Role(StrEnum):
    """Whose log it is."""

    SSVM = "ssvm"
    CPVM = "cpvm"
    ROUTER = "vr"


@logs.callback()
def _logs() -> None:
    pass


logs.command(short_help="Say where a fault lies, by two logs.", epilog=logs_correlate.EPILOG)(
    logs_correlate.correlate
)


@logs.command(
    short_help="Say what log files hold.",
    epilog="""\b
Examples:
  stackward logs classify /var/log/cloud.log
  stackward logs classify management-server.log.gz -f json
  journalctl -u cloud | stackward logs classify - --source journal
  stackward logs classify cloud.log --patterns my-pack.yaml""",
)
def classify(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Log files, plain or gzip; - is stdin.")
    ],
    source: Annotated[
        Source | None, typer.Option(help="Which log it is; else by what it says.")
    ] = None,
    role: Annotated[Role | None, typer.Option(help="Whose log; else by what it says.")] = None,
    patterns: Annotated[
        list[Path] | None,
        typer.Option(metavar="PACK", help="A pack of your own, beside the built-in ones."),
    ] = None,
    with_benign: Annotated[
        bool, typer.Option("--all", help="Also what sounds bad and is not (benign).")
    ] = False,
    output: Annotated[
        Format,
        typer.Option("--format", "-f", help="text for people; json: one object a line."),
    ] = Format.TEXT,
) -> None:
    """Say which lines of log files are events, and which. Lines that are none are left out.

    Exits 1 if a file could not be read to its end; the others are read all the same. Exits 2 if a
    pack holds a mistake. In JSON a line has file, line (from 1), event, severity and fields.
    """
    from stackward.app.classify import Classifier, UnreadableError
    from stackward.catalog.log_files import LogSource
    from stackward.catalog.signatures import LogRole

    classifier = Classifier(pattern_files=tuple(patterns or ()), with_benign=with_benign)
    log_source = LogSource(source.value) if source else None
    log_role = LogRole(role.value) if role else None
    failed = False
    for file in files:
        try:
            for told in classifier.events(file, log_source, log_role):
                sighting = told.sighting
                if output is Format.JSON:
                    line = json.dumps(
                        {
                            "file": told.file,
                            "line": told.line,
                            "event": sighting.event.value,
                            "severity": sighting.severity.value,
                            "fields": dict(sighting.fields),
                        }
                    )
                else:
                    what = f"{sighting.severity.value:<7} {sighting.event.value:<22}"
                    line = printable(f"{told.file}:{told.line}: {what} {sighting.text}")
                sys.stdout.write(line + "\n")
        except UnreadableError as error:
            failed = True
            sys.stdout.flush()
            sys.stderr.write(f"stackward: {error}\n")
    if failed:
        raise typer.Exit(Exit.FAILED)


@logs.command(
    short_help="Say how fast a log is read.",
    epilog="""\b
Examples:
  stackward logs bench /var/log/cloud.log
  stackward logs bench management-server.log --source management
  zcat old.log.gz | stackward logs bench - -f json""",
)
def bench(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A log, plain or gzip; - is stdin."),
    ],
    source: Annotated[Source, typer.Option(help="Which log it is.")] = Source.CLOUD,
    role: Annotated[Role | None, typer.Option(help="Whose log; else any.")] = None,
    output: Annotated[
        Format,
        typer.Option("--format", "-f", help="text for people; json: one object."),
    ] = Format.TEXT,
) -> None:
    """Read a log the way the daemon does, and say how fast that was and what was in it.

    CPU is user and system time: of the reading, and of this whole process so far. Of events that
    come in great numbers only some are told one by one, the others are counted. Exits 1 if the file
    could not be read to its end.
    """
    import os

    from stackward.app.classify import Classifier, UnreadableError
    from stackward.catalog.log_files import LogSource
    from stackward.catalog.signatures import LogRole
    from stackward.model.sighting import EventClass

    classifier = Classifier()
    before = os.times()
    try:
        log_role = LogRole(role.value) if role else None
        measure = classifier.measure(file, LogSource(source.value), log_role)
    except UnreadableError as error:
        sys.stderr.write(f"stackward: {error}\n")
        raise typer.Exit(Exit.FAILED) from None
    after = os.times()
    cpu = max(after.user + after.system - before.user - before.system, 0.001)
    events = {
        event.value: count
        for event, count in sorted(measure.events.items())
        if event is not EventClass.BENIGN
    }
    told = {
        "file": file,
        "lines": measure.lines,
        "bytes": measure.size_bytes,
        "matched_lines": measure.events.total(),
        "told_events": measure.told,
        "unparsed_lines": measure.unparsed,
        "cpu_seconds": round(cpu, 3),
        "process_cpu_seconds": round(after.user + after.system, 3),
        "wall_seconds": round(after.elapsed - before.elapsed, 3),
        "lines_per_cpu_second": round(measure.lines / cpu),
        "megabytes_per_cpu_second": round(measure.size_bytes / cpu / 1e6, 1),
        "events": events,
    }
    if output is Format.JSON:
        sys.stdout.write(json.dumps(told) + "\n")
        return
    del told["events"]
    for name, value in [*told.items(), *events.items()]:
        sys.stdout.write(f"{name.replace('_', ' '):<26}{value:>16}\n")
