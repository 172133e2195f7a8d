"""Credit that expires."""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet

from kindling_billing.ledger import Posting, accounts_lock
from kindling_billing.models import CreditGrant, utc_now
from kindling_billing.trail import trail_note
from kindling_billing.wallet import WALLET, wallet_post

EXPIRY = "expiry"
CREDIT = "credit"
# Usage is posted within seconds; what was used before the expiry should burn the credit while it is there.
LATE = timedelta(minutes=5)


def grant_list(*, owner_id: str) -> QuerySet[CreditGrant]:
    """An owner's credit, newest first."""
    return CreditGrant.objects.filter(owner_id=owner_id).order_by("-created_at", "-id")


def grant_find(*, source_id: str) -> CreditGrant | None:
    """The credit that was given under this id."""
    return CreditGrant.objects.filter(source_type=CREDIT, source_id=source_id).first()


def grants_expire(*, now: datetime | None = None, limit: int = 500) -> int:
    """Take back what is left of credit that expired over five minutes ago; gives how many portions ended."""
    now = now or utc_now()
    rows = CreditGrant.objects.filter(expired_at=None, expires_at__lte=now - LATE)
    due = list(rows.order_by("expires_at").values_list("id", "owner_id")[:limit])
    return sum(_expire(grant_id, owner_id, now) for grant_id, owner_id in due)


@transaction.atomic
def _expire(grant_id: str, owner_id: str, now: datetime) -> bool:
    accounts_lock({(WALLET, owner_id), ("promo", ""), ("revenue", "")})
    grant = CreditGrant.objects.select_for_update().get(id=grant_id)
    if grant.expired_at is not None:
        return False
    left = int(grant.remaining_picousd)
    grant.expired_at = now
    grant.save(update_fields=["expired_at"])
    if left:
        # Credit that was given goes back to where it came from; credit that was bought is ours.
        taker = "promo" if grant.kind == CreditGrant.Kind.PROMO else "revenue"
        entries = [(WALLET, owner_id, -left), (taker, "", left)]
        memo = f"Expired: {grant.memo}" if grant.memo else "Credit expired"
        wallet_post(Posting(EXPIRY, grant_id, entries, memo), spend_first=grant_id)
        trail_note(
            action="credit.expired", owner_id=owner_id, target=grant_id,
            before={"left_picousd": str(left)}, after={"left_picousd": "0"},
        )  # fmt: skip
    return True
