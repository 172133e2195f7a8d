"""The cards that an owner left with the payment provider."""

from django.db import transaction
from django.db.models import QuerySet

from kindling_billing.errors import BillingError
from kindling_billing.models import OutboxCall, SavedCard
from kindling_billing.outbox.writing import call_add


def card_list(*, owner_id: str) -> QuerySet[SavedCard]:
    """An owner's cards, the one that is charged first."""
    rows = SavedCard.objects.filter(owner_id=owner_id, removed_at=None)
    return rows.order_by("-is_default", "-created_at", "-id")


def card_default(*, owner_id: str) -> SavedCard | None:
    """The card that is charged, None without one."""
    return SavedCard.objects.filter(owner_id=owner_id, removed_at=None, is_default=True).first()


def card_is_shared(*, card: SavedCard) -> bool:
    """Whether the same card was left by another owner too, now or before."""
    others = SavedCard.objects.filter(fingerprint=card.fingerprint).exclude(owner_id=card.owner_id)
    return others.exclude(fingerprint="").exists()


@transaction.atomic
def card_forget(*, owner_id: str, card_id: str) -> OutboxCall:
    """Have a saved card removed at the provider.

    Raises:
        BillingError: `card_unknown`.
    """
    card = _card(owner_id, card_id)
    return call_add(
        kind=OutboxCall.Kind.FORGET_CARD, subject=card.id, owner_id=owner_id, params={"id": card.id}
    )


@transaction.atomic
def card_prefer(*, owner_id: str, card_id: str) -> SavedCard:
    """Make a saved card the one that is charged.

    Raises:
        BillingError: `card_unknown`.
    """
    card = _card(owner_id, card_id)
    SavedCard.objects.filter(owner_id=owner_id, is_default=True).update(is_default=False)
    card.is_default = True
    card.save(update_fields=["is_default"])
    return card


def _card(owner_id: str, card_id: str) -> SavedCard:
    card = (
        SavedCard.objects.select_for_update().filter(id=card_id, owner_id=owner_id, removed_at=None).first()
    )
    if card is None:
        raise BillingError("card_unknown", "There is no such saved card.")
    return card
