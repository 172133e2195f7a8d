"""Adapters whose files come from the Hugging Face Hub."""

import django.db.models.deletion
from django.db import migrations, models

import kindling_platform.common.clock


class Migration(migrations.Migration):
    dependencies = [("adapters", "0002_model_alias")]
    operations = [
        migrations.CreateModel(
            name="HubFetch",
            fields=[
                (
                    "adapter",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="hub_fetch",
                        serialize=False,
                        to="adapters.adapter",
                    ),
                ),
                ("repo_id", models.CharField(max_length=96)),
                ("revision", models.CharField(blank=True, max_length=128)),
                ("commit", models.CharField(blank=True, max_length=64)),
                ("sealed_token", models.BinaryField(blank=True, default=b"")),
                ("failures", models.PositiveSmallIntegerField(default=0)),
                ("due_at", models.DateTimeField(default=kindling_platform.common.clock.now)),
                ("stepped_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
    ]
