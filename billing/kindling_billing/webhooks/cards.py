"""Customers and cards as the provider reports them. Every function may be repeated."""

from typing import Any

from django.db import transaction

from kindling_billing.models import OutboxCall, SavedCard, StripeCustomer, utc_now
from kindling_billing.outbox.writing import call_add
from kindling_billing.terms import auto_topup_pause

NO_CARD = "The saved card was removed."
NO_CUSTOMER = "The customer was deleted at the payment provider, and their cards with them."


def customer_known(*, owner_id: str, customer_id: str) -> None:
    """Remember whom the provider knows an owner as."""
    StripeCustomer.objects.update_or_create(owner_id=owner_id, defaults={"customer_id": customer_id})


@transaction.atomic
def customer_gone(*, owner_id: str = "", customer_id: str) -> str:
    """Forget a customer who was deleted there; the owner's id, "" when nobody was meant.

    The next request for the owner makes a new customer.
    """
    row = StripeCustomer.objects.select_for_update().filter(customer_id=customer_id or None).first()
    if row is None or (owner_id and row.owner_id != owner_id):
        return ""
    row.customer_id = ""
    row.generation += 1
    row.save(update_fields=["customer_id", "generation"])
    cards = SavedCard.objects.filter(owner_id=row.owner_id, removed_at=None)
    cards.update(removed_at=utc_now(), is_default=False)
    auto_topup_pause(owner_id=row.owner_id, reason=NO_CUSTOMER)
    return row.owner_id


@transaction.atomic
def card_apply(method: dict[str, Any]) -> str:
    """Keep, or drop, a card as the provider has it now; the owner's id, "" when it is nobody's here.

    The newest of two entries for the same card is kept, and the older is forgotten there too.
    """
    customer = StripeCustomer.objects.select_for_update().filter(customer_id=method.get("customer") or None)
    row = customer.first()
    if row is None:
        return card_gone(card_id=str(method["id"]))
    shown = method.get("card") or {}
    if not shown:
        return ""
    fields = {
        "owner_id": row.owner_id,
        "brand": str(shown.get("brand", ""))[:20],
        "last4": str(shown.get("last4", ""))[:4],
        "exp_month": int(shown.get("exp_month") or 0),
        "exp_year": int(shown.get("exp_year") or 0),
        "fingerprint": str(shown.get("fingerprint") or "")[:64],
    }
    card, made = SavedCard.objects.update_or_create(id=str(method["id"]), defaults=fields)
    if made:
        _replace_twins(card)
        if not SavedCard.objects.filter(owner_id=row.owner_id, is_default=True).exists():
            SavedCard.objects.filter(id=card.id).update(is_default=True)
    return row.owner_id


@transaction.atomic
def card_gone(*, card_id: str) -> str:
    """Drop a card, so that the newest of the others is charged; the owner's id, "" when it was not kept."""
    card = SavedCard.objects.select_for_update().filter(id=card_id, removed_at=None).first()
    if card is None:
        return ""
    was_default, card.is_default, card.removed_at = card.is_default, False, utc_now()
    card.save(update_fields=["is_default", "removed_at"])
    others = SavedCard.objects.filter(owner_id=card.owner_id, removed_at=None).order_by("-created_at", "-id")
    following = others.first()
    if following is None:
        auto_topup_pause(owner_id=card.owner_id, reason=NO_CARD)
    elif was_default:
        SavedCard.objects.filter(id=following.id).update(is_default=True)
    return card.owner_id


def _replace_twins(card: SavedCard) -> None:
    twins = SavedCard.objects.select_for_update().filter(owner_id=card.owner_id, removed_at=None)
    for twin in twins.filter(fingerprint=card.fingerprint).exclude(id=card.id).exclude(fingerprint=""):
        was_default = twin.is_default
        twin.is_default, twin.removed_at = False, utc_now()
        twin.save(update_fields=["is_default", "removed_at"])
        if was_default:
            SavedCard.objects.filter(id=card.id).update(is_default=True)
        call_add(
            kind=OutboxCall.Kind.FORGET_CARD, subject=twin.id, owner_id=twin.owner_id, params={"id": twin.id}
        )
