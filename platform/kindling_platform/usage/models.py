"""What was used: one event per request, sums by the hour, and how far each engine's log was read."""

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models

from kindling_platform.common.models import OrgQuerySet

ID = 32


class UsageEvent(models.Model):
    """One request as its engine logged it, rated. Everything else is referred to by id, so that a row outlives it."""

    request_id = models.UUIDField(primary_key=True)
    organisation_id = models.CharField(max_length=ID)
    key_id = models.CharField(max_length=ID)
    model_id = models.CharField(max_length=ID)
    model_name = models.CharField(max_length=160)
    adapter_id = models.CharField(max_length=ID, blank=True)
    adapter_hash = models.CharField(max_length=64, blank=True)
    deployment_id = models.CharField(max_length=ID, blank=True)
    replica_name = models.CharField(max_length=80)
    prompt_tokens = models.PositiveIntegerField()
    cached_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField()
    reasoning_tokens = models.PositiveIntegerField(default=0, db_default=0)
    batch = models.BooleanField(default=False, db_default=False)
    finish = models.CharField(max_length=24)
    billable = models.BooleanField()
    price_version_id = models.CharField(max_length=ID, blank=True)
    cost_picousd = models.BigIntegerField()
    started_at = models.DateTimeField()
    first_token_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField()

    objects = OrgQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["organisation_id", "-finished_at", "-request_id"]),
            models.Index(fields=["adapter_id", "-finished_at"]),
            # For all organisations' requests of some days: previews, proofs, rebuilding.
            BrinIndex(fields=["finished_at"], name="usage_event_by_time", autosummarize=True),
            # Whether there is batch work in a span, which sums do not tell apart.
            models.Index(
                fields=["finished_at"], name="usage_event_of_batches", condition=models.Q(batch=True)
            ),
        ]

    def __str__(self) -> str:
        return str(self.request_id)


class Sums(models.Model):
    """What is summed of requests; times are milliseconds, `timed` are those that had a first token."""

    requests = models.BigIntegerField(default=0)
    failed = models.BigIntegerField(default=0)
    prompt_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    completion_tokens = models.BigIntegerField(default=0)
    duration_ms = models.BigIntegerField(default=0)
    first_token_ms = models.BigIntegerField(default=0)
    timed = models.BigIntegerField(default=0)
    cost_picousd = models.DecimalField(max_digits=38, decimal_places=0, default=0)

    objects = OrgQuerySet.as_manager()

    class Meta:
        abstract = True


class SplitSums(Sums):
    """Sums of one organisation by model, adapter, key and outcome."""

    organisation_id = models.CharField(max_length=ID)
    model_id = models.CharField(max_length=ID)
    adapter_id = models.CharField(max_length=ID, blank=True)
    key_id = models.CharField(max_length=ID)
    finish = models.CharField(max_length=24, blank=True)

    class Meta:
        abstract = True


class UsageHour(SplitSums):
    """Sums of an hour (UTC), or a part of one (`usage.steps`), by model, adapter, key and outcome."""

    hour = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organisation_id", "hour", "model_id", "adapter_id", "key_id", "finish"],
                name="one_usage_hour",
            )
        ]

    def __str__(self) -> str:
        return f"{self.organisation_id} {self.hour:%Y-%m-%d %Hh%M}"


class UsageDay(SplitSums):
    """The same for a whole day of UTC, for spans that are many hours long."""

    day = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organisation_id", "day", "model_id", "adapter_id", "key_id", "finish"],
                name="one_usage_day",
            )
        ]

    def __str__(self) -> str:
        return f"{self.organisation_id} {self.day:%Y-%m-%d}"


class SeriesSums(Sums):
    """Sums of one organisation by one thing alone: a model, an adapter, a key, an outcome, or nothing (`all`)."""

    organisation_id = models.CharField(max_length=ID)
    facet = models.CharField(max_length=8)
    value = models.CharField(max_length=ID, blank=True)

    class Meta:
        abstract = True


class UsageSeries(SeriesSums):
    """Sums of an hour (UTC), or a part of one, by one thing alone; for charts."""

    step = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organisation_id", "facet", "step", "value"], name="one_usage_series_step"
            )
        ]
        # For what the operator asks of all organisations.
        indexes = [models.Index(fields=["facet", "step"], name="usage_series_by_step")]

    def __str__(self) -> str:
        return f"{self.organisation_id} {self.facet} {self.value} {self.step:%Y-%m-%d %Hh%M}"


