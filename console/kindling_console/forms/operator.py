"""What the operator types: credit and prices, in dollars, kept in pico-dollars."""

from typing import Any

from django import forms

from kindling_billing.money import PICO_PER_USD, usd_to_pico

MAX_GRANT_USD = 1_000_000
PER_MILLION = 1_000_000


class CreditForm(forms.Form):
    """Credit for an organisation."""

    amount = forms.CharField(max_length=24, label="Amount in US dollars")
    memo = forms.CharField(
        max_length=120, required=False, label="Reason", help_text="Shown in the customer's ledger."
    )
    grant_id = forms.RegexField(r"^grt_[0-9a-z]{26}$", widget=forms.HiddenInput)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if "amount" in cleaned:
            cleaned["amount_picousd"] = self._amount(cleaned["amount"])
        return cleaned

    def _amount(self, text: str) -> int:
        try:
            amount = usd_to_pico(text.strip().removeprefix("$").replace(",", ""))
        except ValueError:
            self.add_error("amount", "Give an amount such as 25 or 0.50.")
            return 0
        if not 0 < amount <= MAX_GRANT_USD * PICO_PER_USD:
            self.add_error("amount", f"A credit is more than $0 and at most ${MAX_GRANT_USD:,}.")
        return amount


class PriceForm(forms.Form):
    """A model's price per million tokens."""

    model = forms.ChoiceField()
    input = forms.CharField(max_length=24, label="Input")
    cached_input = forms.CharField(max_length=24, label="Cached input")
    output = forms.CharField(max_length=24, label="Output")

    def __init__(self, *args: Any, models: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["model"]
        if isinstance(field, forms.ChoiceField):
            field.choices = models

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name in ("input", "cached_input", "output"):
            if name in cleaned:
                cleaned[f"{name}_picousd"] = self._per_token(name, cleaned[name])
        return cleaned

    def per_token_picousd(self) -> dict[str, int]:
        """The three prices as the price book keeps them."""
        return {
            name: self.cleaned_data[name]
            for name in ("input_picousd", "cached_input_picousd", "output_picousd")
        }

    def _per_token(self, name: str, text: str) -> int:
        try:
            per_million = usd_to_pico(text.strip().removeprefix("$").replace(",", ""))
        except ValueError:
            self.add_error(name, "Give dollars per million tokens, such as 0.10.")
            return 0
        if per_million < 0 or per_million % PER_MILLION:
            self.add_error(name, "At most six decimals, and not below zero.")
        return per_million // PER_MILLION
