import kindling_billing.models.base
from django.db import migrations, models

# Books from before these tables: what wallets hold is one portion, what was used one total a month.
OPENING = """
INSERT INTO billing_creditgrant (id, owner_id, kind, amount_picousd, remaining_picousd, source_type, source_id, memo, created_at)
SELECT 'grt_' || right(id, 26), owner_id, 'returned', balance_picousd, balance_picousd, 'opening', id, 'Balance carried over',
       clock_timestamp()
FROM billing_ledgeraccount account WHERE kind = 'wallet' AND balance_picousd > 0
AND NOT EXISTS (SELECT 1 FROM billing_creditgrant WHERE owner_id = account.owner_id);

INSERT INTO billing_usagetotal (owner_id, billed_month, used_month, sku, unit, unit_price_picousd, label, quantity, amount_picousd)
SELECT account.owner_id, month, month, '', 'usage', 0, 'Usage', count(*), -sum(entry.amount_picousd)
FROM billing_ledgerentry entry
JOIN billing_ledgeraccount account ON account.id = entry.account_id AND account.kind = 'wallet'
JOIN billing_ledgertransaction cause ON cause.id = entry.transaction_id AND cause.source_type = 'usage'
CROSS JOIN LATERAL (SELECT date_trunc('month', cause.posted_at AT TIME ZONE 'UTC')::date AS month) AS used
WHERE NOT EXISTS (SELECT 1 FROM billing_usagetotal WHERE owner_id = account.owner_id)
GROUP BY account.owner_id, month;
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0005_invoices_and_terms")]
    operations = [
        migrations.CreateModel(
            name="Rerating",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("sku", models.CharField(max_length=64)),
                ("owner_id", models.CharField(blank=True, max_length=32)),
                ("start", models.DateTimeField()),
                ("end", models.DateTimeField()),
                ("reason", models.CharField(max_length=200)),
                ("created_by", models.CharField(blank=True, max_length=200)),
                ("created_at", models.DateTimeField(default=kindling_billing.models.base.utc_now)),
                ("cursor", models.CharField(blank=True, max_length=36)),
                ("seen", models.BigIntegerField(default=0)),
                ("changed", models.BigIntegerField(default=0)),
                ("gaps", models.BigIntegerField(default=0)),
                ("difference_picousd", models.DecimalField(decimal_places=0, default=0, max_digits=38)),
                ("done_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.RunSQL(OPENING, migrations.RunSQL.noop),
    ]
