from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('catalog', '0002_model_task'),
    ]

    operations = [
        migrations.AddField(
            model_name='model',
            name='vocabulary_hash',
            field=models.CharField(blank=True, max_length=64),
        ),
    ]
