"""`stackward logs correlate`: two files, one question."""

# ruff: noqa: PLC0415  imports cost; each command has its own

import json
import sys
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from stackward.cli.exits import Exit
from stackward.cli.terminal import printable

EPILOG = """\b
Examples:
  stackward logs correlate management-server.log cloud.log
  stackward logs correlate management-server.log.gz cloud.log --vm s-12-VM -f json
  stackward logs correlate ms.log cloud.log --vm-offset 60 --time-zone Europe/Berlin"""


CLOCK_OFFSET_MAX = timedelta(days=36525)


class Format(StrEnum):
    """For people, or for programs."""

    TEXT = "text"
    JSON = "json"


def correlate(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="MANAGEMENT_LOG CLOUD_LOG...",
            help="The logs, plain or gzip, in any order; of rotated ones the older first.",
        ),
    ],
    vm: Annotated[str | None, typer.Option(help="Of which VM; else by what its log says.")] = None,
    address: Annotated[
        str | None, typer.Option(help="The VM's private address, where the server names no other.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="The hypervisor that runs it, as CloudStack calls it.")
    ] = None,
    vm_offset: Annotated[
        float, typer.Option(help="Seconds by which the VM's clock was ahead of the true time.")
    ] = 0.0,
    management_offset: Annotated[
        float, typer.Option(help="The same for the management server.")
    ] = 0.0,
    time_zone: Annotated[
        str, typer.Option(help="Zone of the management server's times, as Europe/Berlin.")
    ] = "UTC",
    until: Annotated[
        datetime | None,
        typer.Option(help="When the trouble was, in UTC; else the last one in the logs."),
    ] = None,
    output: Annotated[
        Format, typer.Option("--format", "-f", help="text for people, json for programs.")
    ] = Format.TEXT,
) -> None:
    """Put a management server's log and a system VM's on one time line, and say where a fault lies.

    Exits 1 if a file could not be read, 2 if nobody can say of which VM the logs are.
    """
    from rich.console import Console
    from rich.markup import escape

    from stackward.app.classify import UnreadableError
    from stackward.app.correlate_files import Asked, NoVmError, correlate_files
    from stackward.cli import show
    from stackward.config.strict import time_zone as zone_named
    from stackward.web.views import plain

    try:
        asked = Asked(
            vm=vm,
            address=address,
            host=host,
            vm_offset=_clock_offset(vm_offset),
            management_offset=_clock_offset(management_offset),
            zone=zone_named(time_zone),
            until=None if until is None else until.replace(tzinfo=UTC),
        )
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(str(error)) from error
    try:
        found = correlate_files(files, asked)
    except UnreadableError as error:
        sys.stderr.write(f"stackward: {error}\n")
        raise typer.Exit(Exit.FAILED) from error
    except NoVmError as error:
        sys.stderr.write(f"stackward: {error}\n")
        raise typer.Exit(Exit.USAGE) from error
    told = plain(found.correlation)
    assert isinstance(told, dict)
    if output is Format.JSON:
        sys.stdout.write(json.dumps({"vm": found.vm, **told}, indent=2, ensure_ascii=False) + "\n")
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200, no_color=True)
    name, sentence = (escape(printable(told)) for told in (found.vm, found.correlation.sentence))
    told_in_short = f"[bold]{name}[/]  {sentence}"
    console.print(told_in_short, soft_wrap=True)
    show.timeline(console, told, found.vm)


def _clock_offset(seconds: float) -> timedelta:
    offset = timedelta(seconds=seconds)
    if abs(offset) > CLOCK_OFFSET_MAX:
        raise ValueError("no clock is wrong by more than a hundred years")
    return offset
