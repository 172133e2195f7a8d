"""What requests that are paid for have used, by the books: what a gateway tells of a response that was cut."""

from django.db import migrations

# The join makes it a view that nobody can write through.
SETTLED = """
SELECT o.id AS org_id, u.request_id, u.prompt_tokens, u.cached_tokens, u.completion_tokens, u.reasoning_tokens
FROM usage_usageevent u JOIN accounts_organisation o ON o.id = u.organisation_id
WHERE u.billable
"""


class Migration(migrations.Migration):
    dependencies = [("usage", "0012_retired_by_model"), ("accounts", "0001_initial")]
    operations = [
        migrations.RunSQL(f"CREATE VIEW gateway_settled AS {SETTLED}", "DROP VIEW gateway_settled"),
    ]
