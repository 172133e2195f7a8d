"""Prompts and answers of organisations that want them kept; gateways write them by SQL, sealed."""

from django.db import models

from kindling_platform.common.models import OrgQuerySet

ID = 32


class LogSetting(models.Model):
    """For how many days an organisation keeps prompts and answers; 0, and no row, keep none.

    Whoever inserts or deletes kept requests of an organisation locks its row first, so that nothing is kept behind a
    switch-off.
    """

    organisation_id = models.CharField(primary_key=True, max_length=ID)
    days = models.PositiveSmallIntegerField()

    objects = OrgQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.organisation_id}: {self.days} days"


class LoggedRequest(models.Model):
    """One request with what was said, sealed (`requestlog.seal`); `size_bytes` is what both had in the clear."""

    request_id = models.UUIDField(primary_key=True)
    organisation_id = models.CharField(max_length=ID)
    key_id = models.CharField(max_length=ID)
    model_name = models.CharField(max_length=160, blank=True)
    route = models.CharField(max_length=24)
    status = models.PositiveSmallIntegerField()
    size_bytes = models.PositiveIntegerField()
    sealed = models.BinaryField()
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)

    objects = OrgQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(
                fields=["organisation_id", "-created_at", "-request_id"], name="requestlog_of_organisation"
            )
        ]

    def __str__(self) -> str:
        return str(self.request_id)
