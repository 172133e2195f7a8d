"""A new API key."""

from datetime import datetime, timedelta

from django import forms

SCOPES = [
    ("inference", "Inference", "call models and adapters under /v1"),
    ("read", "Read", "see adapters, deployments, usage and balance over the API"),
    ("manage", "Manage", "upload and delete adapters, make and revoke keys over the API"),
]
LIFETIMES = [
    ("", "Never"),
    ("7", "In 7 days"),
    ("30", "In 30 days"),
    ("90", "In 90 days"),
    ("365", "In a year"),
]


class KeyForm(forms.Form):
    """Name, scopes and lifetime."""

    name = forms.CharField(
        max_length=80, label="Name", help_text="What will use it, for example “laptop” or “staging”."
    )
    scopes = forms.MultipleChoiceField(
        choices=[(scope, label) for scope, label, _ in SCOPES], label="Scopes", initial=["inference"]
    )
    expires = forms.ChoiceField(choices=LIFETIMES, required=False, label="Expires")

    scope_help = SCOPES

    def expires_at(self, moment: datetime) -> datetime | None:
        """When the key ends, counted from now; None for never."""
        days = self.cleaned_data["expires"]
        return moment + timedelta(days=int(days)) if days else None

    def chosen_scopes(self) -> list[str]:
        """The scopes to show as ticked."""
        value = self["scopes"].value()
        return list(value or [])
