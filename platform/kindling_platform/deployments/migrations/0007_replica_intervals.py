import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("deployments", "0006_reasoning_and_suspension")]
    operations = [
        migrations.CreateModel(
            name="ReplicaInterval",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("organisation_id", models.CharField(max_length=32)),
                ("deployment_id", models.CharField(max_length=32)),
                ("model_id", models.CharField(max_length=32)),
                ("replica_name", models.CharField(max_length=80)),
                ("pid", models.IntegerField()),
                ("restarts", models.PositiveIntegerField()),
                ("started_at", models.DateTimeField()),
                ("last_seen_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                ("engine_us", models.BigIntegerField(default=0)),
                ("looked_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "indexes": [models.Index(fields=["last_seen_at"], name="deployments_interval_seen")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("ended_at", None)), fields=("replica_name",), name="one_open_interval"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="ReplicaHour",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("hour", models.DateTimeField()),
                ("busy_us", models.BigIntegerField(default=0)),
                ("looked_us", models.BigIntegerField(default=0)),
                (
                    "interval",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="hours",
                        to="deployments.replicainterval",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["hour"], name="deployments_replica_hour")],
                "constraints": [
                    models.UniqueConstraint(fields=("interval", "hour"), name="one_replica_hour")
                ],
            },
        ),
    ]
