"""What should run, what runs, what happened, and what of it was billed."""

from datetime import UTC, datetime

from django.db import models

from kindling_engine.protocol.kv_dtypes import AUTO
from kindling_engine.protocol.weight_forms import CHECKPOINT
from kindling_platform.accounts.models import Organisation
from kindling_platform.catalog.models import Model
from kindling_platform.common.models import Created, OrgQuerySet, id_field


class Deployment(Created):
    """A model that should be served; the reconciler makes it so.

    `weights`, of WEIGHT_FORMS, is how they lie in memory; `kv_dtype`, of KV_DTYPES, what keys and values are kept as.
    `stop_reason` says why it was stopped without anybody asking,
    until it is started again. The row of one that was deleted stays: it names the hours of machine time, and its
    replicas are wound down like those of any other.
    """

    class Desired(models.TextChoices):
        RUNNING = "running"
        STOPPED = "stopped"
        DELETED = "deleted"

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
    weights = models.CharField(max_length=16, default=CHECKPOINT, db_default=CHECKPOINT)
    kv_dtype = models.CharField(max_length=16, default=AUTO, db_default=AUTO)
    state = models.CharField(max_length=16, choices=State.choices, default=State.PENDING)
    reason = models.CharField(max_length=300, blank=True)
    stop_reason = models.CharField(max_length=300, blank=True, default="", db_default="")
    generation = models.PositiveIntegerField(default=1)
    # Whether its organisation made it, within what the operator allows; others are made by the operator.
    self_made = models.BooleanField(default=False, db_default=False)
    lease_token = models.CharField(max_length=32, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)

    objects = OrgQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organisation", "name"],
                condition=~models.Q(desired_state="deleted"),
                name="one_deployment_name",
            )
        ]

    def __str__(self) -> str:
        return self.name


class DeploymentRevision(Created):
    """What a deployment was set to by somebody at some time; rows never change, and the newest are kept.

    `restored` is the number of the revision that was brought back by this one.
    """

    id = id_field("rvn")
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="revisions")
    number = models.PositiveIntegerField()
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="+")
    replicas = models.PositiveIntegerField()
    weights = models.CharField(max_length=16)
    kv_dtype = models.CharField(max_length=16, default=AUTO, db_default=AUTO)
    restored = models.PositiveIntegerField(null=True, blank=True)
    actor_id = models.CharField(max_length=32, blank=True)
    actor_label = models.CharField(max_length=200)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["deployment", "number"], name="one_deployment_revision")
        ]

    def __str__(self) -> str:
        return f"{self.deployment_id} #{self.number}"


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


# Time that will be billed and is not yet: of an interval that goes on, or of one that ended behind what is billed.
UNBILLED = models.Q(ended_at=None, billed_until__isnull=False) | models.Q(
    billed_until__lt=models.F("ended_at")
)


class ReplicaInterval(models.Model):
    """A time for which one engine process held its device: from its first heartbeat to its last, gaps excluded.

    It names everything by id, so that it outlives replica and deployment. `engine_us` is the engine's own count of
    computing time at the last look. `ready_at` is the first heartbeat at which it could answer, null while it never
    could: nobody pays for the time before. `billed_until` is how far its hours are posted or parked; null until it is
    ready, and for a replica of the operator's, which everybody shares and nobody pays for by the hour.
    """

    id = models.BigAutoField(primary_key=True)
    organisation_id = models.CharField(max_length=32)
    deployment_id = models.CharField(max_length=32)
    model_id = models.CharField(max_length=32)
    replica_name = models.CharField(max_length=80)
    pid = models.IntegerField()
    restarts = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    ready_at = models.DateTimeField(null=True, blank=True)
    last_seen_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    engine_us = models.BigIntegerField(default=0)
    looked_at = models.DateTimeField(null=True, blank=True)
    billed_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["last_seen_at"], name="deployments_interval_seen"),
            models.Index(fields=["billed_until"], condition=UNBILLED, name="deployments_unbilled"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["replica_name"], condition=models.Q(ended_at=None), name="one_open_interval"
            ),
            models.CheckConstraint(
                condition=models.Q(billed_until=None) | models.Q(ready_at__isnull=False),
                name="billed_when_ready",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.replica_name} from {self.started_at:%Y-%m-%d %H:%M}"

    @property
    def billed_from(self) -> datetime:
        """Where the milliseconds begin that are billed; asked of intervals that are."""
        return self.ready_at or self.started_at


