from django.db import migrations, models


class Migration(migrations.Migration):
    """The operator opens a model to deployments that organisations make for themselves."""

    dependencies = [("catalog", "0005_model_speed")]
    operations = [
        migrations.AddField(
            model_name="model",
            name="deployable",
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
