"""Files and batches of the data plane. Gateways write them by SQL and work through batches; here they are read and
deleted.
"""

from django.db import models

from kindling_platform.common.models import OrgQuerySet

ID = 32
OBJECT_ID = 64
# Of a batch that a gateway still has to do something about.
ACTIVE = ("validating", "in_progress", "finalizing", "cancelling")


class StoredFile(models.Model):
    """A file of an organisation: the input of a batch, or what came of one. Without `is_complete` it is still written
    and nobody can see it.
    """

    id = models.CharField(primary_key=True, max_length=OBJECT_ID)
    organisation_id = models.CharField(max_length=ID)
    key_id = models.CharField(max_length=ID)
    filename = models.CharField(max_length=255)
    purpose = models.CharField(max_length=16)
    size_bytes = models.BigIntegerField()
    is_complete = models.BooleanField()
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)

    objects = OrgQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["organisation_id", "-id"], name="batches_file_of_org")]

    def __str__(self) -> str:
        return self.id


class FilePart(models.Model):
    """A piece of a file, sealed (`batches.seal`), in the order of `number`."""

    file = models.ForeignKey(StoredFile, on_delete=models.CASCADE, related_name="parts")
    number = models.IntegerField()
    sealed = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["file", "number"], name="batches_one_part")]

    def __str__(self) -> str:
        return f"{self.file_id} {self.number}"


class Batch(models.Model):
    """Many requests as one piece of work. `lease` is the gateway's that works on it until `leased_until`.

    `due_at` is when a gateway may look at it again; until then it waits for what `waits_for` names: credit, or room.
    """

    id = models.CharField(primary_key=True, max_length=OBJECT_ID)
    organisation_id = models.CharField(max_length=ID)
    key_id = models.CharField(max_length=ID)
    key_digest = models.BinaryField()
    endpoint = models.CharField(max_length=64)
    input_file_id = models.CharField(max_length=OBJECT_ID)
    output_file_id = models.CharField(max_length=OBJECT_ID, blank=True)
    error_file_id = models.CharField(max_length=OBJECT_ID, blank=True)
    model_name = models.CharField(max_length=160, blank=True)
    metadata = models.JSONField(null=True)
    output_s = models.IntegerField()
    status = models.CharField(max_length=12)
    waits_for = models.CharField(max_length=40, blank=True)
    errors = models.JSONField(null=True)
    total = models.IntegerField()
    completed = models.IntegerField()
    failed = models.IntegerField()
    prompt_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    completion_tokens = models.BigIntegerField()
    reasoning_tokens = models.BigIntegerField()
    stored_bytes = models.BigIntegerField()
    lease = models.UUIDField(null=True)
    leased_until = models.DateTimeField(null=True)
    due_at = models.DateTimeField()
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    in_progress_at = models.DateTimeField(null=True)
    finalizing_at = models.DateTimeField(null=True)
    cancelling_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    objects = OrgQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["organisation_id", "-id"], name="batches_batch_of_org"),
            models.Index(fields=["due_at"], name="batches_batch_due", condition=models.Q(status__in=ACTIVE)),
            models.Index(
                fields=["leased_until"],
                name="batches_batch_leased",
                condition=models.Q(leased_until__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.id


class BatchResult(models.Model):
    """What became of one line of a batch that is not over: a line of its output, sealed."""

    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, related_name="results")
    number = models.IntegerField()
    failed = models.BooleanField()
    sealed = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["batch", "number"], name="batches_one_result")]

    def __str__(self) -> str:
        return f"{self.batch_id} {self.number}"
