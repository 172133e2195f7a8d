"""Budgets are of days and months of UTC, so what was spent is read from the days: a twentieth of the rows of the hours.

The column keeps its name, so that a gateway of before and one of after read the same.
"""

from django.db import migrations

SPENDING = """
SELECT u.organisation_id AS org_id, coalesce(k.family_id, u.key_id) AS key_id,
       k.created_by_id AS member_id, u.{moment} AS hour, u.cost_picousd
FROM {table} u LEFT JOIN keys_apikey k ON k.id = u.key_id
"""


class Migration(migrations.Migration):
    dependencies = [("deployments", "0007_replica_intervals"), ("usage", "0005_rollups")]
    operations = [
        migrations.RunSQL(
            "CREATE OR REPLACE VIEW gateway_spending AS " + SPENDING.format(table="usage_usageday", moment="day"),
            "CREATE OR REPLACE VIEW gateway_spending AS " + SPENDING.format(table="usage_usagehour", moment="hour"),
        ),
    ]
