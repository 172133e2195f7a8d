"""Who changed what, when and from where; rows are only ever added."""

from django.db import models

from kindling_platform.common.models import Created, OrgQuerySet, id_field


class AuditEvent(Created):
    """One change, by whom, to what. The organisation is an id, since this room lies below accounts.

    `data` says what was done; under `before` and `after` the values that changed, where there were any.
    """

    id = id_field("aud")
    organisation_id = models.CharField(max_length=32, blank=True, db_index=True)
    actor_id = models.CharField(max_length=32, blank=True)
    actor_label = models.CharField(max_length=200)
    ip = models.GenericIPAddressField(null=True, blank=True)
    request_id = models.CharField(max_length=32, blank=True, default="")
    action = models.CharField(max_length=64)
    target = models.CharField(max_length=120)
    data = models.JSONField(default=dict)

    objects = OrgQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["organisation_id", "-created_at"]),
            models.Index(fields=["-created_at", "-id"], name="audit_newest"),
            models.Index(fields=["action", "-created_at"], name="audit_action"),
            models.Index(fields=["target", "-created_at"], name="audit_target"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.target}"
