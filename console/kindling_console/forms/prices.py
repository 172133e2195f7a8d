"""What the operator types about prices, plans and terms; dollars on the page, pico-dollars behind it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django import forms

from kindling_billing.book import Version
from kindling_billing.effects import draft
from kindling_billing.gpu_hours import HOUR_MS, hour_price_plain
from kindling_billing.money import (
    PICO_PER_USD,
    per_million_to_pico,
    pico_to_per_million,
    pico_to_usd_text,
    round_half_even,
)
from kindling_billing.rating import Price
from kindling_billing.terms import MAX_OWN_REPLICAS
from kindling_console.forms.amounts import dollars_typed

Choices = Iterable[tuple[str, str]]
MOST_GPU_HOUR_USD = 10_000


class PerMillionField(forms.CharField):
    """Dollars per million tokens; its clean value is pico-dollars per token, None when it may be and is empty."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=24, **options)
        self.widget.attrs |= {"class": "form-control", "inputmode": "decimal", "autocomplete": "off"}

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        try:
            price = per_million_to_pico(str(text))
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None
        if price > PICO_PER_USD:
            raise forms.ValidationError("A price per token is at most one dollar.")
        return price


class UsdField(forms.CharField):
    """An amount of dollars of zero or more; its clean value is pico-dollars, None when it may be and is empty."""

    def __init__(self, *, most_usd: int, **options: Any) -> None:
        super().__init__(max_length=24, **options)
        self._most_usd = most_usd
        self.widget.attrs |= {"class": "form-control", "inputmode": "decimal", "autocomplete": "off"}

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        try:
            amount = dollars_typed(str(text))
        except ValueError:
            raise forms.ValidationError("Give an amount such as 25 or 0.50.") from None
        if not 0 <= amount <= self._most_usd * PICO_PER_USD:
            raise forms.ValidationError(f"Give an amount from $0 to ${self._most_usd:,}.")
        return amount


def moment_field(*, help_text: str) -> forms.DateTimeField:
    """A moment in UTC, or nothing for now."""
    widget = forms.DateTimeInput(
        format="%Y-%m-%dT%H:%M", attrs={"type": "datetime-local", "class": "form-control"}
    )
    return forms.DateTimeField(label="From (UTC)", required=False, widget=widget, help_text=help_text)


