"""API keys; the key itself is never stored."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from kindling_platform.accounts.models import Organisation, User
from kindling_platform.common.models import Created, OrgQuerySet, id_field

SCOPES = ("inference", "read", "manage")


class ApiKey(Created):
    """A key of an organisation: an HMAC digest, and as much of the text as helps to recognise it."""

    class Kind(models.TextChoices):
        USER = "user"
        PLAYGROUND = "playground"
        BOOTSTRAP = "bootstrap"

    id = id_field("key")
    organisation = models.ForeignKey(Organisation, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=80)
    digest = models.BinaryField(max_length=32, unique=True)
    pepper_id = models.CharField(max_length=16)
    prefix = models.CharField(max_length=12)
    last4 = models.CharField(max_length=4)
    scopes = ArrayField(models.CharField(max_length=16))
    kind = models.CharField(max_length=16, choices=Kind.choices, default=Kind.USER)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")

    objects = OrgQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["organisation", "-created_at"])]

    def __str__(self) -> str:
        return f"{self.prefix}…{self.last4}"
