"""What the operator of the bench looks at beside its large customer: other organisations, the ledger, the audit log."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from kindling_billing.models import LedgerAccount
from kindling_platform.accounts.models import Organisation, User
from kindling_platform.accounts.services import operator_ensure
from kindling_platform.embedded.bench_usage.company import CHUNK, DAYS, Company

ORGANISATIONS, EVENTS = 2_000, 100_000
# Two minutes of writing; a page that reads all lines of a ledger is told from others by that many.
MOST_POSTED = 1_000_000
# A request's number is the end of its id, in hexadecimal digits.
TRANSACTIONS = """
    INSERT INTO billing_ledgertransaction (id, source_type, source_id, memo, data, posted_at)
    SELECT 'ltx_bench' || right(request_id::text, 12), 'usage', request_id::text, 'Usage of bench', '{}', finished_at
    FROM usage_usageevent WHERE request_id >= %(first)s::uuid AND request_id < %(behind)s::uuid
"""
ENTRIES = """
    INSERT INTO billing_ledgerentry (transaction_id, account_id, amount_picousd)
    SELECT 'ltx_bench' || right(request_id::text, 12), side.account_id, side.sign * cost_picousd
    FROM usage_usageevent
    CROSS JOIN (VALUES (%(wallet)s, -1), (%(revenue)s, 1)) AS side (account_id, sign)
    WHERE request_id >= %(first)s::uuid AND request_id < %(behind)s::uuid
"""
BALANCES = """
    UPDATE billing_ledgeraccount AS account SET balance_picousd = entries.total, version = version + entries.moved
    FROM (
        SELECT account_id, sum(amount_picousd) AS total, count(*) AS moved FROM billing_ledgerentry GROUP BY 1
    ) entries
    WHERE entries.account_id = account.id
"""
AUDIT = """
    INSERT INTO audit_auditevent (id, organisation_id, actor_id, actor_label, ip, request_id, action, target, data,
        created_at)
    SELECT 'aud_bench' || lpad(n::text, 12, '0'), %(org)s, '', 'somebody', NULL, '',
        CASE WHEN n %% 10 = 0 THEN 'price.published' ELSE 'key.created' END, 'key_' || n, '{}',
        %(end)s::timestamptz - n * interval '1 minute'
    FROM generate_series(1, %(events)s) n
"""
LEDGER = ("billing_ledgertransaction", "billing_ledgerentry", "billing_ledgeraccount")


def installation_make(company: Company, *, count: int, end: datetime, say: Callable[[float], None]) -> User:
    """The ledger of a customer's `count` requests, a million at most, and what else there is; gives whoever runs it."""
    count = min(count, MOST_POSTED)
    operator, _ = operator_ensure(email="operator@example.com")
    Organisation.objects.bulk_create(
        Organisation(slug=f"bench-{number}", name=f"Organisation {number}") for number in range(ORGANISATIONS)
    )
    wallet, _ = LedgerAccount.objects.get_or_create(kind="wallet", owner_id=company.org.id)
    revenue, _ = LedgerAccount.objects.get_or_create(kind="revenue", owner_id="")
    values: dict[str, Any] = {"wallet": wallet.id, "revenue": revenue.id}
    with transaction.atomic(), connection.cursor() as cursor:
        for first in range(0, count, CHUNK):
            behind = min(first + CHUNK, count)
            bounds = {"first": _request_id(first), "behind": _request_id(behind)}
            cursor.execute(TRANSACTIONS, bounds)
            cursor.execute(ENTRIES, values | bounds)
            say(behind / count)
        cursor.execute(BALANCES)
        cursor.execute(AUDIT, {"org": company.org.id, "events": EVENTS, "end": end - timedelta(days=DAYS)})
    return operator


def _request_id(number: int) -> str:
    return f"00000000-0000-7000-8000-{number:012x}"
