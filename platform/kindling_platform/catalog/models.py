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
    # Whether organisations may deploy it for themselves, on machines that they then pay for by the hour.
    deployable = models.BooleanField(default=False, db_default=False)

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


class ModelSpeed(models.Model):
    """How fast a model answered in a span, measured anew every minute or so (`deployments.speeds`).

    `organisation_id` is whose requests they were; "" are everybody's by the model's own deployments, of which `samples`
    are rounded down. Each figure has its own number of samples, and is null where those were too few. Of a hundred
    requests 95 were done within a p95 of times, and were made at least as fast as a p95 of tokens per second says.
    """

    id = models.BigAutoField(primary_key=True)
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="speeds")
    organisation_id = models.CharField(max_length=32, blank=True)
    window_start = models.DateTimeField()
    window_end = models.DateTimeField()
    samples = models.PositiveIntegerField()
    first_token_samples = models.PositiveIntegerField()
    tokens_per_s_samples = models.PositiveIntegerField()
    duration_p50_ms = models.FloatField()
    duration_p95_ms = models.FloatField(null=True)
    first_token_p50_ms = models.FloatField(null=True)
    first_token_p95_ms = models.FloatField(null=True)
    tokens_per_s_p50 = models.FloatField(null=True)
    tokens_per_s_p95 = models.FloatField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model", "organisation_id"], name="one_model_speed"),
        ]
        indexes = [models.Index(fields=["organisation_id"], name="catalog_speed_owner")]

    def __str__(self) -> str:
        return f"{self.model_id}: {self.samples}"

    @property
    def is_everybodys(self) -> bool:
        """Whether it was measured over all organisations."""
        return not self.organisation_id
