"""Makes events of what the platform writes down anyway: of its audit log, of states, and of notices about money.

Each says ids, names and states. None says a prompt, a key, a card, or an address of a person.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kindling_billing.money import pico_to_usd_text
from kindling_billing.notices import LOW_BALANCE
from kindling_platform.adapters.models import Adapter
from kindling_platform.common.happenings import Happening
from kindling_platform.hooks.kinds import KINDS
from kindling_platform.hooks.writing import endpoints_wanting, event_write
from kindling_platform.keys.models import ApiKey

# What an event says; None for one that concerns nobody.
Say = Callable[[Happening], dict[str, Any] | None]


def happening_heard(happening: Happening) -> None:
    """Write an event of something that happened, if somebody wants to hear of it."""
    kind = _kind(happening)
    if kind not in KINDS:
        return
    endpoints = endpoints_wanting(organisation_id=happening.organisation_id, kind=kind)
    if endpoints and (data := SAYS[happening.action](happening)) is not None:
        event_write(
            organisation_id=happening.organisation_id, kind=kind, data=data, endpoints=endpoints
        )  # fmt: skip


def notice_heard(kind: str, owner_id: str, data: Mapping[str, Any]) -> None:
    """Write an event of a notice that becomes a letter, where it has no happening of its own."""
    if kind != LOW_BALANCE:
        return
    endpoints = endpoints_wanting(organisation_id=owner_id, kind=kind)
    if endpoints:
        said = {
            f"{name}_usd": pico_to_usd_text(int(data[f"{name}_picousd"]), 2)
            for name in ("balance", "threshold")
        }
        event_write(
            organisation_id=owner_id, kind=kind, data={"organisation_id": owner_id} | said, endpoints=endpoints
        )  # fmt: skip


def _kind(happening: Happening) -> str:
    if happening.action == "deployment.state":
        return f"deployment.{happening.data['state']}"
    if happening.action not in SAYS:
        return ""
    return RENAMED.get(happening.action, happening.action)


def _adapter(happening: Happening) -> dict[str, Any]:
    row = Adapter.objects.filter(id=happening.target).values("name", "state", "error_code", "error").first()
    row = row or {"name": "", "state": happening.action.partition(".")[2], "error_code": "", "error": ""}
    reasons = [{"code": row["error_code"], "message": row["error"]}] if row["error_code"] else []
    return {"id": happening.target, "name": row["name"], "state": row["state"], "reasons": reasons}


def _deployment(happening: Happening) -> dict[str, Any]:
    return {"id": happening.target, **{name: happening.data[name] for name in ("name", "state", "reason")}}


def _budget(happening: Happening) -> dict[str, Any]:
    spent = pico_to_usd_text(int(happening.data["spent_picousd"]), 2)
    told = {name: happening.data[name] for name in ("period", "percent")}
    return {"id": happening.target, "spent_usd": spent, **told}


def _invoice(happening: Happening) -> dict[str, Any]:
    after = happening.data.get("after", {})
    month = happening.data.get("before", {}).get("month", "")
    return {"id": happening.target, "month": month, **_some(after, "number", "state", "total_cents")}


def _payment(happening: Happening) -> dict[str, Any]:
    after = happening.data.get("after", {})
    return {"id": happening.target, "amount_cents": after.get("cents", ""), **_some(after, "state", "reason")}


def _key(happening: Happening) -> dict[str, Any] | None:
    row = ApiKey.objects.filter(id=happening.target).values("name", "scopes", "kind", "last4").first()
    # The console makes those of the playground for itself, one for each talk.
    if row is None or row["kind"] == ApiKey.Kind.PLAYGROUND:
        return None
    return {"id": happening.target, "name": row["name"], "scopes": row["scopes"]}


def _rotated(happening: Happening) -> dict[str, Any] | None:
    said = _key(happening)
    return said and said | {"successor_id": happening.data["successor"], "until": happening.data["until"]}


def _member(happening: Happening) -> dict[str, Any]:
    return {"id": happening.target, **_some(happening.data, "role")}


def _some(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: data[name] for name in names if name in data}


RENAMED = {"budget.reached": "budget.alert", "payment.received": "payment.succeeded"}
SAYS: dict[str, Say] = {
    "adapter.ready": _adapter,
    "adapter.rejected": _adapter,
    "budget.reached": _budget,
    "deployment.state": _deployment,
    "invoice.finalised": _invoice,
    "key.created": _key,
    "key.revoked": _key,
    "key.rotated": _rotated,
    "member.joined": _member,
    "member.removed": _member,
    "payment.failed": _payment,
    "payment.received": _payment,
}
