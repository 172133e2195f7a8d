"""Models that can be served."""

from django.db import models

from kindling_platform.accounts.models import Organisation
from kindling_platform.common.models import Created, OrgQuerySet, id_field


class Model(Created):
    """A base model: a folder in Hugging Face's format, known by the hash of its files."""

    id = id_field("mdl")
    organisation = models.ForeignKey(Organisation, on_delete=models.PROTECT, related_name="models")
    name = models.CharField(max_length=96)
    display_name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    architecture = models.CharField(max_length=80)
    task = models.CharField(max_length=16, default="generate")
    context_length = models.PositiveIntegerField()
    parameters = models.BigIntegerField()
    vocab_size = models.PositiveIntegerField()
    vocabulary_hash = models.CharField(max_length=64, blank=True)
    shapes = models.JSONField(default=dict)
    licence = models.CharField(max_length=80, blank=True)
    source_path = models.CharField(max_length=500)
    revision = models.CharField(max_length=64)
    is_public = models.BooleanField(default=False)
    is_stand_in = models.BooleanField(default=False)
    chat_ready = models.BooleanField(default=True, db_default=True)
    lora_ready = models.BooleanField(default=True)

    objects = OrgQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organisation", "name"], name="one_model_name")]

    def __str__(self) -> str:
        return self.ref

    @property
    def ref(self) -> str:
        """The name that clients use: `organisation/name`."""
        return f"{self.organisation.slug}/{self.name}"

    @property
    def surface(self) -> str:
        """Where its tokens come from: chat, completions (of a base model, which has no chat template), embeddings."""
        if self.task == "embed":
            return "embeddings"
        return "chat" if self.chat_ready else "completions"
