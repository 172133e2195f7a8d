"""What the operator enters to know their margins: what an hour costs, what others ask."""

from typing import Any

from django import forms

from kindling_billing.margins import Quote
from kindling_console.forms.prices import PerMillionField, UsdField, moment_field

MOST_PER_HOUR_USD = 10_000


class CostForm(forms.Form):
    """What an hour of a replica costs."""

    cost = UsdField(most_usd=MOST_PER_HOUR_USD, label="An hour of one replica")
    note = forms.CharField(
        max_length=200, required=False, label="What it is",
        help_text="The machine and whose offer, or how you reckon it.",
        widget=forms.TextInput(attrs={"class": "form-control", "autocomplete": "off"}),
    )  # fmt: skip
    valid_from = moment_field(help_text="Empty: from now on. A past date gives past days this cost.")


class QuoteForm(forms.Form):
    """What a provider asks for a model like this one."""

    input = PerMillionField(label="Input")
    cached_input = PerMillionField(label="Cached input", required=False, help_text="Empty: no discount.")
    output = PerMillionField(label="Output")
    source = forms.CharField(
        max_length=200, label="Source", help_text="Who asks it: a name, or the address of their price list.",
        widget=forms.TextInput(attrs={"class": "form-control", "autocomplete": "off"}),
    )  # fmt: skip
    quoted_on = forms.DateField(
        label="Read on",
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date", "class": "form-control"}),
    )

    def quote(self) -> Quote:
        """The three prices, in pico-dollars per token."""
        given: dict[str, Any] = self.cleaned_data
        return Quote(given["input"], given["cached_input"], given["output"])
