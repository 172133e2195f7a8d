from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('responses', '0001_stored_responses'),
    ]

    operations = [
        migrations.AddField(
            model_name='storedresponse',
            name='status',
            field=models.CharField(db_default='ended', default='ended', max_length=8),
        ),
        migrations.AddField(
            model_name='storedresponse',
            name='leased_until',
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
