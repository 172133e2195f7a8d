"""Owners without terms of their own are warned at a fifth of a dollar, not at the dollar that they start with."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0014_postpaid_until")]

    operations = [
        migrations.AlterField(
            model_name="terms",
            name="low_balance_picousd",
            field=models.BigIntegerField(default=10**12 // 5),
        ),
    ]
