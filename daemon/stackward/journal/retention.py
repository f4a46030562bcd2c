"""What may be forgotten: by age and by number of rows, in batches so small that appends go on.

Never forgotten: any row of an open intent or of an open episode, the newest row of each target, and
the newest row of each kind (a demotion stands until a person clears it, however old it is).
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta

from stackward.journal.codec import moment_text

BATCH_ROWS = 500


@dataclass(frozen=True, slots=True)
class Retention:
    """How much is kept. `log_age`: how long what is known of a log whose VM is gone."""

    age: timedelta = timedelta(days=90)
    log_age: timedelta = timedelta(days=7)
    rows_max: int = 200_000


_PRUNE = """
DELETE FROM entries WHERE sequence IN (
    SELECT sequence FROM entries AS old
    WHERE (old.at < :before OR old.sequence <= :floor)
    AND (old.target_id IS NULL OR old.sequence <
        (SELECT max(sequence) FROM entries AS newer WHERE newer.target_id = old.target_id))
    AND old.sequence < (SELECT max(sequence) FROM entries AS newer WHERE newer.kind = old.kind)
    AND (old.intent_id IS NULL OR EXISTS
        (SELECT 1 FROM entries AS closing WHERE closing.intent_id = old.intent_id
            AND closing.kind IN ('outcome', 'would-have')))
    AND (old.episode_id IS NULL OR EXISTS
        (SELECT 1 FROM entries AS closing WHERE closing.episode_id = old.episode_id
            AND closing.kind = 'episode-closed'))
    ORDER BY old.sequence LIMIT :batch
)
"""


def prune_batch(connection: sqlite3.Connection, keep: Retention, now: datetime) -> int:
    """Forget one batch. Returns how many rows went; fewer than BATCH_ROWS: it is done."""
    (floor,) = connection.execute(
        "SELECT coalesce((SELECT sequence FROM entries"
        " ORDER BY sequence DESC LIMIT 1 OFFSET ?), 0)",
        (keep.rows_max,),
    ).fetchone()
    before = moment_text(now - keep.age)
    cursor = connection.execute(_PRUNE, {"before": before, "floor": floor, "batch": BATCH_ROWS})
    connection.execute("DELETE FROM logs WHERE saved_at < ?", (moment_text(now - keep.log_age),))
    return cursor.rowcount
