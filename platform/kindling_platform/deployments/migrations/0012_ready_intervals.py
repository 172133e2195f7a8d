from django.db import migrations, models

# What is billed already, or is being billed, began with its interval.
BEGUN = "UPDATE deployments_replicainterval SET ready_at = started_at WHERE billed_until IS NOT NULL"


class Migration(migrations.Migration):
    """Time is billed from the moment an engine is ready; before, it was from its first heartbeat."""

    dependencies = [("deployments", "0011_gpu_time_in_spending")]
    operations = [
        migrations.AddField(
            model_name="replicainterval",
            name="ready_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.RunSQL(BEGUN, migrations.RunSQL.noop),
        migrations.AddConstraint(
            model_name="replicainterval",
            constraint=models.CheckConstraint(
                condition=models.Q(("billed_until", None), ("ready_at__isnull", False), _connector="OR"),
                name="billed_when_ready",
            ),
        ),
    ]
