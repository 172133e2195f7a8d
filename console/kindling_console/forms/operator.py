"""What the operator types: credit in dollars, kept in pico-dollars."""

from typing import Any

from django import forms

from kindling_billing.money import PICO_PER_USD
from kindling_console.forms.amounts import dollars_typed

MAX_GRANT_USD = 1_000_000


class CreditForm(forms.Form):
    """Credit for an organisation."""

    amount = forms.CharField(max_length=24, label="Amount in US dollars")
    memo = forms.CharField(
        max_length=120, label="Reason", help_text="Shown in the customer's ledger, and kept by the audit log."
    )
    grant_id = forms.RegexField(r"^grt_[0-9a-z]{26}$", widget=forms.HiddenInput)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if "amount" in cleaned:
            cleaned["amount_picousd"] = self._amount(cleaned["amount"])
        return cleaned

    def _amount(self, text: str) -> int:
        try:
            amount = dollars_typed(text)
        except ValueError:
            self.add_error("amount", "Give an amount such as 25 or 0.50.")
            return 0
        if not 0 < amount <= MAX_GRANT_USD * PICO_PER_USD:
            self.add_error("amount", f"A credit is more than $0 and at most ${MAX_GRANT_USD:,}.")
        return amount
