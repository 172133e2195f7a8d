"""That the usage people see is the usage they pay for: rows, hours and the ledger sum to the same."""

from django.db import connection

from kindling_billing.models import Proof
from kindling_billing.proof_queries import USAGE_POSTED
from kindling_billing.proofs import books_prove

MOST = 50
ROWS_AGAINST_LEDGER = f"""
    WITH used AS (
        SELECT organisation_id AS owner_id, sum(cost_picousd) AS amount FROM usage_usageevent GROUP BY 1
    ), posted AS ({USAGE_POSTED})
    SELECT coalesce(used.owner_id, posted.owner_id), coalesce(used.amount, 0), coalesce(posted.amount, 0)
    FROM used FULL JOIN posted ON posted.owner_id = used.owner_id
    WHERE coalesce(used.amount, 0) <> coalesce(posted.amount, 0)
"""  # noqa: S608  # texts of ours only
HOURS_AGAINST_ROWS = """
    WITH used AS (
        SELECT organisation_id AS owner_id, sum(cost_picousd) AS amount FROM usage_usageevent GROUP BY 1
    ), summed AS (
        SELECT organisation_id AS owner_id, sum(cost_picousd) AS amount FROM usage_usagehour GROUP BY 1
    )
    SELECT coalesce(used.owner_id, summed.owner_id), coalesce(summed.amount, 0), coalesce(used.amount, 0)
    FROM used FULL JOIN summed ON summed.owner_id = used.owner_id
    WHERE coalesce(used.amount, 0) <> coalesce(summed.amount, 0)
"""


def platform_prove() -> Proof:
    """Prove the books together with the usage rows behind them."""
    return books_prove(
        more={
            "usage rows are the ledger's usage": _rows_check,
            "hours are the sums of their rows": _hours_check,
        }
    )


def _rows_check() -> list[str]:
    sentence = "The requests of {0} cost {1} by their rows, and {2} by the ledger."
    return [sentence.format(*row) for row in _ask(ROWS_AGAINST_LEDGER)]


def _hours_check() -> list[str]:
    sentence = "The hours of {0} sum to {1}, their requests to {2}."
    return [sentence.format(*row) for row in _ask(HOURS_AGAINST_ROWS)]


def _ask(query: str) -> list[tuple[str, int, int]]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        rows: list[tuple[str, int, int]] = cursor.fetchmany(MOST)
    return rows
