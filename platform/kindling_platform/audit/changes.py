"""What an event of the audit log says, one name at a time."""

from typing import Any

Change = tuple[str, str, str]


def changes_of(data: dict[str, Any]) -> list[Change]:
    """What an event says as (name, before, after); what was merely said, or stayed as it was, has no before."""
    before, after = data.get("before"), data.get("after")
    if not isinstance(before, dict | None) or not isinstance(after, dict | None):
        # A single value that was changed.
        changed = [("", _text(before), _text(after))]
    else:
        names = [*(before or {}), *(name for name in after or {} if name not in (before or {}))]
        changed = [(name, _text((before or {}).get(name)), _text((after or {}).get(name))) for name in names]
    said = [(name, "", _text(value)) for name, value in data.items() if name not in {"before", "after"}]
    kept = [(name, "" if old == new else old, new) for name, old, new in changed if old or new]
    return kept + said


def changes_line(data: dict[str, Any]) -> str:
    """The same in one cell of a CSV, with amounts as they are kept."""
    return "; ".join(
        f"{name}: {before} -> {after}" if before else f"{name}: {after}"
        for name, before, after in changes_of(data)
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(_text(one) for one in value)
    return str(value)
