"""Roll-ups by outcome, with times; whole days; series of one thing alone. All of them made from the requests so far."""

from django.db import migrations, models

COLUMNS = (
    "requests, failed, prompt_tokens, cached_tokens, completion_tokens, duration_ms, first_token_ms, timed,"
    " cost_picousd"
)
ADDED = ", ".join(f"sum({column.strip()})" for column in COLUMNS.split(","))
KEY = "model_id, adapter_id, key_id, finish"
# Nobody books meanwhile: the lock is the booking's own, until this migration is committed.
FILL = (
    "SELECT pg_advisory_xact_lock(hashtext('kindling.usage'))",
    "DELETE FROM usage_usagehour",
    f"""
    INSERT INTO usage_usagehour (organisation_id, hour, {KEY}, {COLUMNS})
    SELECT organisation_id,
        date_trunc('hour', finished_at, 'UTC') + make_interval(mins => CASE
            WHEN extract(hour FROM finished_at AT TIME ZONE 'UTC') IN (2, 3, 9, 13, 14, 17, 18, 19, 20)
                AND extract(minute FROM finished_at AT TIME ZONE 'UTC') >= 30 THEN 30
            WHEN extract(hour FROM finished_at AT TIME ZONE 'UTC') IN (10, 11, 15, 18)
                AND extract(minute FROM finished_at AT TIME ZONE 'UTC') >= 15 THEN 15
            ELSE 0 END),
        {KEY}, count(*), count(*) FILTER (WHERE NOT billable), sum(prompt_tokens), sum(cached_tokens),
        sum(completion_tokens),
        sum(greatest(0, floor(extract(epoch FROM finished_at - started_at) * 1000))),
        coalesce(sum(greatest(0, floor(extract(epoch FROM first_token_at - started_at) * 1000))), 0),
        count(first_token_at), sum(cost_picousd)
    FROM usage_usageevent GROUP BY 1, 2, 3, 4, 5, 6
    """,
    f"""
    INSERT INTO usage_usageday (organisation_id, day, {KEY}, {COLUMNS})
    SELECT organisation_id, date_trunc('day', hour, 'UTC'), {KEY}, {ADDED}
    FROM usage_usagehour GROUP BY 1, 2, 3, 4, 5, 6
    """,
    *(
        f"""
        INSERT INTO usage_usageseries (organisation_id, facet, step, value, {COLUMNS})
        SELECT organisation_id, '{facet}'::text, hour, {value}, {ADDED} FROM usage_usagehour GROUP BY 1, 2, 3, 4
        """
        for facet, value in (
            ("all", "''::text"), ("model", "model_id"), ("adapter", "adapter_id"), ("key", "key_id"),
            ("status", "finish"),
        )
    ),
)  # fmt: skip


def sums():
    names = (
        "requests", "failed", "prompt_tokens", "cached_tokens", "completion_tokens", "duration_ms",
        "first_token_ms", "timed",
    )  # fmt: skip
    return [
        ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
        *((name, models.BigIntegerField(default=0)) for name in names),
        ("cost_picousd", models.DecimalField(decimal_places=0, default=0, max_digits=38)),
    ]


class Migration(migrations.Migration):
    dependencies = [("usage", "0004_reasoning_tokens")]
    operations = [
        migrations.RemoveConstraint(model_name="usagehour", name="one_usage_hour"),
        migrations.AddField("usagehour", "finish", models.CharField(blank=True, default="", max_length=24), False),
        migrations.AddField("usagehour", "duration_ms", models.BigIntegerField(default=0)),
        migrations.AddField("usagehour", "first_token_ms", models.BigIntegerField(default=0)),
        migrations.AddField("usagehour", "timed", models.BigIntegerField(default=0)),
        migrations.AddConstraint(
            "usagehour",
            models.UniqueConstraint(
                fields=("organisation_id", "hour", "model_id", "adapter_id", "key_id", "finish"),
                name="one_usage_hour",
            ),
        ),
        migrations.CreateModel(
            name="UsageDay",
            fields=[
                *sums(),
                ("organisation_id", models.CharField(max_length=32)),
                ("day", models.DateTimeField()),
                ("model_id", models.CharField(max_length=32)),
                ("adapter_id", models.CharField(blank=True, max_length=32)),
                ("key_id", models.CharField(max_length=32)),
                ("finish", models.CharField(blank=True, max_length=24)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organisation_id", "day", "model_id", "adapter_id", "key_id", "finish"),
                        name="one_usage_day",
                    )
                ]
            },
        ),
        migrations.CreateModel(
            name="UsageSeries",
            fields=[
                *sums(),
                ("organisation_id", models.CharField(max_length=32)),
                ("facet", models.CharField(max_length=8)),
                ("value", models.CharField(blank=True, max_length=32)),
                ("step", models.DateTimeField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organisation_id", "facet", "step", "value"), name="one_usage_series_step"
                    )
                ]
            },
        ),
        migrations.RunSQL(list(FILL), migrations.RunSQL.noop),
    ]
