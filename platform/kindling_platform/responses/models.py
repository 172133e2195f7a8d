"""Answers of the Responses route that are kept, and for how long; the gateway writes and reads them by SQL.

And conversations that people of an organisation share with each other, which are kept for as long.
"""

from django.db import models

from kindling_platform.accounts.models import User
from kindling_platform.common.models import OrgQuerySet

ID = 64


class StoredResponse(models.Model):
    """One response and the items it was asked with. Both are JSON as bytes: a text of theirs may hold any character.

    While `status` is running it is made in the background by a process that renews the lease; it has died when it does
    not.
    """

    id = models.CharField(primary_key=True, max_length=ID)
    organisation_id = models.CharField(max_length=32)
    key_id = models.CharField(max_length=32)
    previous_id = models.CharField(max_length=128, blank=True)
    body = models.BinaryField()
    input = models.BinaryField()
    status = models.CharField(max_length=8, default="ended", db_default="ended")
    leased_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)

    objects = OrgQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["organisation_id", "-created_at"])]

    def __str__(self) -> str:
        return self.id


class Retention(models.Model):
    """How many days an organisation keeps its responses; 0 keeps none. Without a row the default holds."""

    organisation_id = models.CharField(primary_key=True, max_length=32)
    days = models.PositiveSmallIntegerField()

    objects = OrgQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.organisation_id}: {self.days} days"


class SharedConversation(models.Model):
    """A conversation of the playground that everybody of the organisation who may use it can open.

    `title` and `body` are sealed; `size_bytes` is what the body had in the clear.
    """

    id = models.CharField(primary_key=True, max_length=32)
    organisation_id = models.CharField(max_length=32)
    made_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    model_refs = models.JSONField()
    title = models.BinaryField()
    body = models.BinaryField()
    size_bytes = models.PositiveIntegerField()
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)

    objects = OrgQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["organisation_id", "-created_at", "-id"], name="responses_shared_of_org")
        ]

    def __str__(self) -> str:
        return self.id
