"""Requests of some days, of all organisations, are found by time: they are written in its order, so a small index will do."""

from django.contrib.postgres.indexes import BrinIndex
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("usage", "0007_series_by_step"),
    ]
    operations = [
        migrations.AddIndex(
            model_name="usageevent",
            index=BrinIndex(fields=["finished_at"], name="usage_event_by_time", autosummarize=True),
        ),
    ]
