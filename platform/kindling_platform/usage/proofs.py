"""That the usage people see is the usage they pay for: rows, roll-ups and the ledger sum to the same.

Over all time by organisation, and of the last weeks by organisation and day, every roll-up and every column.
"""

from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from kindling_billing.proof_queries import USAGE_POSTED
from kindling_billing.proofs import Check
from kindling_platform.common.clock import now
from kindling_platform.usage.rollups import FACETS
from kindling_platform.usage.steps import day_floor

MOST = 50
# Two months and some: whatever an invoice that is still open can hold. Days whose requests were deleted are left out.
BY_DAY = timedelta(days=65)
# With what was deleted because it was old.
USED = """SELECT organisation_id AS owner_id, sum(cost_picousd) AS amount FROM (
        SELECT organisation_id, cost_picousd FROM usage_usageevent
        UNION ALL SELECT organisation_id, cost_picousd FROM usage_retiredusage) spent GROUP BY 1"""
ROWS_AGAINST_LEDGER = f"""
    WITH used AS (
        {USED}
    ), posted AS ({USAGE_POSTED})
    SELECT coalesce(used.owner_id, posted.owner_id), coalesce(used.amount, 0), coalesce(posted.amount, 0)
    FROM used FULL JOIN posted ON posted.owner_id = used.owner_id
    WHERE coalesce(used.amount, 0) <> coalesce(posted.amount, 0)
"""  # noqa: S608  # texts of ours only
HOURS_AGAINST_ROWS = f"""
    WITH used AS (
        {USED}
    ), summed AS (
        SELECT organisation_id AS owner_id, sum(cost_picousd) AS amount FROM usage_usagehour GROUP BY 1
    )
    SELECT coalesce(used.owner_id, summed.owner_id), coalesce(summed.amount, 0), coalesce(used.amount, 0)
    FROM used FULL JOIN summed ON summed.owner_id = used.owner_id
    WHERE coalesce(used.amount, 0) <> coalesce(summed.amount, 0)
"""  # noqa: S608  # texts of ours only
COLUMNS = ("requests", "failed", "prompt_tokens", "cached_tokens", "completion_tokens", "cost_picousd")
ADDED = ", ".join(f"sum({column}) AS {column}" for column in COLUMNS)
KINDS = ("hours", "days", *(f"{name} {facet}" for name in ("series", "days of") for facet in FACETS))
ROLLUPS_AGAINST_ROWS = f"""
    WITH used AS (
        SELECT organisation_id AS owner_id, date_trunc('day', finished_at, 'UTC') AS day, count(*) AS requests,
            count(*) FILTER (WHERE NOT billable) AS failed, sum(prompt_tokens) AS prompt_tokens,
            sum(cached_tokens) AS cached_tokens, sum(completion_tokens) AS completion_tokens,
            sum(cost_picousd) AS cost_picousd
        FROM usage_usageevent WHERE finished_at >= %(start)s GROUP BY 1, 2
    ), summed AS (
        SELECT 'hours' AS kind, organisation_id AS owner_id, date_trunc('day', hour, 'UTC') AS day, {ADDED}
        FROM usage_usagehour WHERE hour >= %(start)s GROUP BY 1, 2, 3
        UNION ALL SELECT 'days', organisation_id, day, {ADDED}
        FROM usage_usageday WHERE day >= %(start)s GROUP BY 1, 2, 3
        UNION ALL SELECT 'series ' || facet, organisation_id, date_trunc('day', step, 'UTC'), {ADDED}
        FROM usage_usageseries WHERE step >= %(start)s GROUP BY 1, 2, 3
        UNION ALL SELECT 'days of ' || facet, organisation_id, day, {ADDED}
        FROM usage_usageseriesday WHERE day >= %(start)s GROUP BY 1, 2, 3
        UNION ALL SELECT kind, owner_id, day, {", ".join(f"-{column}" for column in COLUMNS)}
        FROM used, unnest(%(kinds)s::text[]) kind
    )
    SELECT owner_id, to_char(day AT TIME ZONE 'UTC', 'YYYY-MM-DD'), kind, sum(requests), sum(cost_picousd)
    FROM summed WHERE NOT EXISTS (
        SELECT FROM usage_retiredusage retired
        WHERE retired.organisation_id = owner_id AND retired.day = (summed.day AT TIME ZONE 'UTC')::date)
    GROUP BY owner_id, day, kind
    HAVING {" OR ".join(f"sum({column}) <> 0" for column in COLUMNS)} ORDER BY 1, 2, 3
"""  # noqa: S608  # texts of ours only
# A charge is posted when it is known, which may be much later than the day that it is of.
DAYS_AGAINST_LEDGER = """
    WITH used AS (
        SELECT request_id::text AS request_id, organisation_id AS owner_id,
            date_trunc('day', finished_at, 'UTC') AS day, cost_picousd
        FROM usage_usageevent WHERE finished_at >= %(start)s
    ), posted AS (
        SELECT split_part(cause.source_id, ':', 1) AS request_id, account.owner_id, -sum(entry.amount_picousd) AS amount
        FROM billing_ledgertransaction cause
        JOIN billing_ledgerentry entry ON entry.transaction_id = cause.id
        JOIN billing_ledgeraccount account ON account.id = entry.account_id AND account.kind = 'wallet'
        WHERE cause.source_type IN ('usage', 'usage_reversal') AND cause.posted_at >= %(start)s - interval '2 days'
        GROUP BY 1, 2
    )
    SELECT used.owner_id, to_char(day AT TIME ZONE 'UTC', 'YYYY-MM-DD'), sum(cost_picousd), sum(coalesce(amount, 0))
    FROM used LEFT JOIN posted ON posted.request_id = used.request_id AND posted.owner_id = used.owner_id
    GROUP BY used.owner_id, day HAVING sum(cost_picousd) <> sum(coalesce(amount, 0)) ORDER BY 1, 2
"""


def usage_checks() -> dict[str, Check]:
    """The checks of requests by name, for the proof of the books."""
    start = day_floor(now() - BY_DAY)
    return {
        "usage rows are the ledger's usage": _rows_check,
        "hours are the sums of their rows": _hours_check,
        "days' roll-ups are the sums of their rows": lambda: _rollups_check(start),
        "days' rows are the ledger's usage": lambda: _days_check(start),
    }


def _rows_check() -> list[str]:
    sentence = "The requests of {0} cost {1} by their rows, and {2} by the ledger."
    return [sentence.format(*row) for row in _ask(ROWS_AGAINST_LEDGER)]


def _hours_check() -> list[str]:
    sentence = "The hours of {0} sum to {1}, their requests to {2}."
    return [sentence.format(*row) for row in _ask(HOURS_AGAINST_ROWS)]


def _rollups_check(start: datetime) -> list[str]:
    sentence = "Of {0} on {1}, the roll-up {2} holds {3} requests and {4} more than its rows."
    return [sentence.format(*row) for row in _ask(ROLLUPS_AGAINST_ROWS, start=start, kinds=list(KINDS))]


def _days_check(start: datetime) -> list[str]:
    sentence = "The requests of {0} on {1} cost {2} by their rows, and {3} by the ledger."
    return [sentence.format(*row) for row in _ask(DAYS_AGAINST_LEDGER, start=start)]


def _ask(query: str, **values: Any) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, values or None)
        rows: list[tuple[object, ...]] = cursor.fetchmany(MOST)
    return rows
