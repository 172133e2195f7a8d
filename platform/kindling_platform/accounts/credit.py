"""The credit that a new organisation begins with, and the bounds that keep it from being harvested."""

import ipaddress
from datetime import datetime, timedelta
from typing import Any

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q

from kindling_billing.errors import BillingError
from kindling_billing.models import SavedCard
from kindling_billing.money import PICO_PER_USD, pico_to_usd_text, usd_to_pico
from kindling_billing.saved_cards import card_default, card_is_shared
from kindling_billing.selectors import balance_get
from kindling_billing.services import credit_grant
from kindling_platform.accounts.actor import Actor, user_actor
from kindling_platform.accounts.models import DELETED_DOMAIN, Membership, Organisation, User
from kindling_platform.audit.services import audit_record
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError

WINDOW = timedelta(hours=1)
MAX_PER_ADDRESS = 20
MAX_IN_ALL = 300
MAX_GIFT_PICOUSD = 1_000_000 * PICO_PER_USD
LOCK = 0x6B64_0001
WAITS = {
    "mail": "Your starting credit comes as soon as your e-mail address is confirmed.",
    "card": "Your starting credit comes with the first card that you pay with.",
}
TOO_MANY = "No starting credit was given, because many accounts were made in a short time. Ask the operator for some."


@transaction.atomic
def signup_credit_grant(*, org: Organisation, user: User) -> bool:
    """Give a new organisation its starting credit; False, with a note on the organisation, above the bounds."""
    amount_picousd = usd_to_pico(settings.KINDLING_ENV.signup_credit_usd)
    if amount_picousd == 0:
        return False
    actor = user_actor(user, ip=user.signup_ip)
    if lacks := _lacking(org, user):
        org.signup_credit_note = lacks
        org.save(update_fields=["signup_credit_note"])
        return False
    if _too_many(user):
        org.signup_credit_note = TOO_MANY
        org.save(update_fields=["signup_credit_note"])
        audit_record(actor=actor, action="credit.withheld", target=org.id, organisation_id=org.id)
        return False
    before = balance_get(owner_id=org.id).picousd
    posted = credit_grant(
        owner_id=org.id,
        amount_picousd=amount_picousd,
        source_id=f"signup:{org.id}",
        memo="Starting credit",
        actor_id=user.id,
    )
    if posted:
        _granted_record(org, actor, amount_picousd, "Starting credit", before_picousd=before)
    return posted is not None


@transaction.atomic
def credit_give(
    *,
    org: Organisation,
    amount_picousd: int,
    source_id: str,
    memo: str,
    actor: Actor,
    expires_at: datetime | None = None,
) -> bool:
    """Give an organisation credit by hand; False when this `source_id` was used before.

    Raises:
        KindlingError: `amount_invalid`, `memo_missing`, `expiry_invalid`.
    """
    if not 0 < amount_picousd <= MAX_GIFT_PICOUSD:
        text = f"Credit lies between nothing and ${pico_to_usd_text(MAX_GIFT_PICOUSD)}."
        raise KindlingError("amount_invalid", text, param="amount_usd")
    if not memo.strip():
        text = "Say what the credit is for: the customer's ledger and the audit log keep it."
        raise KindlingError("memo_missing", text, param="memo")
    before = balance_get(owner_id=org.id).picousd
    try:
        posted = credit_grant(
            owner_id=org.id,
            amount_picousd=amount_picousd,
            source_id=source_id,
            memo=memo,
            actor_id=actor.id,
            expires_at=expires_at,
        )
    except BillingError as error:
        raise KindlingError(error.code, error.message, param="expires_at") from error
    if posted:
        _granted_record(org, actor, amount_picousd, memo, before_picousd=before, expires_at=expires_at)
    return posted is not None


def signup_credit_claims(*, limit: int = 50) -> int:
    """Give their starting credit to organisations that have shown by now what they were asked for; how many.

    Those that never will are left out, and of those with cards, which may be others' cards, nobody comes first.
    """
    waiting = Organisation.objects.filter(signup_credit_note__in=WAITS.values())
    needs = settings.KINDLING_ENV.signup_credit_needs
    if needs == "mail":
        confirmed = EmailAddress.objects.filter(verified=True)
        owners = Membership.objects.filter(role="owner", user__in=confirmed.values("user"))
        waiting = waiting.filter(id__in=owners.values("organisation"))
    elif needs == "card":
        waiting = waiting.filter(id__in=SavedCard.objects.filter(removed_at=None).values("owner_id"))
    return sum(_claim(org) for org in waiting.order_by("?")[:limit])


def signup_credit_claim(*, user: User) -> int:
    """The same for those of one person, who has confirmed an address just now and looks at the balance next."""
    owned = Membership.objects.filter(role="owner", user=user).values("organisation")
    waiting = Organisation.objects.filter(signup_credit_note=WAITS["mail"], id__in=owned)
    return sum(_claim(org) for org in waiting.order_by("id"))


def address_confirmed(*, email_address: EmailAddress, **_: Any) -> None:
    """allauth's signal."""
    signup_credit_claim(user=email_address.user)


@transaction.atomic
def _claim(waiting: Organisation) -> bool:
    org = Organisation.objects.select_for_update().get(id=waiting.id)
    first = Membership.objects.filter(organisation=org, role="owner").order_by("created_at", "id").first()
    if first is None or org.signup_credit_note not in WAITS.values() or _lacking(org, first.user):
        return False
    org.signup_credit_note = ""
    org.save(update_fields=["signup_credit_note"])
    return signup_credit_grant(org=org, user=first.user)


def _granted_record(
    org: Organisation,
    actor: Actor,
    amount_picousd: int,
    memo: str,
    *,
    before_picousd: int,
    expires_at: datetime | None = None,
) -> None:
    expiry = {"expires_at": expires_at.isoformat()} if expires_at else {}
    audit_record(
        actor=actor,
        action="credit.granted",
        target=org.id,
        organisation_id=org.id,
        data={"usd": pico_to_usd_text(amount_picousd), "memo": memo, **expiry},
        before={"balance_picousd": str(before_picousd)},
        after={"balance_picousd": str(before_picousd + amount_picousd)},
    )


def _lacking(org: Organisation, user: User) -> str:
    """What the operator wants to see before credit is given and has not seen, "" when nothing."""
    needs = settings.KINDLING_ENV.signup_credit_needs
    if needs == "mail" and not EmailAddress.objects.filter(user=user, verified=True).exists():
        return WAITS["mail"]
    if needs == "card":
        card = card_default(owner_id=org.id)
        # A card that others have left here before buys no second gift.
        if card is None or card_is_shared(card=card):
            return WAITS["card"]
    return ""


def _too_many(user: User) -> bool:
    # One at a time, or many sign-ups in the same instant would each see the count before the others.
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
    given = Q(memberships__role="owner", memberships__organisation__signup_credit_note="")
    # Whoever deletes an account and signs up anew is counted with both.
    gone = Q(is_active=False, email__endswith=f"@{DELETED_DOMAIN}")
    recent = User.objects.filter(given | gone, created_at__gt=now() - WINDOW).exclude(id=user.id)
    if recent.distinct().count() >= MAX_IN_ALL:
        return True
    address = user.signup_ip
    # On one's own machine everybody has the same address.
    if address is None or ipaddress.ip_address(address).is_loopback:
        return False
    return recent.filter(signup_ip=address).distinct().count() >= MAX_PER_ADDRESS
