"""What should run, what runs, and what happened."""

from django.db import models

from kindling_platform.accounts.models import Organisation
from kindling_platform.catalog.models import Model
from kindling_platform.common.models import Created, OrgQuerySet, id_field


class Deployment(Created):
    """A model that should be served; the reconciler makes it so."""

    class Desired(models.TextChoices):
        RUNNING = "running"
        STOPPED = "stopped"

    class State(models.TextChoices):
        PENDING = "pending"
        STARTING = "starting"
        LIVE = "live"
        DEGRADED = "degraded"
        STOPPED = "stopped"
        FAILED = "failed"

    id = id_field("dep")
    organisation = models.ForeignKey(Organisation, on_delete=models.CASCADE, related_name="deployments")
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="deployments")
    name = models.CharField(max_length=64)
    desired_state = models.CharField(max_length=16, choices=Desired.choices, default=Desired.RUNNING)
    desired_replicas = models.PositiveIntegerField(default=1)
    state = models.CharField(max_length=16, choices=State.choices, default=State.PENDING)
    reason = models.CharField(max_length=300, blank=True)
    generation = models.PositiveIntegerField(default=1)
    lease_token = models.CharField(max_length=32, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)

    objects = OrgQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organisation", "name"], name="one_deployment_name")]

    def __str__(self) -> str:
        return self.name


class Replica(Created):
    """One engine process as it was last observed; its name is derived from deployment, generation and rank."""

    id = id_field("rep")
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="replicas")
    name = models.CharField(max_length=80, unique=True)
    generation = models.PositiveIntegerField()
    rank = models.PositiveIntegerField(default=0)
    url = models.CharField(max_length=200, blank=True)
    state = models.CharField(max_length=16, default="starting")
    pid = models.IntegerField(null=True, blank=True)
    restarts = models.PositiveIntegerField(default=0)
    reason = models.CharField(max_length=300, blank=True)
    ready_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name


class DeploymentEvent(Created):
    """Something that happened to a deployment, in a sentence."""

    id = id_field("dev")
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="events")
    kind = models.CharField(max_length=40)
    message = models.CharField(max_length=300)
    data = models.JSONField(default=dict)

    class Meta:
        indexes = [models.Index(fields=["deployment", "-created_at"])]

    def __str__(self) -> str:
        return self.message
