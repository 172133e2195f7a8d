"""How the parts of the platform were, day by day, and what the operator says of them."""

import django.db.models.deletion
import functools
import kindling_platform.common.clock
import kindling_platform.common.ids
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="ComponentState",
            fields=[
                ("key", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("state", models.CharField(max_length=8)),
                ("note", models.CharField(blank=True, max_length=200)),
                ("since", models.DateTimeField()),
                ("checked_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="ComponentDay",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("key", models.CharField(max_length=64)),
                ("day", models.DateField()),
                ("up", models.PositiveSmallIntegerField(default=0)),
                ("limited", models.PositiveSmallIntegerField(default=0)),
                ("down", models.PositiveSmallIntegerField(default=0)),
                ("last_minute", models.DateTimeField()),
            ],
            options={
                "indexes": [models.Index(fields=["day"], name="status_component_day")],
                "constraints": [models.UniqueConstraint(fields=("key", "day"), name="one_component_day")],
            },
        ),
        migrations.CreateModel(
            name="Notice",
            fields=[
                (
                    "created_at",
                    models.DateTimeField(default=kindling_platform.common.clock.now, editable=False),
                ),
                (
                    "id",
                    models.CharField(
                        default=functools.partial(kindling_platform.common.ids.new_id, *("ntc",), **{}),
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("title", models.CharField(max_length=120)),
                ("text", models.TextField(max_length=2000)),
                (
                    "severity",
                    models.CharField(
                        choices=[
                            ("planned", "Planned work"),
                            ("limited", "Limited service"),
                            ("outage", "Outage"),
                        ],
                        max_length=8,
                    ),
                ),
                ("begins_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField(blank=True, null=True)),
                ("updated_at", models.DateTimeField()),
                ("withdrawn_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "indexes": [models.Index(fields=["-begins_at"], name="status_notice_begins")],
            },
        ),
        migrations.CreateModel(
            name="NoticeUpdate",
            fields=[
                (
                    "created_at",
                    models.DateTimeField(default=kindling_platform.common.clock.now, editable=False),
                ),
                (
                    "id",
                    models.CharField(
                        default=functools.partial(kindling_platform.common.ids.new_id, *("ntu",), **{}),
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("text", models.TextField(max_length=2000)),
                (
                    "notice",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="updates",
                        to="status.notice",
                    ),
                ),
            ],
            options={
                "abstract": False,
            },
        ),
    ]
