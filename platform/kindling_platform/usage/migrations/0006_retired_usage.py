"""What deleted requests cost, by day, so that the proofs still come out."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("usage", "0005_rollups"),
    ]
    operations = [
        migrations.CreateModel(
            name="RetiredUsage",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("organisation_id", models.CharField(max_length=32)),
                ("day", models.DateField()),
                ("requests", models.BigIntegerField()),
                ("cost_picousd", models.DecimalField(decimal_places=0, max_digits=38)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("organisation_id", "day"), name="one_retired_usage_day")
                ],
            },
        ),
    ]
