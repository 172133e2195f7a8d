"""Finds requests of batches; made while others go on writing, as there may be millions of rows.

A process that dies meanwhile leaves an index that is not valid, so the next one begins anew.
"""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [
        ("usage", "0010_batch_work"),
    ]
    operations = [
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS usage_event_of_batches", migrations.RunSQL.noop),
        AddIndexConcurrently(
            model_name="usageevent",
            index=models.Index(
                fields=["finished_at"], name="usage_event_of_batches", condition=models.Q(batch=True)
            ),
        ),
    ]
