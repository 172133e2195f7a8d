"""Where the cause of a ledger row can be looked at."""

from typing import Any

from django.urls import reverse

BILLING = "console:billing"


def cause_url(entry: Any) -> str:
    """The page, or the part of the billing page, that a movement of money comes from."""
    posted = entry.transaction
    kind, data = posted.source_type, posted.data if isinstance(posted.data, dict) else {}
    if kind in {"usage", "usage_reversal"}:
        return reverse("console:request", args=[posted.source_id.split(":")[0]])
    if kind == "gpu_time" and data.get("deployment"):
        return reverse("console:deployment", args=[data["deployment"]])
    if data.get("payment"):
        return reverse("console:payment", args=[data["payment"]])
    part = {"invoice": "invoices", "write_off": "invoices"}.get(kind, "credits")
    return f"{reverse(BILLING)}#{part}"
