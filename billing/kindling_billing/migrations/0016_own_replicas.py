from django.db import migrations, models


class Migration(migrations.Migration):
    """How many replicas an owner may deploy for itself."""

    dependencies = [("billing", "0015_low_balance_below_the_start")]
    operations = [
        migrations.AddField(
            model_name="terms",
            name="own_replicas",
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
    ]
