"""Limits of an organisation, a member or a key, budgets in dollars; an empty field is no limit."""

import re
from typing import Any

from django import forms

from kindling_billing.money import pico_to_usd_text
from kindling_console.forms.amounts import dollars_typed

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
ALERTS = "alert_percents"
SHARES = re.compile(r"[0-9]{1,3}( *%)?([ ,;]+[0-9]{1,3}( *%)?)*")


class LimitsForm(forms.Form):
    """One field for each limit, named like its column; `rates` are left out where they are not the visitor's to set."""

    def __init__(self, *args: Any, limits: Any, rates: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **{"auto_id": f"limit-{limits.target_id}-%s"} | kwargs)
        for name, label in BUDGETS.items():
            amount = getattr(limits, name)
            self.fields[name] = forms.CharField(
                label=label, required=False, max_length=24, initial="" if amount is None else _typed(amount)
            )
        shares = ", ".join(str(percent) for percent in limits.alert_percents)
        self.fields[ALERTS] = forms.CharField(
            label="Letters at, in per cent", required=False, max_length=40, initial=shares
        )
        for name, label in RATES.items() if rates else ():
            self.fields[name] = forms.IntegerField(
                label=label, required=False, min_value=1, initial=getattr(limits, name)
            )

    @property
    def budget_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in BUDGETS]

    @property
    def rate_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in RATES if name in self.fields]

    @property
    def values(self) -> dict[str, int | None]:
        """The limits that were typed, by column."""
        return {name: value for name, value in self.cleaned_data.items() if name != ALERTS}

    @property
    def percents(self) -> list[int] | None:
        """The shares that were typed; None where the form was sent without that field, which keeps them."""
        given: list[int] = self.cleaned_data.get(ALERTS, [])
        return given if ALERTS in self.data else None

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name in BUDGETS:
            if name in cleaned:
                cleaned[name] = self._amount(name, cleaned[name])
        if ALERTS in cleaned:
            cleaned[ALERTS] = self._shares(cleaned[ALERTS])
        return cleaned

    def _amount(self, name: str, text: str) -> int | None:
        if not text.strip():
            return None
        try:
            return dollars_typed(text)
        except ValueError:
            self.add_error(name, "Give an amount such as 25 or 0.50.")
            return None

    def _shares(self, text: str) -> list[int]:
        if text.strip() and not SHARES.fullmatch(text.strip()):
            self.add_error(ALERTS, "Give shares such as 50, 80, 100; leave it empty for no letters.")
        return [int(number) for number in re.findall(r"[0-9]+", text)]


def _typed(picousd: int) -> str:
    """An amount as it is typed: exact, with two decimals or as many more as it has."""
    whole, _, part = pico_to_usd_text(picousd, 12).replace(",", "").partition(".")
    return f"{whole}.{part.rstrip('0').ljust(2, '0')}"
