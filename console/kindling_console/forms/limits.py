"""Limits of a key or an organisation, budgets in dollars; an empty field is no limit."""

from typing import Any

from django import forms

from kindling_billing.money import pico_to_usd_text, usd_to_pico

RATES = {
    "requests_per_minute": "Requests a minute",
    "prompt_tokens_per_minute": "Prompt tokens a minute",
    "uncached_tokens_per_minute": "Uncached prompt tokens a minute",
    "generated_tokens_per_minute": "Generated tokens a minute",
    "concurrent_requests": "Requests at once",
}
BUDGETS = {
    "budget_day_picousd": "Budget for a day",
    "budget_month_picousd": "Budget for a month",
    "budget_total_picousd": "Budget in all",
}


class LimitsForm(forms.Form):
    """One field for each limit, named like its column."""

    def __init__(self, *args: Any, limits: object, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, label in RATES.items():
            self.fields[name] = forms.IntegerField(
                label=label, required=False, min_value=1, initial=getattr(limits, name)
            )
        for name, label in BUDGETS.items():
            amount = getattr(limits, name)
            shown = "" if amount is None else pico_to_usd_text(amount).replace(",", "")
            self.fields[name] = forms.CharField(label=label, required=False, max_length=24, initial=shown)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name in BUDGETS:
            if name in cleaned:
                cleaned[name] = self._amount(name, cleaned[name])
        return cleaned

    def _amount(self, name: str, text: str) -> int | None:
        if not text.strip():
            return None
        try:
            return usd_to_pico(text.strip().removeprefix("$").replace(",", ""))
        except ValueError:
            self.add_error(name, "Give an amount such as 25 or 0.50.")
            return None
