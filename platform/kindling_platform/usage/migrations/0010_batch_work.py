"""Which requests pay the price of batch work."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("usage", "0009_series_by_day"),
    ]
    operations = [
        migrations.AddField(
            model_name="usageevent",
            name="batch",
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
