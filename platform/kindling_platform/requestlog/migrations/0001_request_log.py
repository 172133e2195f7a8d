from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='LogSetting',
            fields=[
                ('organisation_id', models.CharField(max_length=32, primary_key=True, serialize=False)),
                ('days', models.PositiveSmallIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name='LoggedRequest',
            fields=[
                ('request_id', models.UUIDField(primary_key=True, serialize=False)),
                ('organisation_id', models.CharField(max_length=32)),
                ('key_id', models.CharField(max_length=32)),
                ('model_name', models.CharField(blank=True, max_length=160)),
                ('route', models.CharField(max_length=24)),
                ('status', models.PositiveSmallIntegerField()),
                ('size_bytes', models.PositiveIntegerField()),
                ('sealed', models.BinaryField()),
                ('created_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField(db_index=True)),
            ],
            options={
                'indexes': [models.Index(fields=['organisation_id', '-created_at', '-request_id'], name='requestlog_of_organisation')],
            },
        ),
    ]
