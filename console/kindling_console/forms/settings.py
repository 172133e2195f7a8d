"""What an organisation settles for itself: its name, and the switch of the log of prompts and answers."""

from typing import Any

from django import forms

LOG_CHOICES = (
    (0, "Not kept"), (1, "Kept for 1 day"), (7, "Kept for 7 days"), (30, "Kept for 30 days"), (90, "Kept for 90 days"),
)  # fmt: skip


class OrganisationNameForm(forms.Form):
    """How an organisation is called where people read it."""

    name = forms.CharField(
        label="Name", max_length=120, help_text="People see it here, in letters and in invitations.",
        widget=forms.TextInput(attrs={"class": "form-control", "autocomplete": "organization"}),
    )  # fmt: skip


class RequestLogForm(forms.Form):
    """How many days; to switch it off while something is kept has to be said twice."""

    days = forms.TypedChoiceField(choices=LOG_CHOICES, coerce=int, label="Prompts and answers")
    sure = forms.BooleanField(required=False, label="Delete everything that is kept")

    def __init__(self, data: Any = None, *, days: int, kept: int) -> None:
        super().__init__(data, initial={"days": days})
        self._kept = kept

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("days") == 0 and self._kept and not cleaned.get("sure"):
            text = f"This deletes what is kept of {self._kept:,} request{'' if self._kept == 1 else 's'}. Confirm it."
            self.add_error("sure", text)
        return cleaned
