"""How fast models answer, measured by a periodic task."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0004_model_chat_ready"),
    ]
    operations = [
        migrations.CreateModel(
            name="ModelSpeed",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("organisation_id", models.CharField(blank=True, max_length=32)),
                ("window_start", models.DateTimeField()),
                ("window_end", models.DateTimeField()),
                ("samples", models.PositiveIntegerField()),
                ("first_token_samples", models.PositiveIntegerField()),
                ("tokens_per_s_samples", models.PositiveIntegerField()),
                ("duration_p50_ms", models.FloatField()),
                ("duration_p95_ms", models.FloatField(null=True)),
                ("first_token_p50_ms", models.FloatField(null=True)),
                ("first_token_p95_ms", models.FloatField(null=True)),
                ("tokens_per_s_p50", models.FloatField(null=True)),
                ("tokens_per_s_p95", models.FloatField(null=True)),
                (
                    "model",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="speeds", to="catalog.model"
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["organisation_id"], name="catalog_speed_owner")],
                "constraints": [
                    models.UniqueConstraint(fields=("model", "organisation_id"), name="one_model_speed")
                ],
            },
        ),
    ]