class ReplicaHour(models.Model):
    """How much of an hour (UTC) an engine was asked about, and how much of that it computed; microseconds."""

    id = models.BigAutoField(primary_key=True)
    interval = models.ForeignKey(ReplicaInterval, on_delete=models.CASCADE, related_name="hours")
    hour = models.DateTimeField()
    busy_us = models.BigIntegerField(default=0)
    looked_us = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["interval", "hour"], name="one_replica_hour")]
        indexes = [models.Index(fields=["hour"], name="deployments_replica_hour")]

    def __str__(self) -> str:
        return f"{self.interval_id} at {self.hour:%Y-%m-%d %H}h"


class GpuHour(models.Model):
    """What one replica of an organisation's own deployment held in an hour (UTC): posted to the ledger, or parked.

    `parts` are the price versions in force with the milliseconds under each and the price of one. A parked hour costs
    nothing until its `reason` is mended, or for good once the operator has given it up.
    """

    class State(models.TextChoices):
        POSTED = "posted"
        PARKED = "parked"
        GIVEN_UP = "given_up"

    id = models.BigAutoField(primary_key=True)
    interval = models.ForeignKey(ReplicaInterval, on_delete=models.PROTECT, related_name="gpu_hours")
    hour = models.DateTimeField()
    organisation_id = models.CharField(max_length=32)
    deployment_id = models.CharField(max_length=32)
    deployment_name = models.CharField(max_length=64)
    model_id = models.CharField(max_length=32)
    held_ms = models.BigIntegerField()
    state = models.CharField(max_length=8, choices=State.choices)
    parts = models.JSONField(default=list)
    cost_picousd = models.BigIntegerField(default=0)
    reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = OrgQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["interval", "hour"], name="one_gpu_hour")]
        indexes = [
            models.Index(fields=["organisation_id", "hour"], name="deployments_gpu_hour_owner"),
            models.Index(fields=["hour"], name="deployments_gpu_hour"),
            models.Index(fields=["id"], condition=models.Q(state="parked"), name="deployments_gpu_parked"),
        ]

    def __str__(self) -> str:
        return f"{self.deployment_name} at {self.hour:%Y-%m-%d %H}h: {self.state}"

    @property
    def source_id(self) -> str:
        """The one cause under which the ledger may ever charge it."""
        return f"{self.interval_id}:{self.hour.astimezone(UTC):%Y-%m-%dT%H}"


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


class DeploymentSpeed(models.Model):
    """How fast a deployment answered in a window of the past, and how many requests it had in its last hour.

    `scope` is an organisation, whose own requests these are; or one of the two below. `hour_requests` is null where it
    would give an organisation away. Figures of too few requests are null.
    """

    # Of all organisations, in figures that give none away; and of all, for whoever runs the installation.
    EVERYBODY, OPERATOR = "", "*"

    id = models.BigAutoField(primary_key=True)
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="speeds")
    scope = models.CharField(max_length=32, blank=True)
    window_start = models.DateTimeField()
    window_end = models.DateTimeField()
    samples = models.PositiveIntegerField()
    first_token_samples = models.PositiveIntegerField()
    duration_p50_ms = models.FloatField(null=True)
    duration_p95_ms = models.FloatField(null=True)
    first_token_p50_ms = models.FloatField(null=True)
    first_token_p95_ms = models.FloatField(null=True)
    hour_requests = models.PositiveIntegerField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["deployment", "scope"], name="one_deployment_speed"),
        ]

    def __str__(self) -> str:
        return f"{self.deployment_id}: {self.samples}"
