"""A new API key."""

from datetime import datetime, timedelta
from typing import Any

from django import forms

SCOPES = [
    ("inference", "Inference", "call models and adapters under /v1"),
    ("read", "Read", "see adapters, deployments, usage and balance over the API"),
    (
        "manage",
        "Manage",
        "change what you may change yourself over the API, adapters, keys and deployments among it",
    ),
]
OPERATOR_SCOPE = (
    "operator", "Operator", "with Read and Manage: see and change the whole installation, money included"
)  # fmt: skip
LIFETIMES = [
    ("", "Never"),
    ("7", "In 7 days"),
    ("30", "In 30 days"),
    ("90", "In 90 days"),
    ("365", "In a year"),
]


OVERLAPS = [
    ("0", "At once"),
    ("3600", "In an hour"),
    ("86400", "In a day"),
    ("604800", "In a week"),
]


class KeyRotateForm(forms.Form):
    """How long the old key goes on beside its successor."""

    overlap = forms.ChoiceField(
        choices=OVERLAPS, initial="86400", label="The old key ends",
        help_text="Until then both work, so that programs can change over one by one.",
        widget=forms.Select(attrs={"class": "form-select"}),
    )  # fmt: skip

    def chosen(self) -> timedelta:
        return timedelta(seconds=int(self.cleaned_data["overlap"]))


class KeyForm(forms.Form):
    """Name, scopes and lifetime."""

    name = forms.CharField(
        max_length=80, label="Name", help_text="What will use it, for example “laptop” or “staging”."
    )
    scopes = forms.MultipleChoiceField(label="Scopes", initial=["inference"])
    expires = forms.ChoiceField(choices=LIFETIMES, required=False, label="Expires")

    def __init__(self, *args: Any, may_operate: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scope_help = [*SCOPES, OPERATOR_SCOPE] if may_operate else SCOPES
        scopes = self.fields["scopes"]
        if isinstance(scopes, forms.MultipleChoiceField):
            scopes.choices = [(scope, label) for scope, label, _ in self.scope_help]

    def expires_at(self, moment: datetime) -> datetime | None:
        """When the key ends, counted from now; None for never."""
        days = self.cleaned_data["expires"]
        return moment + timedelta(days=int(days)) if days else None

    def chosen_scopes(self) -> list[str]:
        """The scopes to show as ticked."""
        value = self["scopes"].value()
        return list(value or [])
