"""The page for people: zones and VMs with verdict, cause and next step. Plain HTML, no scripts.

Everything that comes from outside is escaped. Verdicts are words and shapes, not colours alone.
"""

from collections.abc import Iterable
from datetime import datetime
from html import escape
from itertools import groupby

from stackward.core.explain import explain_target
from stackward.core.snapshot import Snapshot
from stackward.model.health import Overall
from stackward.web import views

STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #cf222e; --dim: #8a6d00; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #ff7b72; --dim: #d29922; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 1.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
th { font-weight: 600; font-size: .85rem; }
td:first-child { white-space: nowrap; }
.passed { color: var(--good); } .failed { color: var(--bad); font-weight: 600; } .unknown { color: var(--dim); }
.notice { border-left: 4px solid var(--bad); padding: .4rem .8rem; margin: .6rem 0; background: #8881; }
.quiet { opacity: .75; font-size: .9rem; } dt { font-weight: 600; margin-top: .6rem; } dd { margin-left: 1rem; }
code { font-size: .92em; } nav a { margin-right: 1rem; }
""".strip()  # noqa: E501  a style sheet reads best one rule a line

SHAPES = {Overall.PASSED.value: "●", Overall.FAILED.value: "▲", Overall.UNKNOWN.value: "?"}


def fleet(snapshot: Snapshot, now: datetime) -> str:
    """The front page."""
    status = views.status(snapshot, now)
    parts = [_heading(snapshot, now)]
    parts.extend(
        f'<p class="notice"><b>{escape(diagnosis.code)}</b>: {escape(diagnosis.sentence)}</p>'
        for diagnosis in snapshot.fleet_diagnoses
    )
    parts.extend(
        f'<p class="notice">A person is needed for <b>{escape(item.subject_name)}</b>: '
        f"{escape(item.sentence)} {escape(item.advice)}</p>"
        for item in snapshot.plan.escalations
    )
    rows = status["vms"]
    assert isinstance(rows, list)
    vms = [row for row in rows if isinstance(row, dict)]
    if not vms:
        parts.append("<p>No system VM is known yet.</p>")
    for zone, members in groupby(vms, key=lambda row: str(row["zone"])):
        parts.append(f"<h2>Zone {escape(zone)}</h2>")
        parts.append(
            "<table><thead><tr><th>VM</th><th>Role</th><th>Verdict</th><th>CloudStack says</th>"
            "<th>Cause</th><th>Next</th></tr></thead><tbody>"
        )
        parts.extend(_row(member) for member in members)
        parts.append("</tbody></table>")
    return _document("stackward", "".join(parts))


def vm(snapshot: Snapshot, now: datetime, name: str) -> str | None:
    """One VM, explained; None if there is no such VM."""
    target_id = views.find(snapshot, name)
    if target_id is None:
        return None
    row = views.vm_row(snapshot, snapshot.fleet.targets[target_id])
    explanation = views.plain(explain_target(snapshot, target_id))
    assert isinstance(explanation, dict)
    parts = [
        f"<h1>{escape(str(row['name']))} {_verdict(str(row['verdict']))}</h1>",
        '<nav><a href="/">all VMs</a></nav>',
        "<dl>",
        *(_definition(key, value) for key, value in explanation.items()),
        "</dl>",
        f'<p class="quiet">{escape(_age(snapshot, now))}</p>',
    ]
    return _document(f"stackward: {row['name']}", "".join(parts))


def starting() -> str:
    """Before the first round."""
    return _document("stackward", "<h1>stackward</h1><p>Starting: no round was completed yet.</p>")


def not_found() -> str:
    """For a name that leads nowhere."""
    return _document("stackward", '<h1>No such VM</h1><p><a href="/">all VMs</a></p>')


def _heading(snapshot: Snapshot, now: datetime) -> str:
    fleet = snapshot.fleet
    words = [f"mode {snapshot.policy.mode.value}", f"{len(fleet.targets)} system VMs"]
    words.append(_age(snapshot, now))
    notices = []
    if fleet.pause_reason is not None:
        notices.append(f"Paused, nothing is done: {fleet.pause_reason}")
    if fleet.demotion is not None:
        notices.append(f"Only advising after a broken promise: {fleet.demotion}")
    if fleet.journal_trouble:
        notices.append(f"The journal cannot be written, nothing is done: {fleet.journal_trouble}")
    notices.extend(
        f"The {source.value} does not answer: {memory.detail}"
        for source, memory in fleet.sources.items()
        if not memory.is_up
    )
    return (
        f'<h1>stackward</h1><p class="quiet">{escape(", ".join(words))}</p>'
        '<nav><a href="/metrics">metrics</a><a href="/api/v1/status">status (JSON)</a>'
        '<a href="/api/v1/plan">plan (JSON)</a><a href="/api/v1/journal">journal (JSON)</a></nav>'
        + "".join(f'<p class="notice">{escape(notice)}</p>' for notice in notices)
    )


def _age(snapshot: Snapshot, now: datetime) -> str:
    age = (now - snapshot.taken_at).total_seconds()
    return f"as of {snapshot.taken_at:%Y-%m-%d %H:%M:%S} UTC, {age:.0f} s ago"


def _row(row: dict[str, views.JsonValue]) -> str:
    name = escape(str(row["name"]))
    reasons = row["reasons"]
    cause = row["sentence"] or "; ".join(map(str, reasons if isinstance(reasons, list) else []))
    cells: Iterable[str] = (
        f'<a href="/vm/{escape(str(row["id"]), quote=True)}">{name}</a>',
        escape(str(row["role"]).upper()),
        _verdict(str(row["verdict"])),
        escape(f"{row['state']}, agent {row['agent']}"),
        escape(str(cause or "")),
        escape(str(row["next"] or "")),
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _verdict(verdict: str) -> str:
    return f'<span class="{escape(verdict)}">{SHAPES.get(verdict, "?")} {escape(verdict)}</span>'


def _definition(key: str, value: views.JsonValue) -> str:
    if value is None or value in ("", [], {}):
        return ""
    return f"<dt>{escape(key.replace('_', ' '))}</dt><dd>{_value(value)}</dd>"


def _value(value: views.JsonValue) -> str:
    match value:
        case list():
            return "<br>".join(_value(item) for item in value)
        case dict():
            return escape(", ".join(f"{key}: {item}" for key, item in value.items()))
        case _:
            return escape(str(value))


def _document(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="refresh" content="10">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{body}</body></html>"
    )
