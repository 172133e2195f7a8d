"""Of what is deleted, the tokens are kept by model and by whether it was batch work, so that previews stay exact.

The columns have defaults of the database's, so no row is written anew; the table has some rows by day and organisation.
A process of the version before can delete nothing from now on: its statement names a constraint that is gone, and
fails as a whole. So whatever is deleted later is kept with its model.
"""

from django.db import migrations, models

# On the way back: a day's parts as one row again.
TOGETHER = """
    WITH parts AS (DELETE FROM usage_retiredusage RETURNING organisation_id, day, requests, cost_picousd)
    INSERT INTO usage_retiredusage (organisation_id, day, requests, cost_picousd)
    SELECT organisation_id, day, sum(requests), sum(cost_picousd) FROM parts GROUP BY organisation_id, day
"""
COUNTS = ("failed", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")


class Migration(migrations.Migration):
    dependencies = [
        ("usage", "0011_batch_work_by_time"),
    ]
    operations = [
        migrations.AddField(
            model_name="retiredusage",
            name="model_id",
            field=models.CharField(blank=True, db_default="", default="", max_length=32),
        ),
        migrations.AddField(
            model_name="retiredusage",
            name="batch",
            field=models.BooleanField(db_default=False, default=False),
        ),
        *(
            migrations.AddField(
                model_name="retiredusage", name=name, field=models.BigIntegerField(db_default=0, default=0)
            )
            for name in COUNTS
        ),
        migrations.RemoveConstraint(model_name="retiredusage", name="one_retired_usage_day"),
        migrations.RunSQL(migrations.RunSQL.noop, TOGETHER),
        migrations.AddConstraint(
            model_name="retiredusage",
            constraint=models.UniqueConstraint(
                fields=("organisation_id", "day", "model_id", "batch"), name="one_retired_usage_part"
            ),
        ),
        migrations.AddIndex(
            model_name="retiredusage", index=models.Index(fields=["day"], name="usage_retired_by_day")
        ),
    ]