class PriceDraftForm(forms.Form):
    """A price version that is not published yet."""

    model = forms.ChoiceField(widget=forms.Select(attrs={"class": "form-select mono"}))
    plan = forms.ChoiceField(label="For", required=False, widget=forms.Select(attrs={"class": "form-select"}))
    input = PerMillionField(label="Input")
    cached_input = PerMillionField(label="Cached input")
    output = PerMillionField(label="Output")
    reasoning = PerMillionField(
        label="Reasoning", required=False, help_text="Empty: reasoning costs what output costs."
    )
    batch_percent = forms.IntegerField(
        label="Batch work pays, in percent", required=False, min_value=0, max_value=100,
        widget=forms.NumberInput(attrs={"class": "form-control"}),
    )  # fmt: skip
    gpu_hour = UsdField(
        most_usd=MOST_GPU_HOUR_USD, required=False, label="GPU time",
        help_text="An hour of a replica of a customer's own deployment. Empty: as before; 0: no price, none starts.",
    )  # fmt: skip
    valid_from = moment_field(help_text="Empty: from the moment of publishing.")
    corrects = forms.BooleanField(
        required=False, label="It corrects the past",
        help_text="A past date changes nothing that was billed until usage is rated anew.",
    )  # fmt: skip

    def __init__(self, *args: Any, models: Choices, plans: Choices, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _choose(self.fields["model"], models)
        _choose(self.fields["plan"], [("", "Everybody (the book)"), *plans])

    def draft(self, *, at: datetime, gpu_ms: int) -> Version:
        """The version as the price book takes it; it begins at `at`, with `gpu_ms`, unless the form says otherwise."""
        given = self.cleaned_data
        gpu_ms = gpu_ms if given["gpu_hour"] is None else round_half_even(given["gpu_hour"], HOUR_MS)
        batch = given["batch_percent"]
        price = Price(
            given["input"], given["cached_input"], given["output"],
            reasoning=given["reasoning"], gpu_ms=gpu_ms, batch_percent=50 if batch is None else batch,
        )  # fmt: skip
        return draft(
            sku=given["model"], plan_id=given["plan"], valid_from=given["valid_from"] or at, price=price
        )


def price_initial(price: Price | None) -> dict[str, Any]:
    """What the form begins with: the price in force, as people write it."""
    if price is None:
        return {"batch_percent": 50}
    return {
        "input": pico_to_per_million(price.input),
        "cached_input": pico_to_per_million(price.cached_input),
        "output": pico_to_per_million(price.output),
        "reasoning": "" if price.reasoning is None else pico_to_per_million(price.reasoning),
        "batch_percent": price.batch_percent,
        "gpu_hour": gpu_hour_text(price.gpu_ms),
    }


def gpu_hour_text(gpu_ms: int) -> str:
    """A price of a millisecond as dollars per hour, with all digits that it has; "" for none."""
    whole, _, digits = pico_to_usd_text(hour_price_plain(gpu_ms), 12).replace(",", "").partition(".")
    return f"{whole}.{digits.rstrip('0').ljust(2, '0')}" if gpu_ms else ""


class PriceTableForm(forms.Form):
    """A price book as CSV: a file, or the text of one."""

    file = forms.FileField(
        required=False, label="File",
        widget=forms.FileInput(attrs={"class": "form-control", "accept": ".csv,text/csv"}),
    )  # fmt: skip
    table = forms.CharField(
        required=False, label="Table", strip=False, max_length=500_000,
        widget=forms.Textarea(attrs={"class": "form-control mono", "rows": 12, "spellcheck": "false"}),
    )  # fmt: skip
    corrects = forms.BooleanField(required=False, label="Past dates are meant: they correct the past")

    def text(self) -> str:
        """What was sent: the file's text where there is one. Raises: ValueError when it is not text."""
        sent = self.cleaned_data.get("file")
        if sent is None:
            return str(self.cleaned_data["table"])
        if sent.size > 2_000_000:
            raise ValueError("The file is larger than a price book can be.")
        try:
            return bytes(sent.read()).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError("The file is not text in UTF-8.") from None


class PlanForm(forms.Form):
    """A plan's name."""

    name = forms.CharField(
        max_length=80, label="Name",
        widget=forms.TextInput(attrs={"class": "form-control", "autocomplete": "off"}),
    )  # fmt: skip


class PlanAssignForm(forms.Form):
    """Which plan an organisation is on from when on."""

    plan = forms.ChoiceField(required=False, widget=forms.Select(attrs={"class": "form-select"}))
    valid_from = moment_field(help_text="Empty: from now on.")

    def __init__(self, *args: Any, plans: Choices, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _choose(self.fields["plan"], [("", "No plan: what everybody pays"), *plans])


class TermsForm(forms.Form):
    """How an organisation pays."""

    mode = forms.ChoiceField(
        choices=[("prepaid", "Before use, from credit"), ("postpaid", "After use, by monthly invoice")],
        label="It pays", widget=forms.Select(attrs={"class": "form-select"}),
    )  # fmt: skip
    credit_limit = UsdField(
        most_usd=1_000_000, required=False, label="Credit limit",
        help_text="How much a post-paid organisation may owe, open invoices included. Beyond it requests are refused.",
    )  # fmt: skip
    net_days = forms.IntegerField(
        min_value=0, max_value=120, label="Due after, in days",
        widget=forms.NumberInput(attrs={"class": "form-control"}),
    )  # fmt: skip
    tax_percent = forms.DecimalField(
        min_value=0, max_value=100, decimal_places=2, max_digits=5, required=False, label="Tax, in percent",
        widget=forms.TextInput(attrs={"class": "form-control", "inputmode": "decimal"}),
    )  # fmt: skip
    own_replicas = forms.IntegerField(
        min_value=0, max_value=MAX_OWN_REPLICAS, required=False, label="Replicas it deploys itself",
        help_text="How many may run at once, of models that are open to that. 0: it makes no deployments.",
        widget=forms.NumberInput(attrs={"class": "form-control"}),
    )  # fmt: skip

    def changes(self) -> dict[str, Any]:
        """The terms as billing keeps them."""
        given = self.cleaned_data
        return {
            "mode": given["mode"],
            "credit_limit_picousd": given["credit_limit"] or 0,
            "net_days": given["net_days"],
            "tax_basis_points": int((given["tax_percent"] or 0) * 100),
        } | ({} if given["own_replicas"] is None else {"own_replicas": given["own_replicas"]})


def _choose(field: forms.Field, choices: Choices) -> None:
    if isinstance(field, forms.ChoiceField):
        field.choices = list(choices)
