"""Who is bound by what: a key's organisation, its member and the key itself, from a row of gateway_key."""

from collections.abc import Sequence
from typing import Any

from kindling_billing.limits import Limits, Scope

RATES = (
    "requests_per_minute",
    "prompt_tokens_per_minute",
    "uncached_tokens_per_minute",
    "generated_tokens_per_minute",
    "concurrent_requests",
)
PICO_PER_NANO = 1000
NO_LIMITS = Limits()


def scopes_of(
    rows: Sequence[dict[str, Any]], *, org_id: str, member_id: str, key_id: str, defaults: Limits
) -> tuple[Scope, ...]:
    """The scopes that have limits, the widest first; `defaults` fill in what the organisation's row leaves open."""
    given = {row["scope"]: limits_of(row) for row in rows}
    organisation = given.get("organisation", NO_LIMITS).or_else(defaults)
    found = [Scope("organisation", org_id, organisation)]
    if "member" in given:
        # A person may belong to several organisations, each with its own limits.
        found.append(Scope("member", f"{org_id}:{member_id}", given["member"]))
    if "key" in given:
        found.append(Scope("key", key_id, given["key"]))
    return tuple(scope for scope in found if scope.limits != NO_LIMITS)


def limits_of(row: dict[str, Any]) -> Limits:
    """The limits of one row, money rounded down."""
    return Limits(
        *(row[name] for name in RATES),
        *(_nano(row[f"budget_{period}_picousd"]) for period in ("day", "month", "total")),
    )


def _nano(picousd: int | None) -> int | None:
    return None if picousd is None else picousd // PICO_PER_NANO
