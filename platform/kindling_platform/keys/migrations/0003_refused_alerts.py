from django.db import migrations, models


class Migration(migrations.Migration):
    """A letter about a budget that the mail server has refused waits for a person, and keeps what it said."""

    dependencies = [("keys", "0002_limits")]
    operations = [
        migrations.AddField("budgetalert", "refused_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField(
            "budgetalert", "trouble", models.CharField(blank=True, db_default="", default="", max_length=300)
        ),
    ]
