"""How many of the tokens that were made are reasoning, for prices that charge it apart; unknown of older events."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("usage", "0003_spooled_usage"),
    ]
    operations = [
        migrations.AddField(
            model_name="usageevent",
            name="reasoning_tokens",
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
    ]
