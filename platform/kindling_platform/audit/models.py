"""Who changed what, when; rows are only ever added."""

from django.db import models

from kindling_platform.common.models import Created, OrgQuerySet, id_field


class AuditEvent(Created):
    """One change, by whom, to what. The organisation is an id, since this room lies below accounts."""

    id = id_field("aud")
    organisation_id = models.CharField(max_length=32, blank=True, db_index=True)
    actor_id = models.CharField(max_length=32, blank=True)
    actor_label = models.CharField(max_length=200)
    ip = models.GenericIPAddressField(null=True, blank=True)
    action = models.CharField(max_length=64)
    target = models.CharField(max_length=120)
    data = models.JSONField(default=dict)

    objects = OrgQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["organisation_id", "-created_at"])]

    def __str__(self) -> str:
        return f"{self.action} {self.target}"
