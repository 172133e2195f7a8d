from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('catalog', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='model',
            name='task',
            field=models.CharField(default='generate', max_length=16),
        ),
    ]
