from django.db import migrations, models


class Migration(migrations.Migration):
    """An organisation may ask a second factor of everybody in it."""

    dependencies = [("accounts", "0005_seeing")]
    operations = [
        migrations.AddField(
            model_name="organisation",
            name="mfa_required",
            field=models.BooleanField(default=False, db_default=False),
        )
    ]
