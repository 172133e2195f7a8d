"""What deployments of all organisations look like to the operator."""

from typing import Any

from rest_framework import serializers as s

from kindling_platform.api.rows import deployment_row
from kindling_platform.api.shapes import DeploymentShape
from kindling_platform.deployments.models import Deployment


class OperatedDeploymentShape(DeploymentShape):
    organisation_id = s.CharField(
        help_text="Whose it is; another one than the operator's pays for its hours."
    )
    organisation = s.CharField(help_text="Its slug.")


def operated_deployment_row(deployment: Deployment) -> dict[str, Any]:
    org = deployment.organisation
    return {**deployment_row(deployment), "organisation_id": org.id, "organisation": org.slug}
