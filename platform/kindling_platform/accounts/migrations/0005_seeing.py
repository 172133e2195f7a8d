from functools import partial

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import kindling_platform.common.clock
import kindling_platform.common.ids


def _person() -> models.ForeignKey:
    return models.ForeignKey(
        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
    )


class Migration(migrations.Migration):
    """The operator's people see the console as a member does."""

    dependencies = [("accounts", "0004_deleted_organisations")]
    operations = [
        migrations.CreateModel(
            name="Seeing",
            fields=[
                (
                    "created_at",
                    models.DateTimeField(default=kindling_platform.common.clock.now, editable=False),
                ),
                (
                    "id",
                    models.CharField(
                        default=partial(kindling_platform.common.ids.new_id, "see"),
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("reason", models.CharField(max_length=300)),
                ("proof", models.CharField(max_length=64)),
                ("ends_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                ("operator", _person()),
                (
                    "organisation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.organisation",
                    ),
                ),
                ("user", _person()),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("ended_at", None)), fields=["ends_at"], name="seeings_open"
                    )
                ],
            },
        ),
    ]
