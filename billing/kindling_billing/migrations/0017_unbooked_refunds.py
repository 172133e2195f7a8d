from django.db import migrations, models


class Migration(migrations.Migration):
    """Refunds that failed before they were booked."""

    dependencies = [("billing", "0016_own_replicas")]
    operations = [
        migrations.AlterField(
            model_name="failedrefund",
            name="state",
            field=models.CharField(
                choices=[
                    ("open", "Open"),
                    ("credited", "Credited"),
                    ("paid", "Paid"),
                    ("unbooked", "Unbooked"),
                ],
                default="open",
                max_length=8,
            ),
        ),
    ]
