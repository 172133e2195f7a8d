"""That organisations pay for what their replicas held: intervals, hours, prices and the ledger say the same.

The checks of requests and of the books themselves run beside these; each kind of money is proved by itself.
"""

from django.db import connection

from kindling_billing.models import Proof
from kindling_billing.proofs import Check, books_prove
from kindling_platform.usage.proofs import usage_checks

MOST = 50
# Milliseconds are counted from the moment an engine was ready, as they are billed.
BILLED_MS = "floor(extract(epoch FROM interval.billed_until - interval.ready_at) * 1000)::bigint"
HOURS_AGAINST_INTERVALS = f"""
    WITH held AS (
        SELECT interval_id, sum(held_ms)::bigint AS milliseconds FROM deployments_gpuhour GROUP BY interval_id
    )
    SELECT interval.id, interval.organisation_id, coalesce(held.milliseconds, 0), coalesce({BILLED_MS}, 0)
    FROM deployments_replicainterval interval LEFT JOIN held ON held.interval_id = interval.id
    WHERE coalesce(held.milliseconds, 0) <> coalesce({BILLED_MS}, 0) ORDER BY 1
"""  # noqa: S608  # texts of ours only
# Each part again by the price that its version has in the book, which nobody can edit.
HOURS_AGAINST_PRICES = """
    WITH rated AS (
        SELECT hour.id, hour.organisation_id, hour.held_ms, hour.cost_picousd, hour.state,
            coalesce(sum(part.ms), 0) AS milliseconds, coalesce(sum(part.ms * version.gpu_ms_picousd), 0) AS amount
        FROM deployments_gpuhour hour
        LEFT JOIN LATERAL jsonb_to_recordset(hour.parts) AS part(version text, ms bigint) ON true
        LEFT JOIN billing_priceversion version ON version.id = part.version
        GROUP BY hour.id
    )
    SELECT id, organisation_id, cost_picousd, amount FROM rated
    WHERE cost_picousd <> amount OR milliseconds <> CASE state WHEN 'posted' THEN held_ms ELSE 0 END ORDER BY 1
"""
# Hour by hour, so that one that is too dear does not hide another that is missing.
HOURS_AGAINST_LEDGER = """
    WITH billed AS (
        SELECT interval_id || ':' || to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24') AS source_id,
            organisation_id AS owner_id, cost_picousd AS amount
        FROM deployments_gpuhour WHERE state = 'posted'
    ), posted AS (
        SELECT cause.source_id, account.owner_id, -sum(entry.amount_picousd) AS amount
        FROM billing_ledgertransaction cause
        JOIN billing_ledgerentry entry ON entry.transaction_id = cause.id
        JOIN billing_ledgeraccount account ON account.id = entry.account_id AND account.kind = 'wallet'
        WHERE cause.source_type = 'gpu_time' GROUP BY 1, 2
    )
    SELECT coalesce(billed.source_id, posted.source_id), coalesce(billed.owner_id, posted.owner_id),
        coalesce(billed.amount, 0), coalesce(posted.amount, 0)
    FROM billed FULL JOIN posted ON posted.source_id = billed.source_id AND posted.owner_id = billed.owner_id
    WHERE billed.amount IS DISTINCT FROM posted.amount ORDER BY 1
"""


def platform_prove() -> Proof:
    """Prove the books together with the requests and the machine time behind them."""
    return books_prove(more=usage_checks() | gpu_time_checks())


def gpu_time_checks() -> dict[str, Check]:
    """The checks of GPU time by name."""
    return {
        "GPU hours are their replicas' time": _time_check,
        "GPU hours cost their time at its price": _price_check,
        "GPU hours are the ledger's GPU time": _ledger_check,
    }


def _time_check() -> list[str]:
    sentence = "The hours of interval {0} of {1} sum to {2} ms, and it held {3} ms."
    return [sentence.format(*row) for row in _ask(HOURS_AGAINST_INTERVALS)]


def _price_check() -> list[str]:
    sentence = "GPU hour {0} of {1} costs {2}, its time at its prices {3}."
    return [sentence.format(*row) for row in _ask(HOURS_AGAINST_PRICES)]


def _ledger_check() -> list[str]:
    sentence = "GPU time {0} of {1} costs {2} by its row, and {3} by the ledger."
    return [sentence.format(*row) for row in _ask(HOURS_AGAINST_LEDGER)]


def _ask(query: str) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        rows: list[tuple[object, ...]] = cursor.fetchmany(MOST)
    return rows
