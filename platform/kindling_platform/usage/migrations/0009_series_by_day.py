"""Whole days of one thing alone, made from its hours."""

from django.db import migrations, models

SUMS = (
    "requests", "failed", "prompt_tokens", "cached_tokens", "completion_tokens", "duration_ms", "first_token_ms",
    "timed", "cost_picousd",
)  # fmt: skip
ADDED = ", ".join(f"sum({column})" for column in SUMS)
# Nobody books meanwhile: the lock is the booking's own, until this migration is committed.
FILL = (
    "SELECT pg_advisory_xact_lock(hashtext('kindling.usage'))",
    f"""
    INSERT INTO usage_usageseriesday (organisation_id, facet, day, value, {", ".join(SUMS)})
    SELECT organisation_id, facet, date_trunc('day', step, 'UTC'), value, {ADDED}
    FROM usage_usageseries GROUP BY 1, 2, 3, 4
    """,
)


class Migration(migrations.Migration):
    dependencies = [("usage", "0008_requests_by_time")]
    operations = [
        migrations.CreateModel(
            name="UsageSeriesDay",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                *((name, models.BigIntegerField(default=0)) for name in SUMS[:-1]),
                ("cost_picousd", models.DecimalField(decimal_places=0, default=0, max_digits=38)),
                ("organisation_id", models.CharField(max_length=32)),
                ("facet", models.CharField(max_length=8)),
                ("value", models.CharField(blank=True, max_length=32)),
                ("day", models.DateTimeField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organisation_id", "facet", "day", "value"), name="one_usage_series_day"
                    )
                ]
            },
        ),
        migrations.RunSQL(list(FILL), migrations.RunSQL.noop),
    ]
