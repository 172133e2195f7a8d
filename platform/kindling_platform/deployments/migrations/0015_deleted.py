from django.db import migrations, models


class Migration(migrations.Migration):
    """A deployment can be deleted, and its name is free again."""

    dependencies = [("deployments", "0014_weights")]
    operations = [
        migrations.AlterField(
            model_name="deployment",
            name="desired_state",
            field=models.CharField(
                choices=[("running", "Running"), ("stopped", "Stopped"), ("deleted", "Deleted")],
                default="running",
                max_length=16,
            ),
        ),
        migrations.RemoveConstraint(model_name="deployment", name="one_deployment_name"),
        migrations.AddConstraint(
            model_name="deployment",
            constraint=models.UniqueConstraint(
                fields=["organisation", "name"],
                condition=~models.Q(desired_state="deleted"),
                name="one_deployment_name",
            ),
        ),
    ]
