import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """Intervals from before stay unbilled: `billed_until` is null for them, as it is for the operator's replicas."""

    dependencies = [("deployments", "0009_posted_view")]
    operations = [
        migrations.AddField(
            model_name="deployment",
            name="stop_reason",
            field=models.CharField(blank=True, db_default="", default="", max_length=300),
        ),
        migrations.AddField(
            model_name="replicainterval",
            name="billed_until",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddIndex(
            model_name="replicainterval",
            index=models.Index(
                condition=models.Q(
                    models.Q(("billed_until__isnull", False), ("ended_at", None)),
                    ("billed_until__lt", models.F("ended_at")),
                    _connector="OR",
                ),
                fields=["billed_until"],
                name="deployments_unbilled",
            ),
        ),
        migrations.CreateModel(
            name="GpuHour",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("hour", models.DateTimeField()),
                ("organisation_id", models.CharField(max_length=32)),
                ("deployment_id", models.CharField(max_length=32)),
                ("deployment_name", models.CharField(max_length=64)),
                ("model_id", models.CharField(max_length=32)),
                ("held_ms", models.BigIntegerField()),
                (
                    "state",
                    models.CharField(
                        choices=[("posted", "Posted"), ("parked", "Parked"), ("given_up", "Given Up")], max_length=8
                    ),
                ),
                ("parts", models.JSONField(default=list)),
                ("cost_picousd", models.BigIntegerField(default=0)),
                ("reason", models.CharField(blank=True, max_length=200)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "interval",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="gpu_hours",
                        to="deployments.replicainterval",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["organisation_id", "hour"], name="deployments_gpu_hour_owner"),
                    models.Index(fields=["hour"], name="deployments_gpu_hour"),
                    models.Index(condition=models.Q(("state", "parked")), fields=["id"], name="deployments_gpu_parked"),
                ],
                "constraints": [models.UniqueConstraint(fields=("interval", "hour"), name="one_gpu_hour")],
            },
        ),
    ]
