"""How fast and how busy deployments are, measured by a periodic task."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("deployments", "0018_deleted_organisations"),
    ]

    operations = [
        migrations.CreateModel(
            name="DeploymentSpeed",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("scope", models.CharField(blank=True, max_length=32)),
                ("window_start", models.DateTimeField()),
                ("window_end", models.DateTimeField()),
                ("samples", models.PositiveIntegerField()),
                ("first_token_samples", models.PositiveIntegerField()),
                ("duration_p50_ms", models.FloatField(null=True)),
                ("duration_p95_ms", models.FloatField(null=True)),
                ("first_token_p50_ms", models.FloatField(null=True)),
                ("first_token_p95_ms", models.FloatField(null=True)),
                ("hour_requests", models.PositiveIntegerField(null=True)),
                (
                    "deployment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="speeds",
                        to="deployments.deployment",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("deployment", "scope"), name="one_deployment_speed")
                ],
            },
        ),
    ]
