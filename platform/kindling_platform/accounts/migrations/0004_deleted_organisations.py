from django.db import migrations, models


class Migration(migrations.Migration):
    """An organisation can be deleted; its row stays for the books."""

    dependencies = [("accounts", "0003_user_shortcuts")]
    operations = [
        migrations.AddField(
            model_name="organisation",
            name="deleting_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="organisation",
            name="deleted_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddIndex(
            model_name="organisation",
            index=models.Index(
                condition=models.Q(("deleted_at", None), ("deleting_at__isnull", False)),
                fields=["deleting_at"],
                name="organisations_going",
            ),
        ),
    ]
