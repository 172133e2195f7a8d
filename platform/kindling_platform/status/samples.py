"""Writes samples down: the newest state of each component, and a minute more of its day.

Both in one transaction, so that whoever dies leaves all of a sample or nothing. A minute counts once, by its first
sample: two samplers at once, or one that repeats itself, add nothing. After a clock was set back no minute counts until
it has passed the newest that does.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from kindling_platform.common.clock import now
from kindling_platform.common.purging import purged
from kindling_platform.status.components import DOWN, LIMITED, STARTING, UP, Seen
from kindling_platform.status.models import ComponentDay, ComponentState, Notice

# What was not looked at for longer begins anew: nobody knows what it was in between.
GAP = timedelta(minutes=5)
# As many days as the page shows, and one that is over in UTC only.
KEPT = timedelta(days=91)
NOTICES_KEPT = timedelta(days=365)
STEP_ROWS = 1000
COLUMNS = {UP: "up", LIMITED: "limited", STARTING: "down", DOWN: "down"}
STATES = f"""
    INSERT INTO {ComponentState._meta.db_table} AS known (key, state, note, since, checked_at)
    SELECT *, %(at)s, %(at)s FROM unnest(%(keys)s::text[], %(states)s::text[], %(notes)s::text[])
    ON CONFLICT (key) DO UPDATE SET
        since = CASE WHEN known.state = excluded.state AND known.checked_at >= %(gap)s
            THEN least(known.since, excluded.since) ELSE excluded.since END,
        state = excluded.state, note = excluded.note, checked_at = excluded.checked_at
"""  # noqa: S608  # ours
MINUTES = f"""
    INSERT INTO {ComponentDay._meta.db_table} AS known (key, day, up, limited, down, last_minute)
    SELECT key, %(day)s, (kind = 'up')::int, (kind = 'limited')::int, (kind = 'down')::int, %(minute)s
    FROM unnest(%(keys)s::text[], %(kinds)s::text[]) AS seen (key, kind)
    ON CONFLICT (key, day) DO UPDATE SET
        up = known.up + excluded.up, limited = known.limited + excluded.limited, down = known.down + excluded.down,
        last_minute = excluded.last_minute
    WHERE known.last_minute < excluded.last_minute
"""  # noqa: S608  # ours


@transaction.atomic
def samples_keep(seen: Iterable[Seen], *, at: datetime) -> None:
    """Keep what a look at the components found at a moment."""
    # In the order of their keys, so that two who do so never wait for each other.
    rows = sorted({one.key: one for one in seen}.values(), key=lambda one: one.key)
    _run(STATES, rows, at=at, gap=at - GAP)
    _run(MINUTES, rows, minute=at.replace(second=0, microsecond=0), day=at.date())


def status_purge() -> int:
    """Delete a step of what is older than the page shows, and of notices that ended a year ago; gives their number."""
    oldest = now() - KEPT
    ended = Notice.objects.filter(ends_at__lt=now() - NOTICES_KEPT)
    return (
        purged(ComponentDay.objects.filter(day__lt=oldest.date()), limit=STEP_ROWS, batches=1)
        + purged(ComponentState.objects.filter(checked_at__lt=oldest), limit=STEP_ROWS, batches=1)
        + purged(ended, limit=STEP_ROWS, batches=1)
    )


def _run(statement: str, rows: Sequence[Seen], **values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            statement,
            values
            | {
                "keys": [one.key for one in rows],
                "states": [one.state for one in rows],
                "notes": [one.note[:200] for one in rows],
                "kinds": [COLUMNS[one.state] for one in rows],
            },
        )
