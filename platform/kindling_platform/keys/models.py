"""API keys, of which the key itself is never stored, and the limits of organisations, members and keys."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from kindling_platform.accounts.models import Organisation, User
from kindling_platform.common.models import Created, OrgQuerySet, id_field

SCOPES = ("inference", "read", "manage")
# Widens `read` and `manage` to the whole installation; for keys of the operator's organisation alone.
OPERATOR_SCOPE = "operator"


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
    # What the key may call, as <organisation>/<name>; null is everything the organisation may.
    model_refs = ArrayField(models.CharField(max_length=120), null=True, blank=True)
    # Grows whenever the key changes, so that whoever remembers it can tell that it has.
    epoch = models.BigIntegerField(default=1)
    # A key that was rotated keeps the limits and the budget of the first one.
    family = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    # The role that its maker has at the moment; known where `selectors.key_find` has found it.
    maker_role: str | None = None

    objects = OrgQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["organisation", "-created_at"])]

    def __str__(self) -> str:
        return f"{self.prefix}…{self.last4}"

    @property
    def family_key_id(self) -> str:
        """The id of the key whose limits this one has."""
        return self.family_id or self.id


def default_alerts() -> list[int]:
    """Shares of a budget, in per cent, at which its people are told."""
    return [50, 80, 100]


class LimitSet(Created):
    """Limits of an organisation, of one of its members, or of a key and its successors; null is no limit."""

    class Scope(models.TextChoices):
        ORGANISATION = "organisation"
        MEMBER = "member"
        KEY = "key"

    id = id_field("lim")
    organisation = models.ForeignKey(Organisation, on_delete=models.CASCADE, related_name="limit_sets")
    member = models.ForeignKey(User, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    key = models.ForeignKey(ApiKey, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    requests_per_minute = models.BigIntegerField(null=True, blank=True)
    prompt_tokens_per_minute = models.BigIntegerField(null=True, blank=True)
    uncached_tokens_per_minute = models.BigIntegerField(null=True, blank=True)
    generated_tokens_per_minute = models.BigIntegerField(null=True, blank=True)
    concurrent_requests = models.BigIntegerField(null=True, blank=True)
    budget_day_picousd = models.BigIntegerField(null=True, blank=True)
    budget_month_picousd = models.BigIntegerField(null=True, blank=True)
    budget_total_picousd = models.BigIntegerField(null=True, blank=True)
    alert_percents = ArrayField(models.PositiveSmallIntegerField(), default=default_alerts)

    objects = OrgQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organisation", "member", "key"], nulls_distinct=False, name="one_limit_set"
            ),
            models.CheckConstraint(
                condition=models.Q(member=None) | models.Q(key=None), name="limits_of_a_member_or_a_key"
            ),
        ]

    def __str__(self) -> str:
        return f"limits of {self.scope} {self.target_id}"

    @property
    def scope(self) -> str:
        if self.key_id:
            return self.Scope.KEY
        return self.Scope.MEMBER if self.member_id else self.Scope.ORGANISATION

    @property
    def target_id(self) -> str:
        """The id of whom the limits bind."""
        return self.key_id or self.member_id or self.organisation_id

    @property
    def scope_name(self) -> str:
        """The scope's name where spending is counted; a person may be a member of several organisations."""
        member = f"{self.organisation_id}:{self.member_id}"
        return f"{self.scope}:{member if self.scope == self.Scope.MEMBER else self.target_id}"


class BudgetAlert(Created):
    """A share of a budget that was reached in a period (a day, a month, or `total`); told once.

    A letter that the mail server has refused waits for a person; `trouble` is what it said.
    """

    id = id_field("alt")
    organisation = models.ForeignKey(Organisation, on_delete=models.CASCADE, related_name="budget_alerts")
    limit_set = models.ForeignKey(LimitSet, on_delete=models.CASCADE, related_name="alerts")
    period = models.CharField(max_length=8)
    percent = models.PositiveSmallIntegerField()
    budget_picousd = models.BigIntegerField()
    spent_picousd = models.BigIntegerField()
    sent_at = models.DateTimeField(null=True, blank=True)
    refused_at = models.DateTimeField(null=True, blank=True)
    trouble = models.CharField(max_length=300, blank=True, default="", db_default="")

    objects = OrgQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["limit_set", "period", "percent"], name="one_budget_alert")
        ]
        indexes = [
            models.Index(fields=["created_at"], condition=models.Q(sent_at=None), name="alerts_to_send")
        ]

    def __str__(self) -> str:
        return f"{self.percent} % of {self.limit_set_id} in {self.period}"
