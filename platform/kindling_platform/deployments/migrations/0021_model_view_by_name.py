"""The view of models names the columns that it reads, in place of all that the table has when the view is made.

A view over all of them depends on each, and goes with the first that is dropped. It stays so on the way back.
"""

from importlib import import_module

from django.db import migrations

BEFORE = import_module("kindling_platform.deployments.migrations.0017_batch_prices")
ALL = "SELECT m.*, o.slug"
assert BEFORE.MODEL.count(ALL) == 1
MODEL = BEFORE.MODEL.replace(
    ALL, "SELECT m.id, m.organisation_id, m.name, m.is_public, m.context_length, m.created_at, o.slug"
)


class Migration(migrations.Migration):
    dependencies = [("deployments", "0020_revisions")]
    operations = [
        migrations.RunSQL(f"CREATE OR REPLACE VIEW gateway_model AS {MODEL}", migrations.RunSQL.noop),
    ]
