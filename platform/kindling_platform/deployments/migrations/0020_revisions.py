from functools import partial

import django.db.models.deletion
from django.db import migrations, models

import kindling_platform.common.clock
import kindling_platform.common.ids


def first_revisions(apps, _editor):
    """Those that are there begin their history with what they are now."""
    deployments = apps.get_model("deployments", "Deployment").objects.exclude(desired_state="deleted")
    revision = apps.get_model("deployments", "DeploymentRevision")
    revision.objects.bulk_create(
        [
            revision(
                id=kindling_platform.common.ids.new_id("rvn"), deployment_id=row.id, number=1,
                model_id=row.model_id, replicas=row.desired_replicas, weights=row.weights,
                actor_label="Kindling, before revisions were kept",
            )
            for row in deployments
        ]
    )  # fmt: skip


class Migration(migrations.Migration):
    """Organisations make deployments of their own; what each was set to is kept."""

    dependencies = [("catalog", "0006_deployable"), ("deployments", "0019_deployment_speed")]
    operations = [
        migrations.AddField(
            model_name="deployment",
            name="self_made",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.CreateModel(
            name="DeploymentRevision",
            fields=[
                (
                    "created_at",
                    models.DateTimeField(default=kindling_platform.common.clock.now, editable=False),
                ),
                (
                    "id",
                    models.CharField(
                        default=partial(kindling_platform.common.ids.new_id, "rvn"),
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("number", models.PositiveIntegerField()),
                ("replicas", models.PositiveIntegerField()),
                ("weights", models.CharField(max_length=16)),
                ("restored", models.PositiveIntegerField(blank=True, null=True)),
                ("actor_id", models.CharField(blank=True, max_length=32)),
                ("actor_label", models.CharField(max_length=200)),
                (
                    "deployment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="revisions",
                        to="deployments.deployment",
                    ),
                ),
                (
                    "model",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="catalog.model"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("deployment", "number"), name="one_deployment_revision")
                ],
            },
        ),
        migrations.RunPython(first_revisions, migrations.RunPython.noop),
    ]
