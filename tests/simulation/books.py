"""The bookkeeping of the crash test: the cloud's own ledger beside the daemon's journal. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One journal row, as far as it counts here."""

    sequence: int
    kind: str
    vm: str | None
    intent_id: str | None
    action: str | None
    outcome: str | None


@dataclass(frozen=True, slots=True)
class Request:
    """One request that reached the cloud, and the intent that stood begun on disk at that moment.

    `intent_id` None: no BEGUN row of this VM and action was on disk. `is_executed` False: the cloud
    turned it away.
    """

    vm: str
    action: str
    intent_id: str | None
    is_executed: bool = True


def intent_behind(vm: str, action: str, rows: Sequence[Row]) -> str | None:
    """Whose request this is: the newest intent of the VM that had begun. `rows` as on disk then."""
    begun = [row for row in rows if row.vm == vm and row.kind == "begun"]
    return begun[-1].intent_id if begun and begun[-1].action == action else None


def open_intents(rows: Iterable[Row]) -> dict[str, str]:
    """Intents without an outcome, and the last thing that happened to each."""
    found: dict[str, str] = {}
    for row in rows:
        if row.intent_id is None:
            continue
        if row.kind in ("outcome", "would-have"):
            found.pop(row.intent_id, None)
        else:
            found[row.intent_id] = row.kind
    return found


def faults_in_the_books(requests: Sequence[Request], rows: Sequence[Row]) -> list[str]:
    """Every way in which the two do not agree; empty when all is well."""
    count: Counter[tuple[str, str]] = Counter(
        (row.intent_id, row.kind) for row in rows if row.intent_id is not None
    )
    intents = [row for row in rows if row.kind == "intent"]
    known = {row.intent_id for row in intents}
    faults = [
        f"{request.action} of {request.vm} was asked for and no BEGUN row of it was on disk"
        for request in requests
        if request.intent_id is None
    ]
    asked = Counter(request.intent_id for request in requests if request.intent_id is not None)
    faults += [
        f"intent {intent_id} was asked for {times} times"
        for intent_id, times in asked.items()
        if times > 1
    ]
    for row in intents:
        assert row.intent_id is not None
        for kind, least in (("intent", 1), ("begun", 0), ("accepted", 0), ("outcome", 1)):
            if not least <= count[row.intent_id, kind] <= 1:
                faults.append(
                    f"intent {row.intent_id} has {count[row.intent_id, kind]} rows of kind {kind}"
                )
    faults += [f"a row of no intent: {one}" for one, _ in count if one not in known]
    begun = sum(row.kind == "begun" for row in rows)
    if len(requests) > begun:
        faults.append(f"{len(requests)} requests and {begun} BEGUN rows")
    done = {request.intent_id for request in requests if request.is_executed}
    faults += [
        f"intent {row.intent_id} was done and calls itself withdrawn"
        for row in rows
        if row.outcome == "withdrawn" and row.intent_id in done
    ]
    return faults
