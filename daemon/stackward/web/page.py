"""The page for people: what is wrong first, then every VM by zone. Plain HTML, no scripts.

Everything that comes from outside is escaped. Verdicts are words and shapes, not colours alone.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from itertools import groupby
from urllib.parse import quote

from stackward.core.explain import DecisionKind, DecisionTaken, Explanation, explain_target
from stackward.core.snapshot import Snapshot
from stackward.core.state import FleetView
from stackward.model.diagnosis import Diagnosis
from stackward.model.health import Overall
from stackward.model.plan import Mode
from stackward.web import views

STYLE = """
:root { color-scheme: light dark; --line: #8883; --soft: #8881; --good: #1a7f37; --bad: #cf222e; --dim: #8a6d00; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #ff7b72; --dim: #d29922; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 1.2rem auto 3rem; padding: 0 1rem; }
header { display: flex; flex-wrap: wrap; gap: 0 1.2rem; align-items: baseline; }
h1 { font-size: 1.3rem; margin: 0; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
nav a { margin-right: 1rem; } a { color: inherit; } p { margin: .3rem 0; overflow-wrap: anywhere; }
.sum { font-size: 1.15rem; margin: .6rem 0; }
.passed { color: var(--good); } .failed { color: var(--bad); font-weight: 600; } .unknown { color: var(--dim); }
.passed, .failed, .unknown { white-space: nowrap; }
.card { border-left: 4px solid var(--bad); padding: .4rem .9rem; margin: .6rem 0; background: var(--soft); }
.card.unknown-edge { border-color: var(--dim); } .card h3 { font-size: 1rem; margin: 0; }
.quiet { opacity: .75; font-size: .9rem; } .never { font-weight: 600; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 600; font-size: .85rem; opacity: .75; white-space: nowrap; } td.tight { white-space: nowrap; }
.fleet { table-layout: fixed; } .fleet th:nth-child(1) { width: 7rem; } .fleet th:nth-child(2) { width: 9rem; }
.fleet th:nth-child(3) { width: 4rem; } .fleet th:nth-child(4) { width: 10rem; } .fleet th:nth-child(5) { width: 15rem; }
code { font-size: .95em; background: var(--soft); padding: 0 .2em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .35rem 1.2rem; margin: .8rem 0; }
dt { font-weight: 600; } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 45rem) {
  dl { display: block; } dd { margin-bottom: .5rem; }
  thead { display: none; } tr { display: block; padding: .4rem 0; border-bottom: 1px solid var(--line); }
  td { display: inline; border: 0; padding-right: .8rem; } td.wide { display: block; }
}
""".strip()  # noqa: E501  a style sheet reads best one rule a line

TIMELINE_SHOWN = 20
SHAPES = {Overall.PASSED.value: "●", Overall.FAILED.value: "▲", Overall.UNKNOWN.value: "?"}
WILL = {
    Mode.ACT: "The daemon does",
    Mode.ADVISE: "The daemon only advises; it would do",
    Mode.OBSERVE: "The daemon only observes; it would do",
}

Row = views.Json

EMPTY = (
    "CloudStack lists no system VM at all. A zone in use has two: the API user may not be allowed "
    "to see them."
)


def fleet(snapshot: Snapshot, now: datetime) -> str:
    """The front page."""
    rows = [views.vm_row(snapshot, state) for state in views.ordered(snapshot.fleet)]
    parts = [
        "<header><h1>stackward</h1>",
        _nav(
            ("metrics", "/metrics"),
            ("status", "/api/v1/status"),
            ("plan", "/api/v1/plan"),
            ("journal", "/api/v1/journal"),
        ),
        "</header>",
        _summary(rows),
        _age(snapshot, now),
    ]
    if views.is_empty(snapshot):
        parts.append(_notice(EMPTY))
    parts.extend(_notice(text) for text in _notices(snapshot.fleet, now))
    parts.extend(_notice(text) for text in _log_notices(snapshot.fleet, now))
    parts.extend(_fleet_cause(snapshot, one, now) for one in snapshot.fleet_diagnoses)
    first = sorted((row for row in rows if not row["suppressed_by"]), key=views.urgency)
    parts.extend(_card(row, now) for row in first if row["diagnosis"] or row["verdict"] != "passed")
    switched_off = {zone.name for zone in snapshot.fleet.zones.values() if zone.is_enabled is False}
    for zone, members in groupby(rows, key=lambda row: str(row["zone"])):
        disabled = ' <span class="quiet">disabled</span>' if zone in switched_off else ""
        parts.append(f"<h2>Zone {escape(zone)}{disabled}</h2>")
        parts.append(
            '<table class="fleet"><thead><tr><th>Verdict</th><th>VM</th><th>Role</th><th>On</th>'
            "<th>CloudStack says</th><th>What else is known</th></tr></thead><tbody>"
        )
        parts.extend(_row(member) for member in members)
        parts.append("</tbody></table>")
    return _document("stackward", "".join(parts))


def vm(snapshot: Snapshot, now: datetime, name: str) -> str | None:
    """One VM, explained; None if there is no such VM."""
    target_id = views.find(snapshot, name)
    explained = explain_target(snapshot, target_id) if target_id is not None else None
    if explained is None:
        return None
    parts = [
        f"<header><h1>{_verdict(explained.verdict.value)} {escape(explained.name)}</h1>",
        _nav(
            ("all VMs", "/"),
            ("its journal", f"/api/v1/journal?target={quote(explained.target_id, safe='')}"),
            ("as JSON", f"/api/v1/vms/{quote(explained.target_id, safe='')}"),
        ),
        "</header>",
        f'<p class="sum">{escape(explained.sentence)}</p>',
        "<dl>",
        *(_definition(term, text) for term, text in _told(explained, now)),
        "</dl>",
        "<h2>Who says what</h2>",
        _evidence(explained),
        _timeline(explained),
        _age(snapshot, now),
    ]
    return _document(f"{explained.name}: stackward", "".join(parts))


def starting() -> str:
    """Before the first round."""
    return _document("stackward", "<h1>stackward</h1><p>Starting: no round was completed yet.</p>")


def not_found() -> str:
    """For a name that leads nowhere."""
    return _document("stackward", '<h1>No such VM</h1><p><a href="/">all VMs</a></p>')


# --- the front page -------------------------------------------------------------------------------


def _summary(rows: Sequence[Row]) -> str:
    if not rows:
        return '<p class="sum">No system VM is known yet.</p>'
    counts = [
        (verdict, sum(row["verdict"] == verdict for row in rows)) for verdict in views.WORST_FIRST
    ]
    words = ", ".join(
        f'<span class="{verdict}">{SHAPES[verdict]} {count} {verdict}</span>'
        for verdict, count in counts
        if count
    )
    return f'<p class="sum">{len(rows)} system VMs: {words}</p>'


def _notices(fleet: FleetView, now: datetime) -> Iterable[str]:
    if fleet.pause_reason is not None:
        yield f"Paused, nothing is done: {fleet.pause_reason}"
    if fleet.demotion is not None:
        yield f"Only advising after a broken promise: {fleet.demotion}"
    if fleet.journal_trouble:
        yield f"The journal cannot be written, nothing is done: {fleet.journal_trouble}"
    for source, memory in fleet.sources.items():
        if not memory.is_up:
            yield (
                f"The {source.value} has not answered for {_since(memory.since, now)}: "
                f"{memory.detail}"
            )


def _log_notices(fleet: FleetView, now: datetime) -> Iterable[str]:
    for log in fleet.management_logs.values():
        if not log.is_followed and log.since is not None:
            yield (
                f"The log of {log.name} is not followed for {_since(log.since, now)}: {log.detail}"
            )


def _notice(text: str) -> str:
    return f'<p class="card">{escape(text)}</p>'


def _fleet_cause(snapshot: Snapshot, cause: Diagnosis, now: datetime) -> str:
    advice = [
        call.advice
        for call in snapshot.plan.escalations
        if call.diagnosis is cause.code and call.subject == cause.subject
    ]
    to_do = f"<p><b>What to do:</b> {_prose(advice[0])}</p>" if advice else ""
    return (
        f'<div class="card"><h3>{escape(cause.code.value)} '
        f'<span class="quiet">for {_since(cause.since, now)}</span></h3>'
        f"<p>{escape(cause.sentence)}</p>{to_do}</div>"
    )


def _card(row: Row, now: datetime) -> str:
    since = row["since"]
    age = f" for {_since(datetime.fromisoformat(str(since)), now)}" if since else ""
    told = f"{row['role']}".upper() + f", zone {row['zone']}{age}"
    edge = "card" if row["verdict"] == "failed" else "card unknown-edge"
    following = f"<p><b>Next:</b> {_prose(str(row['next']))}</p>" if row["next"] else ""
    return (
        f'<div class="{edge}"><h3>{_verdict(str(row["verdict"]))} {_link(row)} '
        f'<span class="quiet">{escape(told)}</span></h3>'
        f"<p>{escape(views.said(row))}</p>{following}</div>"
    )


def _row(row: Row) -> str:
    return (
        f'<tr><td class="tight">{_verdict(str(row["verdict"]))}</td>'
        f'<td class="tight">{_link(row)}</td>'
        f"<td>{escape(str(row['role']).upper())}</td>"
        f"<td>{escape(str(row['host'] or ''))}</td>"
        f"<td>{escape(str(row['state']))}, agent {escape(str(row['agent']))}</td>"
        f'<td class="wide">{escape(_in_short(row))}</td></tr>'
    )


def _link(row: Row) -> str:
    return f'<a href="/vm/{quote(str(row["id"]), safe="")}">{escape(str(row["name"]))}</a>'


def _in_short(row: Row) -> str:
    """For the table: the sentence stands above, or concerns many."""
    if row["suppressed_by"]:
        return f"{row['diagnosis']}, taken for a symptom of {row['suppressed_by']}"
    if row["diagnosis"]:
        return str(row["diagnosis"])
    return views.said(row) if row["verdict"] == "passed" else "no cause is sure yet"


# --- the page of one VM ---------------------------------------------------------------------------


def _told(explained: Explanation, now: datetime) -> Iterable[tuple[str, str]]:
    since = explained.since
    yield (
        "Place",
        ", ".join(
            word
            for word in (
                explained.role,
                f"zone {explained.zone}",
                f"on {explained.host}" if explained.host else "on no host",
            )
            if word
        ),
    )
    yield "Since", f"{since:%Y-%m-%d %H:%M:%S} UTC, for {_since(since, now)}" if since else ""
    yield "Wider cause", explained.wider_cause or ""
    yield "Where it lies", explained.logs.sentence if explained.logs is not None else ""
    yield "Silence", explained.silence
    yield "What follows", explained.follows
    yield "What to do", explained.advice
    yield "What not to do", explained.never
    yield "Now", _decision(explained.decision)
    for attempt in explained.tried:
        yield "Tried", attempt
    for cause in explained.causes:
        yield "Also", cause
    if explained.diagnosis is None:
        for reason in explained.reasons:
            yield "Because", reason


def _decision(decision: DecisionTaken) -> str:
    action = decision.action.value if decision.action else ""
    until = f" (until {decision.until:%H:%M:%S} UTC)" if decision.until else ""
    match decision.kind:
        case DecisionKind.STEP:
            verb = WILL[decision.mode or Mode.OBSERVE]
            return f"{verb} {action}: {decision.reason}"
        case DecisionKind.HOLD:
            held = f"{action} is held" if action else "Nothing is done"
            return f"{held}: {decision.reason}{until}"
        case DecisionKind.ESCALATION:
            return "A person is called; nothing is done by itself."
        case DecisionKind.NONE:
            return f"{decision.reason[:1].upper()}{decision.reason[1:]}."


def _evidence(explained: Explanation) -> str:
    lines = sorted(explained.evidence, key=lambda line: views.WORST_FIRST[line.verdict.value])
    if not lines:
        return "<p>Nobody has said anything yet.</p>"
    cells = "".join(
        f'<tr><td class="tight">{_verdict(line.verdict.value)}</td>'
        f"<td>{escape(line.witness.value)}</td>"
        f'<td class="tight">{escape(line.probe.value)}</td>'
        f'<td class="tight">{views.spoken(line.age.total_seconds())} ago'
        f"{', too old' if line.is_stale else ''}</td>"
        f'<td class="wide">{escape(line.text)}'
        f"{f' ({line.count} times)' if line.verdict is Overall.FAILED else ''}</td></tr>"
        for line in lines
    )
    return (
        "<table><thead><tr><th>Verdict</th><th>Witness</th><th>Probe</th><th>Asked</th>"
        f"<th>What it says</th></tr></thead><tbody>{cells}</tbody></table>"
    )


def _timeline(explained: Explanation) -> str:
    """The newest lines of both logs; those that decide where it lies are marked."""
    told = explained.logs
    if told is None or not told.timeline:
        return ""
    lines = told.timeline[-TIMELINE_SHOWN:]
    first = tuple(line for line in told.evidence if line not in lines)
    rows = "".join(
        f'<tr><td class="tight">{line.at:%Y-%m-%d %H:%M:%S}</td>'
        f'<td class="tight">{escape(line.log or explained.name)}</td>'
        f'<td class="wide">{"<b>" if line in told.evidence else ""}{escape(line.text)}'
        f"{'</b>' if line in told.evidence else ''}"
        f"{f' ({line.times} times)' if line.times > 1 else ''}</td></tr>"
        for line in (*first, *lines)
    )
    notes = "".join(f'<p class="quiet">{escape(note)}</p>' for note in told.notes)
    return (
        "<h2>What the logs say</h2><table><thead><tr><th>When (UTC)</th><th>Log</th>"
        f"<th>Line</th></tr></thead><tbody>{rows}</tbody></table>{notes}"
    )


# --- both -----------------------------------------------------------------------------------------


def _nav(*links: tuple[str, str]) -> str:
    anchors = "".join(f'<a href="{escape(to)}">{escape(word)}</a>' for word, to in links)
    return f"<nav>{anchors}</nav>"


def _age(snapshot: Snapshot, now: datetime) -> str:
    text = (
        f"mode {snapshot.policy.mode.value}, round {snapshot.round_number}, "
        f"{_since(snapshot.taken_at, now)} ago ({snapshot.taken_at:%Y-%m-%d %H:%M:%S} UTC)"
    )
    return f'<p class="quiet">{escape(text)}</p>'


def _since(moment: datetime, now: datetime) -> str:
    return views.spoken((now - moment).total_seconds())


def _verdict(verdict: str) -> str:
    return f'<span class="{escape(verdict)}">{SHAPES.get(verdict, "?")} {escape(verdict)}</span>'


def _prose(text: str) -> str:
    """Sentences; what stands in backticks there is to be typed."""
    parts = escape(text).split("`")
    if len(parts) % 2 == 0:
        return "`".join(parts)
    return "".join(f"<code>{part}</code>" if odd % 2 else part for odd, part in enumerate(parts))


def _definition(term: str, text: str) -> str:
    return f"<dt>{escape(term)}</dt><dd>{_prose(text)}</dd>" if text else ""


def _document(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="refresh" content="10">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{body}</body></html>"
    )
