"""What customers type about money: dollars, kept in cents."""

from typing import Any
from unicodedata import category

from django import forms

from kindling_billing.documents.fonts import missing_characters
from kindling_billing.money import PICO_PER_CENT
from kindling_console.forms.amounts import dollars_typed

MOST_CENTS = 100_000_000


class DollarsField(forms.CharField):
    """An amount in whole cents, typed as dollars; its clean value is cents, None when it may be and is empty."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=24, **options)
        self.widget.attrs |= {"class": "form-control", "inputmode": "decimal", "autocomplete": "off"}

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        try:
            pico = dollars_typed(str(text))
        except ValueError:
            raise forms.ValidationError("Give an amount such as 25 or 7.50.") from None
        if not 0 <= pico <= MOST_CENTS * PICO_PER_CENT:
            raise forms.ValidationError(f"Give an amount from $0 to ${MOST_CENTS // 100:,}.")
        if pico % PICO_PER_CENT:
            raise forms.ValidationError("Give whole cents, such as 7.50.")
        return pico // PICO_PER_CENT


class AddCreditForm(forms.Form):
    """How much to buy."""

    amount = DollarsField(label="Amount", initial="20")


class AutoTopUpForm(forms.Form):
    """When the card is charged, how much, and how much in a month at most."""

    threshold = DollarsField(label="When the balance falls below", initial="5")
    amount = DollarsField(label="Charge", initial="20")
    monthly_cap = DollarsField(label="At most in a month", initial="100")


class HardLimitForm(forms.Form):
    """What may be spent in a month."""

    limit = DollarsField(label="Stop after, in a month", required=False)


class AlertForm(forms.Form):
    """Below which balance a letter is sent."""

    below = DollarsField(label="Send a letter below")


class DetailsForm(forms.Form):
    """What stands on invoices and receipts."""

    bill_to = forms.CharField(
        label="Name and address", required=False, max_length=1000,
        widget=forms.Textarea(attrs={"class": "form-control", "rows": 3, "autocomplete": "billing street-address"}),
    )  # fmt: skip
    tax_id = forms.CharField(
        label="Tax id", required=False, max_length=40, widget=forms.TextInput(attrs={"class": "form-control"})
    )

    def clean_bill_to(self) -> str:
        return _printable(self.cleaned_data["bill_to"])

    def clean_tax_id(self) -> str:
        return _printable(self.cleaned_data["tax_id"])


class RefundForm(forms.Form):
    """How much of a payment goes back; the form's own id makes a form that is sent twice refund once."""

    payment = forms.CharField(max_length=32)
    amount = DollarsField(label="Amount")
    reason = forms.CharField(max_length=300, label="Reason")
    reference = forms.RegexField(r"^rfd_[0-9a-z]{26}$", widget=forms.HiddenInput)


def _printable(text: str) -> str:
    """A text that invoices can show: its lines stay, and other white space, tabs among it, becomes single spaces.

    Raises:
        ValidationError: it names what they cannot.
    """
    text = "\n".join(" ".join(line.split()) for line in text.splitlines())
    if missing := missing_characters(text):
        raise forms.ValidationError(
            f"Invoices cannot print {' '.join(map(_named, missing))}. Write it in Latin, Greek or Cyrillic letters."
        )
    return text


def _named(char: str) -> str:
    """A character as a message shows it: by its number where there is nothing to see."""
    return f"U+{ord(char):04X}" if category(char)[0] in "CZ" else char
