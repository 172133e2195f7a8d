import django.db.models.fields.json
from django.db import migrations, models


class Migration(migrations.Migration):
    """An owner's lines of GPU time are found by its deployments, not among all lines of its wallet."""

    dependencies = [("billing", "0009_compared_days")]
    operations = [
        migrations.AddIndex(
            model_name="ledgertransaction",
            index=models.Index(
                django.db.models.fields.json.KT("data__deployment"),
                condition=models.Q(("source_type", "gpu_time")),
                name="ledger_gpu_time",
            ),
        ),
    ]
