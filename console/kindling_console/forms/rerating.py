"""What the operator asks for when usage is rated anew."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms

from kindling_platform.common.clock import now


class RateAnewForm(forms.Form):
    """A model, a span of whole days (UTC), one organisation or all, and the reason that customers will read."""

    model = forms.ChoiceField(label="Model")
    organisation = forms.CharField(
        max_length=48, required=False, label="Organisation", help_text="Its slug; empty for all."
    )
    start = forms.DateField(label="First day", widget=forms.DateInput(attrs={"type": "date"}))
    end = forms.DateField(label="Last day", widget=forms.DateInput(attrs={"type": "date"}))
    reason = forms.CharField(
        max_length=200, required=False, label="Reason", help_text="Customers read it in their ledger."
    )

    def __init__(self, *args: Any, models: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["model"]
        if isinstance(field, forms.ChoiceField):
            field.choices = models
        for name, one in self.fields.items():
            one.widget.attrs["class"] = "form-select mono" if name == "model" else "form-control"

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("start") and cleaned.get("end"):
            cleaned["from"] = datetime.combine(cleaned["start"], time(), UTC)
            # Up to this moment at most: what is yet to come is rated when it comes.
            cleaned["to"] = min(datetime.combine(cleaned["end"], time(), UTC) + timedelta(days=1), now())
            if cleaned["from"] >= cleaned["to"]:
                self.add_error("end", "The last day is not before the first, and the first has begun.")
        return cleaned
