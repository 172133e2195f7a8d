"""Which requests the books know: a gateway that puts a hold back late sees there that it was posted meanwhile."""

from django.db import migrations

# The join makes it a view that nobody can write through.
POSTED = """
SELECT o.id AS org_id, u.request_id
FROM usage_usageevent u JOIN accounts_organisation o ON o.id = u.organisation_id
"""


class Migration(migrations.Migration):
    dependencies = [("deployments", "0008_spending_by_day"), ("usage", "0001_initial")]
    operations = [
        migrations.RunSQL(f"CREATE VIEW gateway_posted AS {POSTED}", "DROP VIEW gateway_posted"),
    ]
