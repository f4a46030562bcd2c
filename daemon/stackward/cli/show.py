"""Answers of the daemon for people: what is wrong first, in sentences. Colours only on a terminal.

The daemon's words are printed as they are; nothing is judged here.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from stackward.cli.terminal import printable
from stackward.web.views import WORST_FIRST, said, spoken, urgency

VERDICTS = {
    "passed": "[green]● passed [/]",
    "failed": "[bold red]▲ failed [/]",
    "unknown": "[yellow]? unknown[/]",
}
TIMELINE_SHOWN = 15
INDENT = 10  # as wide as a verdict and a space

Answer = Mapping[str, Any]


def status(console: Console, answer: Answer) -> None:
    """The fleet, what is wrong first."""
    counts = ", ".join(
        f"{answer['verdicts'][verdict]} {verdict}"
        for verdict in WORST_FIRST
        if answer["verdicts"].get(verdict)
    )
    age = spoken(_seconds(answer["now"], answer["taken_at"]))
    console.print(
        f"{len(answer['vms'])} system VMs: [bold]{_text(counts or 'none is known yet')}[/]. "
        f"Mode {_text(answer['mode'])}, round {answer['round']}, {age} ago."
    )
    _notices(console, answer)
    _fleet_causes(console, answer)
    rows = sorted(answer["vms"], key=urgency)
    widths = [max(len(line) for line in column) for column in zip(*map(_facts, rows), strict=True)]
    for row in rows:
        facts = "  ".join(
            fact.ljust(width) for fact, width in zip(_facts(row), widths, strict=True)
        )
        console.print(f"{_verdict(row['verdict'])} {_text(facts.rstrip())}")
        for line in _what_and_next(row):
            _below(console, line, INDENT)


def explanation(console: Console, answer: Answer) -> None:
    """One VM: what is wrong, what follows, what to do and what not, and who says so."""
    row, told = answer["row"], answer["explanation"]
    place = ", ".join(
        _present(told["role"], f"zone {told['zone']}", told["host"] and f"on {told['host']}")
    )
    console.print(f"{_verdict(row['verdict'])} [bold]{_text(row['name'])}[/]  {_text(place)}")
    _below(console, told["sentence"], INDENT)
    if told["since"]:
        age = spoken(_seconds(answer["now"], told["since"]))
        _paragraph(console, "Since", f"{_moment(told['since'])} UTC, {age} ago")
    _paragraph(console, "Wider cause", told["wider_cause"])
    logs = told["logs"]
    _paragraph(console, "Where", logs and logs["sentence"])
    _paragraph(console, "Silence", told["silence"])
    _paragraph(console, "What follows", told["follows"])
    _paragraph(console, "What to do", told["advice"])
    _paragraph(console, "What not", told["never"])
    _paragraph(console, "Now", _decision(told["decision"]))
    for title, lines in (
        ("Tried", told["tried"]),
        ("Also", told["causes"]),
        ("Because", [] if told["diagnosis"] else told["reasons"]),
    ):
        for line in lines:
            _paragraph(console, title, line)
    if told["evidence"]:
        console.print()
        console.print(_evidence(told["evidence"]))
    if logs:
        timeline(console, logs, told["name"], most=TIMELINE_SHOWN)


def timeline(console: Console, logs: Answer, name: str, *, most: int | None = None) -> None:
    """Both logs on one time line; `>` marks what decides where the cause lies."""
    lines: Sequence[Answer] = logs["timeline"]
    shown = [line for line in logs["evidence"] if line not in lines[-(most or len(lines)) :]]
    shown += lines[-(most or len(lines)) :]
    if not shown:
        return
    console.print()
    width = max(len(line["log"] or name) for line in shown)
    if most is not None and len(lines) > len(shown):
        console.print(f"[bold]LOGS[/] (the newest {len(shown)} of {len(lines)} lines, UTC)")
    else:
        console.print("[bold]LOGS[/] (UTC)")
    for line in shown:
        mark = "[bold]>[/]" if line in logs["evidence"] else " "
        times = f" ({line['times']} times)" if line["times"] > 1 else ""
        head = f"{mark} {_moment(line['at'])}  {_text((line['log'] or name).ljust(width))}  "
        console.print(Padding(head + _text(line["text"] + times), (0, 0), expand=False))
    for note in logs["notes"]:
        console.print(_text(note))


def plan(console: Console, answer: Answer) -> None:
    """Steps, holds and escalations of the newest round."""
    decided = answer["plan"]
    age = spoken(_seconds(answer["now"], decided["made_at"]))
    console.print(f"mode [bold]{_text(answer['mode'])}[/], decided {age} ago")
    _notices(console, answer)
    if not (decided["steps"] or decided["holds"] or decided["escalations"]):
        console.print(_nothing_to_do(answer["verdicts"]))
    for step in decided["steps"]:
        what = {"act": "does", "advise": "would do", "observe": "would do, were it not observing"}
        console.print(
            f"[bold green]step[/]   [bold]{_text(step['target_name'])}[/]  "
            f"{_text(what.get(step['mode'], step['mode']))}: {_text(step['action'])}"
        )
        _below(console, step["explanation"])
    for hold in decided["holds"]:
        console.print(
            f"[yellow]hold[/]   [bold]{_text(hold['target_name'])}[/]  "
            f"{_text(hold['action'] or 'no action is known')}, held by {hold['reason']['guard']}"
        )
        _below(console, _hold_text(hold["reason"]["text"], hold["reason"]["until"]))
    for call in decided["escalations"]:
        console.print(
            f"[bold red]person[/] [bold]{_text(call['subject_name'])}[/]  "
            f"{_text(call['diagnosis'])}"
        )
        _below(console, call["sentence"])
        _below(console, f"To do: {call['advice']}")


def journal(console: Console, rows: Sequence[Answer]) -> None:
    """Journal rows, as they come: a line for programs' eyes, the sentence below it."""
    if not rows:
        console.print("No such row.")
    for row in rows:
        outcome = row.get("outcome") or {}
        what = f"{row['kind']}: {outcome['kind']}" if outcome else row["kind"]
        words = (row.get("target_name"), row.get("action"))
        console.print(
            f"{row['sequence']:>5}  {_text(row['at'][:19].replace('T', ' '))}  "
            f"[bold]{_text(what)}[/]  {_text('  '.join(_present(*words)))}".rstrip()
        )
        _below(console, row["text"])


