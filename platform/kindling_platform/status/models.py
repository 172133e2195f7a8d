"""Whether the parts of the platform answered, minute by minute as sums of days, and what the operator says about it.

Nothing here belongs to an organisation: what is in these tables may be read by everybody.
"""

from django.db import models

from kindling_platform.common.models import Created, id_field

KEY = 64


class ComponentState(models.Model):
    """What the last sample of a component found; `since` is the first sample of the same, without a gap before it."""

    key = models.CharField(max_length=KEY, primary_key=True)
    state = models.CharField(max_length=8)
    note = models.CharField(max_length=200, blank=True)
    since = models.DateTimeField()
    checked_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.key}: {self.state}"


class ComponentDay(models.Model):
    """How many minutes of a day (UTC) a component was found up, limited or down; minutes without a sample are in none.

    `last_minute` is the newest that is counted: a sample of it, or of one before, adds nothing.
    """

    key = models.CharField(max_length=KEY)
    day = models.DateField()
    up = models.PositiveSmallIntegerField(default=0)
    limited = models.PositiveSmallIntegerField(default=0)
    down = models.PositiveSmallIntegerField(default=0)
    last_minute = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "day"], name="one_component_day")]
        indexes = [models.Index(fields=["day"], name="status_component_day")]

    def __str__(self) -> str:
        return f"{self.key} {self.day}"


class Notice(Created):
    """An incident or planned work, in the operator's words; it goes on until `ends_at`. Not shown once withdrawn."""

    class Severity(models.TextChoices):
        PLANNED = "planned", "Planned work"
        LIMITED = "limited", "Limited service"
        OUTAGE = "outage", "Outage"

    id = id_field("ntc")
    title = models.CharField(max_length=120)
    text = models.TextField(max_length=2000)
    severity = models.CharField(max_length=8, choices=Severity.choices)
    begins_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField()
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["-begins_at"], name="status_notice_begins")]

    def __str__(self) -> str:
        return self.title


class NoticeUpdate(Created):
    """What became known after a notice was written."""

    id = id_field("ntu")
    notice = models.ForeignKey(Notice, on_delete=models.CASCADE, related_name="updates")
    text = models.TextField(max_length=2000)

    def __str__(self) -> str:
        return self.text[:80]
