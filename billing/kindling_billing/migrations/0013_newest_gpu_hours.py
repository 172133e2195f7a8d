import django.db.models.fields.json
from django.db import migrations, models


class Migration(migrations.Migration):
    """A deployment's newest hours are the end of its part of an index: nobody reads the years before them."""

    dependencies = [("billing", "0012_entries_checked_together")]
    operations = [
        migrations.AddIndex(
            model_name="ledgertransaction",
            index=models.Index(
                django.db.models.fields.json.KT("data__deployment"),
                models.F("id"),
                condition=models.Q(("source_type", "gpu_time")),
                name="ledger_gpu_hours",
            ),
        ),
        migrations.RemoveIndex(model_name="ledgertransaction", name="ledger_gpu_time"),
    ]
