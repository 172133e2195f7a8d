"""The gateway's view of other names for models."""

from django.db import migrations

ALIAS = """
    SELECT o.id AS org_id, a.alias, split_part(a.target, '/', 1) AS target_slug,
           split_part(a.target, '/', 2) AS target_name
    FROM adapters_modelalias a JOIN accounts_organisation o ON o.id = a.organisation_id
"""


class Migration(migrations.Migration):
    dependencies = [
        ("deployments", "0004_money_views"),
        ("adapters", "0002_model_alias"),
    ]
    operations = [migrations.RunSQL(f"CREATE VIEW gateway_alias AS {ALIAS}", "DROP VIEW gateway_alias")]
