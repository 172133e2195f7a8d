"""Other names for models."""

from functools import partial

import django.db.models.deletion
from django.db import migrations, models

import kindling_platform.common.clock
import kindling_platform.common.ids


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("adapters", "0001_initial"),
    ]
    operations = [
        migrations.CreateModel(
            name="ModelAlias",
            fields=[
                (
                    "created_at",
                    models.DateTimeField(default=kindling_platform.common.clock.now, editable=False),
                ),
                (
                    "id",
                    models.CharField(
                        default=partial(kindling_platform.common.ids.new_id, "als"),
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("alias", models.CharField(max_length=200)),
                ("target", models.CharField(max_length=200)),
                (
                    "organisation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="aliases",
                        to="accounts.organisation",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("organisation", "alias"), name="one_alias")
                ],
            },
        ),
    ]
