"""Where organisations want to hear of what happens, what happened, and how each sending of it went."""

from django.db import models

from kindling_platform.accounts.models import Organisation
from kindling_platform.common.models import Created, OrgQuerySet, id_field
from kindling_platform.hooks.kinds import DESCRIPTION_CHARS, URL_CHARS

REASON_CHARS, ANSWER_CHARS = 300, 1024


class Endpoint(Created):
    """An address of an organisation; an empty list of `events` is every kind.

    Its secret is sealed (`hooks.secret`). After a rotation the old one signs beside it until `old_secret_until`.
    `failing_since` is the first of the failures behind which nothing has succeeded. `off_reason` is empty where a
    person switched it off.
    """

    id = id_field("whk")
    organisation = models.ForeignKey(Organisation, on_delete=models.CASCADE, related_name="webhooks")
    url = models.CharField(max_length=URL_CHARS)
    description = models.CharField(max_length=DESCRIPTION_CHARS, blank=True)
    events = models.JSONField(default=list)
    enabled = models.BooleanField(default=True)
    enabled_at = models.DateTimeField()
    off_reason = models.CharField(max_length=REASON_CHARS, blank=True)
    secret_sealed = models.BinaryField()
    old_secret_sealed = models.BinaryField(null=True)
    old_secret_until = models.DateTimeField(null=True)
    failing_since = models.DateTimeField(null=True)

    objects = OrgQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["organisation", "-created_at"], name="hooks_endpoint_of_org")]

    def __str__(self) -> str:
        return self.id


class Event(Created):
    """Something that happened; its id goes with every attempt to tell of it. With a `key` it is written once."""

    id = id_field("evt")
    organisation = models.ForeignKey(Organisation, on_delete=models.CASCADE, related_name="+")
    type = models.CharField(max_length=40)
    key = models.CharField(max_length=120, null=True)
    data = models.JSONField(default=dict)

    objects = OrgQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organisation", "key"], name="one_hook_event")]
        indexes = [models.Index(fields=["created_at"], name="hooks_event_old")]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"


class Delivery(Created):
    """An event on its way to one endpoint. `asked_at` is when somebody asked for it by hand, as for a test."""

    class State(models.TextChoices):
        WAITING = "waiting"
        DELIVERED = "delivered"
        FAILED = "failed"

    id = id_field("dlv")
    organisation = models.ForeignKey(Organisation, on_delete=models.CASCADE, related_name="+")
    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="deliveries")
    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="deliveries")
    state = models.CharField(max_length=9, choices=State.choices, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField()
    asked_at = models.DateTimeField(null=True)
    attempted_at = models.DateTimeField(null=True)
    took_ms = models.PositiveIntegerField(null=True)
    status_code = models.PositiveSmallIntegerField(null=True)
    answer = models.CharField(max_length=ANSWER_CHARS, blank=True)
    error = models.CharField(max_length=REASON_CHARS, blank=True)
    lease_token = models.CharField(max_length=32, blank=True)
    lease_expires_at = models.DateTimeField(null=True)

    objects = OrgQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["endpoint", "event"], name="one_hook_delivery")]
        indexes = [
            models.Index(fields=["endpoint", "-created_at", "-id"], name="hooks_delivery_newest"),
            models.Index(
                fields=["endpoint", "due_at", "id"],
                name="hooks_delivery_due",
                condition=models.Q(state="waiting"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.state}"
