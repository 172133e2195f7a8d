"""LoRA adapters and the files they arrive in."""

from django.db import models

from kindling_platform.accounts.models import Organisation, User
from kindling_platform.catalog.models import Model
from kindling_platform.common.clock import now
from kindling_platform.common.models import Created, OrgQuerySet, id_field


class Adapter(Created):
    """An adapter of an organisation on a base model; its identity in the engine is its content hash."""

    class State(models.TextChoices):
        UPLOADING = "uploading"
        VALIDATING = "validating"
        REJECTED = "rejected"
        READY = "ready"
        DELETED = "deleted"

    id = id_field("adp")
    organisation = models.ForeignKey(Organisation, on_delete=models.CASCADE, related_name="adapters")
    base = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="adapters")
    name = models.CharField(max_length=96)
    state = models.CharField(max_length=16, choices=State.choices, default=State.UPLOADING)
    reason = models.CharField(max_length=300, blank=True)
    content_hash = models.CharField(max_length=64, blank=True)
    rank = models.PositiveIntegerField(null=True, blank=True)
    size_bytes = models.BigIntegerField(default=0)
    report = models.JSONField(default=dict)
    error_code = models.CharField(max_length=64, blank=True)
    error = models.CharField(max_length=500, blank=True)
    created_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    completed_at = models.DateTimeField(null=True, blank=True)
    ready_at = models.DateTimeField(null=True, blank=True)
    lease_token = models.CharField(max_length=32, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)

    objects = OrgQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organisation", "name"], condition=~models.Q(state="deleted"), name="one_adapter_name"
            )
        ]
        indexes = [models.Index(fields=["organisation", "-created_at"])]

    def __str__(self) -> str:
        return self.ref

    @property
    def ref(self) -> str:
        """The name that clients use: `organisation/name`."""
        return f"{self.organisation.slug}/{self.name}"

    @property
    def hub(self) -> "HubFetch | None":
        """Where its files come from, if it was not somebody who sent them."""
        found: HubFetch | None = getattr(self, "hub_fetch", None)
        return found


class HubFetch(models.Model):
    """An adapter's files on their way from the Hugging Face Hub, and afterwards the note of where they were."""

    adapter = models.OneToOneField(
        Adapter, on_delete=models.CASCADE, primary_key=True, related_name="hub_fetch"
    )
    repo_id = models.CharField(max_length=96)
    revision = models.CharField(max_length=128, blank=True)
    # What the revision was when the first file was asked for; all of them are of it.
    commit = models.CharField(max_length=64, blank=True)
    # Only while the files are on their way.
    sealed_token = models.BinaryField(default=b"", blank=True)
    # In a row, without a byte between them.
    failures = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(default=now)
    stepped_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.repo_id}@{self.commit or self.revision or 'main'}"


class AdapterFile(models.Model):
    """One file of an upload, and how much of it has arrived."""

    adapter = models.ForeignKey(Adapter, on_delete=models.CASCADE, related_name="files")
    name = models.CharField(max_length=120)
    size_bytes = models.BigIntegerField()
    received_bytes = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["adapter", "name"], name="one_file_name")]

    def __str__(self) -> str:
        return self.name


class ModelAlias(Created):
    """Another name that an organisation's clients may use for one of the models it can call."""

    id = id_field("als")
    organisation = models.ForeignKey(Organisation, on_delete=models.CASCADE, related_name="aliases")
    alias = models.CharField(max_length=200)
    target = models.CharField(max_length=200)

    objects = OrgQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organisation", "alias"], name="one_alias")]

    def __str__(self) -> str:
        return f"{self.alias} → {self.target}"
