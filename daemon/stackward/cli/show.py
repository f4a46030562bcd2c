"""Answers of the daemon for people: tables and plain sentences. Colours only on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

VERDICTS = {
    "passed": "[green]● passed[/]",
    "failed": "[bold red]▲ failed[/]",
    "unknown": "[yellow]? unknown[/]",
}

Answer = Mapping[str, Any]


def _text(value: object) -> str:
    return escape(str(value)) if value is not None else ""


def status(console: Console, answer: Answer) -> None:
    """The fleet in one table, its causes and calls above it."""
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in answer["verdicts"].items())
    console.print(
        f"mode [bold]{_text(answer['mode'])}[/], {len(answer['vms'])} system VMs: {_text(verdicts)}"
        f"  (round {answer['round']}, {_text(answer['taken_at'][:19])} UTC)"
    )
    for key, sentence in (
        ("paused", "Paused, nothing is done"),
        ("demoted", "Only advising after a broken promise"),
        ("journal_trouble", "The journal cannot be written, nothing is done"),
    ):
        if answer.get(key) is not None:
            console.print(f"[bold yellow]{sentence}:[/] {_text(answer[key])}")
    for source, memory in answer["sources"].items():
        if not memory["is_up"]:
            console.print(
                f"[bold yellow]The {_text(source)} does not answer:[/] {_text(memory['detail'])}"
            )
    for cause in answer["causes"]:
        console.print(f"[bold red]{_text(cause['code'])}:[/] {_text(cause['sentence'])}")
    for call in answer["escalations"]:
        console.print(
            f"[bold]A person is needed for {_text(call['subject_name'])}:[/] "
            f"{_text(call['sentence'])} {_text(call['advice'])}"
        )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("ZONE", "VM", "ROLE", "VERDICT", "CLOUDSTACK", "CAUSE AND NEXT STEP"):
        table.add_column(column, overflow="fold")
    for row in answer["vms"]:
        cause = row["sentence"] or "; ".join(row["reasons"])
        lines = [line for line in (cause, row["next"]) if line]
        table.add_row(
            _text(row["zone"]),
            _text(row["name"]),
            _text(row["role"].upper()),
            VERDICTS.get(row["verdict"], _text(row["verdict"])),
            _text(f"{row['state']}, {row['agent']}"),
            _text("\n".join(lines)),
        )
    console.print(table)


def explanation(console: Console, answer: Answer) -> None:
    """One VM: what is known, from whom, what follows, what to do and what not."""
    row = answer["row"]
    console.print(
        f"[bold]{_text(row['name'])}[/] "
        f"({_text(row['role'].upper())}, zone {_text(row['zone'])}): "
        f"{VERDICTS.get(row['verdict'], _text(row['verdict']))}"
    )
    for key, value in answer["explanation"].items():
        if value in (None, "", [], {}) or key in ("name", "verdict", "target_id"):
            continue
        console.print(f"[bold]{_text(key.replace('_', ' '))}[/]")
        lines = value if isinstance(value, list) else [value]
        for line in lines:
            console.print(f"  {_text(_flat(line))}")


def plan(console: Console, answer: Answer) -> None:
    """Steps, holds and escalations of the newest round."""
    decided = answer["plan"]
    console.print(
        f"mode [bold]{_text(answer['mode'])}[/], made at {_text(decided['made_at'][:19])}"
    )
    if not (decided["steps"] or decided["holds"] or decided["escalations"]):
        console.print("Nothing is sick: nothing to do.")
    for step in decided["steps"]:
        console.print(
            f"[bold]step[/]     {_text(step['target_name'])}  {_text(step['action'])} "
            f"({_text(step['mode'])}): {_text(step['explanation'])}"
        )
    for hold in decided["holds"]:
        console.print(
            f"[yellow]hold[/]     {_text(hold['target_name'])}  {_text(hold['action'] or '-')}: "
            f"{_text(hold['reason']['guard'])}: {_text(hold['reason']['text'])}"
        )
    for call in decided["escalations"]:
        console.print(
            f"[red]escalate[/] {_text(call['subject_name'])}  {_text(call['diagnosis'])}: "
            f"{_text(call['advice'])}"
        )


def journal(console: Console, rows: Sequence[Answer]) -> None:
    """Journal rows, as they come."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("#", "AT (UTC)", "WHAT", "VM", "ACTION", "TEXT"):
        table.add_column(column, overflow="fold")
    for row in rows:
        outcome = row.get("outcome") or {}
        what = f"{row['kind']}: {outcome['kind']}" if outcome else row["kind"]
        table.add_row(
            str(row["sequence"]),
            _text(row["at"][:19].replace("T", " ")),
            _text(what),
            _text(row.get("target_name")),
            _text(row.get("action")),
            _text(row["text"]),
        )
    console.print(table)


def _flat(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key.replace('_', ' ')}: {item}"
            for key, item in value.items()
            if item not in (None, "", [], {})
        )
    return str(value)
