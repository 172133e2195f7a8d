"""Opinions about answers, and the view by which the gateway knows whose a request was."""

from django.db import migrations, models

VIEW = "SELECT request_id, organisation_id AS org_id FROM usage_usageevent"


class Migration(migrations.Migration):
    dependencies = [("usage", "0001_initial")]
    operations = [
        migrations.CreateModel(
            name="Feedback",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("organisation_id", models.CharField(max_length=32)),
                ("request_id", models.UUIDField()),
                ("key_id", models.CharField(max_length=32)),
                ("score", models.FloatField(blank=True, null=True)),
                ("label", models.CharField(blank=True, max_length=64)),
                ("created_at", models.DateTimeField()),
                ("updated_at", models.DateTimeField()),
            ],
            options={
                "indexes": [models.Index(fields=["created_at"], name="usage_feedb_created_a0436c_idx")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=["organisation_id", "request_id"], name="one_feedback_per_request"
                    )
                ],
            },
        ),
        migrations.RunSQL(f"CREATE VIEW gateway_request AS {VIEW}", "DROP VIEW gateway_request"),
    ]
