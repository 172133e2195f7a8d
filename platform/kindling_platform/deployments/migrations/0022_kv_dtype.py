from django.db import migrations, models


class Migration(migrations.Migration):
    """A deployment says what keys and values are kept as; those that run keep them as they compute."""

    dependencies = [("deployments", "0021_model_view_by_name")]
    operations = [
        migrations.AddField(
            model_name=name,
            name="kv_dtype",
            field=models.CharField(db_default="auto", default="auto", max_length=16),
        )
        for name in ("deployment", "deploymentrevision")
    ]
