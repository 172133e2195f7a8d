from django.db import migrations, models


def embedding_models_do_not_chat(apps, _editor):
    apps.get_model('catalog', 'Model').objects.filter(task='embed').update(chat_ready=False)


class Migration(migrations.Migration):

    dependencies = [
        ('catalog', '0003_vocabulary_hash'),
    ]

    operations = [
        migrations.AddField(
            model_name='model',
            name='chat_ready',
            field=models.BooleanField(db_default=True, default=True),
        ),
        migrations.RunPython(embedding_models_do_not_chat, migrations.RunPython.noop),
    ]
