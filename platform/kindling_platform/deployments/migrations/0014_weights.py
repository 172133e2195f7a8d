from django.db import migrations, models


class Migration(migrations.Migration):
    """A deployment says how weights lie in memory; those that run keep them as their checkpoint has them."""

    dependencies = [("deployments", "0013_spending_by_key_and_day")]
    operations = [
        migrations.AddField(
            model_name="deployment",
            name="weights",
            field=models.CharField(db_default="checkpoint", default="checkpoint", max_length=16),
        ),
    ]
