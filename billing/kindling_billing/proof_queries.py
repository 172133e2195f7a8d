"""What must find nothing in sound books: a name, the sentence for a row that was found, and the query."""

USAGE_POSTED = """
    SELECT account.owner_id, -sum(entry.amount_picousd) AS amount
    FROM billing_ledgerentry entry
    JOIN billing_ledgertransaction cause ON cause.id = entry.transaction_id
    JOIN billing_ledgeraccount account ON account.id = entry.account_id
    WHERE account.kind = 'wallet' AND cause.source_type IN ('usage', 'usage_reversal') GROUP BY account.owner_id
"""

# Beside USAGE_POSTED, which is of requests alone: what the time of replicas was charged.
GPU_TIME_POSTED = """
    SELECT account.owner_id, -sum(entry.amount_picousd) AS amount
    FROM billing_ledgerentry entry
    JOIN billing_ledgertransaction cause ON cause.id = entry.transaction_id
    JOIN billing_ledgeraccount account ON account.id = entry.account_id
    WHERE account.kind = 'wallet' AND cause.source_type = 'gpu_time' GROUP BY account.owner_id
"""

CHECKS: tuple[tuple[str, str, str], ...] = (
    (
        "every transaction sums to zero",
        "Transaction {0} sums to {1}.",
        """
        SELECT transaction_id, sum(amount_picousd) FROM billing_ledgerentry
        GROUP BY transaction_id HAVING sum(amount_picousd) <> 0
        """,
    ),
    (
        "entries name what is there",
        "Entry {0} names transaction {1} and account {2}, of which one is missing.",
        """
        SELECT entry.id, entry.transaction_id, entry.account_id FROM billing_ledgerentry entry
        LEFT JOIN billing_ledgertransaction cause ON cause.id = entry.transaction_id
        LEFT JOIN billing_ledgeraccount account ON account.id = entry.account_id
        WHERE cause.id IS NULL OR account.id IS NULL
        """,
    ),
    (
        "balances are the sums of their entries",
        "The balance of {0} {1} is {2} more than its entries.",
        """
        SELECT account.kind, account.owner_id, account.balance_picousd - coalesce(sum(entry.amount_picousd), 0)
        FROM billing_ledgeraccount account LEFT JOIN billing_ledgerentry entry ON entry.account_id = account.id
        GROUP BY account.id HAVING account.balance_picousd <> coalesce(sum(entry.amount_picousd), 0)
        """,
    ),
    (
        "portions of credit are the wallet",
        "The portions of {0} sum to {1}, and the wallet holds {2}.",
        """
        SELECT account.owner_id, coalesce(sum(portion.remaining_picousd), 0), greatest(account.balance_picousd, 0)
        FROM billing_ledgeraccount account LEFT JOIN billing_creditgrant portion ON portion.owner_id = account.owner_id
        WHERE account.kind = 'wallet' GROUP BY account.id
        HAVING coalesce(sum(portion.remaining_picousd), 0) <> greatest(account.balance_picousd, 0)
        """,
    ),
    (
        "months' totals are the ledger's usage",
        "The usage of {0} sums to {1} in the months, and to {2} in the ledger.",
        f"""
        WITH posted AS ({USAGE_POSTED}),
        totalled AS (
            SELECT owner_id, sum(amount_picousd) AS amount FROM billing_usagetotal
            WHERE unit <> 'gpu_ms' GROUP BY owner_id
        )
        SELECT coalesce(posted.owner_id, totalled.owner_id), coalesce(totalled.amount, 0), coalesce(posted.amount, 0)
        FROM posted FULL JOIN totalled ON totalled.owner_id = posted.owner_id
        WHERE coalesce(totalled.amount, 0) <> coalesce(posted.amount, 0)
        """,  # noqa: S608  # texts of ours only
    ),
    (
        "months' GPU time is the ledger's",
        "The GPU time of {0} sums to {1} in the months, and to {2} in the ledger.",
        f"""
        WITH posted AS ({GPU_TIME_POSTED}),
        totalled AS (
            SELECT owner_id, sum(amount_picousd) AS amount FROM billing_usagetotal
            WHERE unit = 'gpu_ms' GROUP BY owner_id
        )
        SELECT coalesce(posted.owner_id, totalled.owner_id), coalesce(totalled.amount, 0), coalesce(posted.amount, 0)
        FROM posted FULL JOIN totalled ON totalled.owner_id = posted.owner_id
        WHERE coalesce(totalled.amount, 0) <> coalesce(posted.amount, 0)
        """,  # noqa: S608  # texts of ours only
    ),
    (
        "invoices are the sums of their lines",
        "Invoice {0} says {1} and {2} cents, its lines {3} and {4}.",
        """
        SELECT invoice.id, invoice.exact_picousd, invoice.subtotal_cents, coalesce(sum(line.amount_picousd), 0),
               coalesce(sum(line.amount_cents), 0)
        FROM billing_invoice invoice LEFT JOIN billing_invoiceline line ON line.invoice_id = invoice.id
        GROUP BY invoice.id HAVING invoice.exact_picousd <> coalesce(sum(line.amount_picousd), 0)
        OR invoice.subtotal_cents <> coalesce(sum(line.amount_cents), 0)
        """,
    ),
    (
        "final invoices hold all usage of their months",
        "The final invoices of {0} sum to {1}, their months to {2}.",
        """
        WITH final AS (
            SELECT owner_id, max(month) AS last, sum(exact_picousd) AS amount FROM billing_invoice
            WHERE state <> 'draft' GROUP BY owner_id
        )
        SELECT final.owner_id, final.amount, coalesce(sum(total.amount_picousd), 0)
        FROM final LEFT JOIN billing_usagetotal total
        ON total.owner_id = final.owner_id AND total.billed_month <= final.last
        GROUP BY final.owner_id, final.amount HAVING final.amount <> coalesce(sum(total.amount_picousd), 0)
        """,
    ),
    (
        "invoice numbers have no gaps",
        "In {0} there are {1} invoices, and the last number is {2}.",
        """
        SELECT year, count(*), max(number) FROM billing_invoice WHERE number IS NOT NULL
        GROUP BY year HAVING count(*) <> max(number)
        """,
    ),
    (
        "receivables are what invoices leave open",
        "{0} owes {1} by the ledger, and {2} by the invoices.",
        """
        WITH owed AS (
            SELECT owner_id, -balance_picousd AS amount FROM billing_ledgeraccount WHERE kind = 'receivable'
        ), billed AS (
            SELECT owner_id, sum((due_cents + tax_cents - paid_cents) * 10000000000::numeric) AS amount
            FROM billing_invoice WHERE state IN ('final', 'paid') GROUP BY owner_id
        )
        SELECT coalesce(owed.owner_id, billed.owner_id), coalesce(owed.amount, 0), coalesce(billed.amount, 0)
        FROM owed FULL JOIN billed ON billed.owner_id = owed.owner_id
        WHERE coalesce(owed.amount, 0) <> coalesce(billed.amount, 0)
        """,
    ),
)
