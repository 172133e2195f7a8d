"""Posted GPU time counts in an organisation's own budgets; it has no key and no member, so theirs do not see it.

Months before this one come from their totals: single hours are read of one month at most.
"""

from django.db import migrations

REQUESTS = """
SELECT u.organisation_id AS org_id, coalesce(k.family_id, u.key_id) AS key_id,
       k.created_by_id AS member_id, u.day AS hour, u.cost_picousd
FROM usage_usageday u LEFT JOIN keys_apikey k ON k.id = u.key_id
"""
GPU_TIME = """
UNION ALL
SELECT organisation_id, NULL::varchar(32), NULL::varchar(32), hour, cost_picousd::numeric(38, 0)
FROM deployments_gpuhour
WHERE state = 'posted' AND hour >= date_trunc('month', now(), 'UTC')
UNION ALL
SELECT owner_id::varchar(32), NULL::varchar(32), NULL::varchar(32), used_month::timestamp AT TIME ZONE 'UTC',
       amount_picousd
FROM billing_usagetotal
WHERE unit = 'gpu_ms' AND used_month < (date_trunc('month', now() AT TIME ZONE 'UTC'))::date
"""


class Migration(migrations.Migration):
    dependencies = [("deployments", "0010_gpu_hours"), ("billing", "0005_invoices_and_terms")]
    operations = [
        migrations.RunSQL(
            "CREATE OR REPLACE VIEW gateway_spending AS " + REQUESTS + GPU_TIME,
            "CREATE OR REPLACE VIEW gateway_spending AS " + REQUESTS,
        ),
    ]
