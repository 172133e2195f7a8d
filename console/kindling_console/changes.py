"""What an event of the audit log says, in rows that people read."""

from typing import Any

from kindling_console.templatetags.kindling import usd_cents, usd_cost
from kindling_platform.audit.changes import Change, changes_of

UNITS = {"picousd": usd_cost, "cents": usd_cents}


def changes_shown(data: dict[str, Any]) -> list[Change]:
    """What an event says as (name, before, after), with amounts as dollars and names in words."""
    rows = [_readable(*one) for one in changes_of(data)]
    return [(name.replace("_", " "), before, after) for name, before, after in rows]


def _readable(name: str, before: str, after: str) -> Change:
    for unit, show_unit in UNITS.items():
        plain = name.removesuffix(unit)
        if plain != name and all(one.lstrip("-").isdigit() for one in (before, after) if one):
            old, new = (show_unit(int(one)) if one else "" for one in (before, after))
            return plain.rstrip("_") or "amount", old, new
    return name, before, after
