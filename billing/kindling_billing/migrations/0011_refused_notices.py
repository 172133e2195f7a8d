from django.db import migrations, models


class Migration(migrations.Migration):
    """A notice that the mail server has refused waits for a person, and keeps what it said."""

    dependencies = [("billing", "0010_gpu_time_lines")]
    operations = [
        migrations.AddField("notice", "refused_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField(
            "notice", "trouble", models.CharField(blank=True, db_default="", default="", max_length=300)
        ),
    ]
