"""Which deployments a model has, running or not: a name pinned to one that there is not is refused at once."""

from django.db import migrations

DEPLOYMENTS = """
SELECT d.id AS deployment_id, d.name AS deployment_name, o.id AS org_id, o.slug AS org_slug, d.model_id
FROM deployments_deployment d JOIN accounts_organisation o ON o.id = d.organisation_id
WHERE d.desired_state <> 'deleted'
"""


class Migration(migrations.Migration):
    dependencies = [("deployments", "0015_deleted")]
    operations = [
        migrations.RunSQL(f"CREATE VIEW gateway_deployment AS {DEPLOYMENTS}", "DROP VIEW gateway_deployment"),
    ]