class UsageSeriesDay(SeriesSums):
    """The same for a whole day of UTC."""

    day = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organisation_id", "facet", "day", "value"], name="one_usage_series_day"
            )
        ]

    def __str__(self) -> str:
        return f"{self.organisation_id} {self.facet} {self.value} {self.day:%Y-%m-%d}"


class RetiredUsage(models.Model):
    """Requests of a day (UTC) that were deleted when they were old enough, by model and by whether it was batch work.

    Tokens are those of requests that were billable. Rows without a model are older than this table's knowledge of
    models: they have the number and the cost alone, and no batch work, which was not done yet.
    """

    organisation_id = models.CharField(max_length=ID)
    day = models.DateField()
    model_id = models.CharField(max_length=ID, blank=True, default="", db_default="")
    batch = models.BooleanField(default=False, db_default=False)
    requests = models.BigIntegerField()
    failed = models.BigIntegerField(default=0, db_default=0)
    prompt_tokens = models.BigIntegerField(default=0, db_default=0)
    cached_tokens = models.BigIntegerField(default=0, db_default=0)
    completion_tokens = models.BigIntegerField(default=0, db_default=0)
    reasoning_tokens = models.BigIntegerField(default=0, db_default=0)
    cost_picousd = models.DecimalField(max_digits=38, decimal_places=0)

    objects = OrgQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organisation_id", "day", "model_id", "batch"], name="one_retired_usage_part"
            )
        ]
        indexes = [models.Index(fields=["day"], name="usage_retired_by_day")]

    def __str__(self) -> str:
        return f"{self.organisation_id} {self.day}"


class UsageCursor(models.Model):
    """How far a replica's usage log was ingested."""

    source = models.CharField(max_length=80, primary_key=True)
    log_id = models.CharField(max_length=36)
    offset = models.BigIntegerField(default=0)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.source}@{self.offset}"


class Feedback(models.Model):
    """What somebody thought of an answer; it may come before the answer's usage event."""

    organisation_id = models.CharField(max_length=ID)
    request_id = models.UUIDField()
    key_id = models.CharField(max_length=ID)
    score = models.FloatField(null=True, blank=True)
    label = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = OrgQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organisation_id", "request_id"], name="one_feedback_per_request")
        ]
        indexes = [models.Index(fields=["created_at"])]

    def __str__(self) -> str:
        return f"{self.request_id}: {self.score}"


class ParkedUsage(models.Model):
    """A record that cannot be billed yet, kept whole with the reason, for the operator to see."""

    request_id = models.UUIDField(primary_key=True)
    source = models.CharField(max_length=80)
    reason = models.CharField(max_length=200)
    record = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.request_id}: {self.reason}"


class SpooledUsage(models.Model):
    """What a gateway says of a request: the bill's first witness. Gateways write it by SQL, once per request.

    `record` is a usage record as JSON. Verdicts: closed, the counts are final; cut and open, the engine's log knows
    them; void, the failure is ours. `logged_at` is when the second witness, the engine's log, was heard.
    """

    request_id = models.UUIDField(primary_key=True)
    source = models.CharField(max_length=80)
    verdict = models.CharField(max_length=8)
    record = models.TextField()
    shipped_at = models.DateTimeField()
    booked_at = models.DateTimeField(null=True, blank=True)
    logged_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["shipped_at"]),
            models.Index(
                fields=["shipped_at"], condition=models.Q(booked_at=None), name="usage_spooled_not_booked"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.request_id}: {self.verdict}"


class WitnessDrift(models.Model):
    """A request of which gateway and engine say different things; what was booked stays."""

    request_id = models.UUIDField(primary_key=True)
    organisation_id = models.CharField(max_length=ID)
    kind = models.CharField(max_length=16)
    booked = models.JSONField()
    logged = models.JSONField()
    found_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.request_id}: {self.kind}"


class IdempotentReply(models.Model):
    """A request sent with an Idempotency-Key, and its answer, sealed. Gateways write and read it by SQL, and the
    control API keeps its own here, whole from the first.

    While `status` is 0 the request runs, as long as its process renews the lease. `earlier` are the ids of attempts
    whose processes died: they are free.
    """

    digest = models.BinaryField(primary_key=True, max_length=32)
    organisation_id = models.CharField(max_length=ID)
    fingerprint = models.BinaryField(max_length=32)
    request_id = models.UUIDField()
    earlier = ArrayField(models.UUIDField(), default=list)
    status = models.PositiveSmallIntegerField(default=0)
    answer = models.BinaryField(null=True)
    leased_until = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)

    objects = OrgQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.request_id}: {self.status}"
