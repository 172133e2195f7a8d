"""What the operator asks of all organisations is found by time."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("usage", "0006_retired_usage"),
    ]
    operations = [
        migrations.AddIndex(
            model_name="usageseries",
            index=models.Index(fields=["facet", "step"], name="usage_series_by_step"),
        ),
    ]
