from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("audit", "0002_protect_rows")]
    operations = [
        migrations.AddField("auditevent", "request_id", models.CharField(blank=True, default="", max_length=32)),
        migrations.AddIndex("auditevent", models.Index(fields=["-created_at", "-id"], name="audit_newest")),
        migrations.AddIndex("auditevent", models.Index(fields=["action", "-created_at"], name="audit_action")),
        migrations.AddIndex("auditevent", models.Index(fields=["target", "-created_at"], name="audit_target")),
    ]