def _nothing_to_do(verdicts: Mapping[str, int]) -> str:
    """Nothing known is not the same as nothing wrong."""
    if not sum(verdicts.values()):
        return "No system VM is known: there is nothing to decide about."
    if verdicts["unknown"]:
        return f"Nothing is known to be sick; of {verdicts['unknown']} VMs nobody can tell."
    return "Nothing is sick: nothing to do."


def _notices(console: Console, answer: Answer) -> None:
    """What holds the daemon back as a whole, and which source is silent."""
    for key, sentence in (
        ("paused", "Paused, nothing is done"),
        ("demoted", "Only advising after a broken promise (see clear-demotion)"),
        ("journal_trouble", "The journal cannot be written, nothing is done"),
    ):
        if answer.get(key) is not None:
            console.print(f"[bold yellow]{sentence}:[/] {_text(answer[key])}")
    if answer.get("is_empty"):
        console.print(
            "[bold yellow]CloudStack lists no system VM at all.[/] A zone in use has two: the API "
            "user may not be allowed to see them."
        )
    for log in answer.get("management_logs", ()):
        if not log["is_followed"]:
            name, detail = _text(log["name"]), _text(log["detail"])
            console.print(f"[bold yellow]The log of {name} is not followed:[/] {detail}")
    for source, memory in answer.get("sources", {}).items():
        if not memory["is_up"]:
            age = spoken(_seconds(answer["now"], memory["since"]))
            console.print(
                f"[bold yellow]The {_text(source)} has not answered for {age}:[/] "
                f"{_text(memory['detail'])}"
            )


def _fleet_causes(console: Console, answer: Answer) -> None:
    """What concerns many VMs at once; what to do about one VM stands beside it."""
    advice = {
        (call["diagnosis"], str(call["subject"])): call["advice"] for call in answer["escalations"]
    }
    for cause in answer["causes"]:
        age = spoken(_seconds(answer["now"], cause["since"]))
        console.print(
            f"[bold red]▲ {_text(cause['code'])}[/] for {age}: {_text(cause['sentence'])}"
        )
        if to_do := advice.get((cause["code"], str(cause["subject"]))):
            _below(console, f"To do: {to_do}")


def _facts(row: Answer) -> tuple[str, ...]:
    return (
        row["name"],
        row["role"].upper(),
        row["zone"],
        f"{row['state']}, agent {row['agent']}",
    )


def _what_and_next(row: Answer) -> Iterable[str]:
    if row["suppressed_by"]:
        yield f"{row['diagnosis']}, taken for a symptom of {row['suppressed_by']}"
        return
    if what := said(row):
        yield what
    if row["next"]:
        yield f"-> {row['next']}"


def _decision(decision: Answer) -> str:
    action = decision["action"] or ""
    match decision["kind"]:
        case "step":
            verb = "does" if decision["mode"] == "act" else "would do"
            return f"{verb} {action}: {decision['reason']}"
        case "hold":
            held = f"{action} is held" if action else "nothing is done"
            return f"{held}: {_hold_text(decision['reason'], decision['until'])}"
        case "escalation":
            return "a person is called; nothing is done by itself"
        case _:
            return str(decision["reason"])


def _hold_text(text: str, until: str | None) -> str:
    return f"{text} (until {until[11:19]} UTC)" if until else text


def _evidence(lines: Sequence[Answer]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("VERDICT", "WITNESS", "PROBE", "AGE"):
        table.add_column(column, no_wrap=True)
    table.add_column("WHAT IT SAYS", overflow="fold", ratio=1)
    for line in sorted(lines, key=lambda line: WORST_FIRST.get(line["verdict"], 0)):
        times = f" ({line['count']} times)" if line["verdict"] == "failed" else ""
        old = "[yellow] too old[/]" if line["is_stale"] else ""
        table.add_row(
            _verdict(line["verdict"]),
            _text(line["witness"]),
            _text(line["probe"]),
            spoken(line["age"]) + old,
            _text(line["text"] + times),
        )
    return table


def _paragraph(console: Console, title: str, text: str | None) -> None:
    """A title in a margin and its text beside it; nothing when there is no text."""
    if not text:
        return
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=12, style="bold")
    grid.add_column(overflow="fold")
    grid.add_row(title, _text(text))
    console.print(grid)


def _below(console: Console, text: str, indent: int = 7) -> None:
    console.print(Padding(_text(text), (0, 0, 0, indent), expand=False))


def _verdict(verdict: str) -> str:
    return VERDICTS.get(verdict, _text(verdict))


def _text(value: object) -> str:
    return escape(printable(str(value))) if value is not None else ""


def _present(*words: str | None) -> list[str]:
    return [word for word in words if word]


def _seconds(later: str, earlier: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def _moment(text: str) -> str:
    return text[:19].replace("T", " ")
