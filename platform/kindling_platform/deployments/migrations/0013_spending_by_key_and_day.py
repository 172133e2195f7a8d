"""What was spent is read from the days of keys alone: a row for each key and day, whatever the key was used for."""

from django.db import migrations

REQUESTS = """
SELECT u.organisation_id AS org_id, coalesce(k.family_id, u.{key}) AS key_id,
       k.created_by_id AS member_id, u.day AS hour, u.cost_picousd
FROM {table} u LEFT JOIN keys_apikey k ON k.id = u.{key}{facet}
"""
BY_KEY = REQUESTS.format(table="usage_usageseriesday", key="value", facet=" WHERE u.facet = 'key'")
BY_ALL = REQUESTS.format(table="usage_usageday", key="key_id", facet="")
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
    dependencies = [("deployments", "0012_ready_intervals"), ("usage", "0009_series_by_day")]
    operations = [
        migrations.RunSQL(
            "CREATE OR REPLACE VIEW gateway_spending AS " + BY_KEY + GPU_TIME,
            "CREATE OR REPLACE VIEW gateway_spending AS " + BY_ALL + GPU_TIME,
        ),
    ]
