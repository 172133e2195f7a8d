"""What the ledger moved besides requests, by hour, day or month: money in and out, credit given, fees, losses."""

from dataclasses import dataclass, fields
from datetime import UTC, datetime

from django.db import connection

STEPS = {"hour", "day", "month"}
# (field, cause, account, sign): the entries that make up each figure; the sign makes the usual case positive.
FIGURES: tuple[tuple[str, str, str, int], ...] = (
    ("received", "payment", "stripe_clearing", -1),
    ("refunded", "refund", "stripe_clearing", 1),
    ("refunded", "refund_returned", "stripe_clearing", 1),
    ("disputed", "dispute", "stripe_clearing", 1),
    ("disputed", "dispute_closed", "stripe_clearing", 1),
    ("granted", "credit", "promo", -1),
    ("granted", "expiry", "promo", -1),
    ("expired", "expiry", "revenue", 1),
    ("invoiced", "invoice", "receivable", -1),
    ("given_up", "write_off", "bad_debt", -1),
    ("given_up", "payment", "bad_debt", -1),
    ("fees", "settlement", "stripe_fees", -1),
    ("taxed", "payment", "tax", 1),
    ("taxed", "invoice", "tax", 1),
    ("taxed", "refund", "tax", 1),
    ("taxed", "refund_returned", "tax", 1),
    ("taxed", "dispute_closed", "tax", 1),
    ("gpu_time", "gpu_time", "revenue", 1),
)
QUERY = """
    SELECT date_trunc(%s, cause.posted_at, 'UTC'), cause.source_type, account.kind, sum(entry.amount_picousd)
    FROM billing_ledgertransaction cause
    JOIN billing_ledgerentry entry ON entry.transaction_id = cause.id
    JOIN billing_ledgeraccount account ON account.id = entry.account_id
    WHERE cause.source_type = ANY(%s) AND cause.posted_at >= %s AND cause.posted_at < %s
    GROUP BY 1, 2, 3
"""


@dataclass(slots=True)
class Takings:
    """The movements of one hour, day or month, in pico-dollars; fees and losses are above zero when they cost us.

    `gpu_time` is what the replicas of organisations' own deployments were charged, `granted` credit that was given less
    what of it expired, `expired` bought credit that nobody used in time, `disputed` what banks took back less what they
    returned.
    """

    received: int = 0
    refunded: int = 0
    disputed: int = 0
    granted: int = 0
    expired: int = 0
    invoiced: int = 0
    given_up: int = 0
    fees: int = 0
    taxed: int = 0
    gpu_time: int = 0

    def add(self, other: "Takings") -> None:
        """Add another's figures to these."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


def takings_over_time(*, start: datetime, end: datetime, step: str) -> dict[datetime, Takings]:
    """The movements of every hour, day or month (UTC) that had any."""
    if step not in STEPS:
        raise ValueError(step)
    causes = sorted({cause for _, cause, _, _ in FIGURES})
    with connection.cursor() as cursor:
        cursor.execute(QUERY, [step, causes, start, end])
        rows = cursor.fetchall()
    found: dict[datetime, Takings] = {}
    for moment, cause, account, amount in rows:
        takings = found.setdefault(moment.astimezone(UTC), Takings())
        for name, of_cause, of_account, sign in FIGURES:
            if (cause, account) == (of_cause, of_account):
                setattr(takings, name, getattr(takings, name) + sign * int(amount))
    return found
