"""The gateway also reads that an organisation was deleted, which goes before every other reason to refuse its keys."""

from importlib import import_module

from django.db import migrations

OLD_KEY = import_module("kindling_platform.deployments.migrations.0006_reasoning_and_suspension").KEY
REASON = "CASE WHEN o.suspended_at IS NOT NULL"
assert OLD_KEY.count(REASON) == 1
KEY = OLD_KEY.replace(REASON, "CASE WHEN o.deleting_at IS NOT NULL THEN 'deleted' WHEN o.suspended_at IS NOT NULL")


class Migration(migrations.Migration):
    dependencies = [
        ("deployments", "0017_batch_prices"),
        ("accounts", "0004_deleted_organisations"),
    ]
    operations = [
        migrations.RunSQL(
            f"CREATE OR REPLACE VIEW gateway_key AS {KEY}", f"CREATE OR REPLACE VIEW gateway_key AS {OLD_KEY}"
        ),
    ]
