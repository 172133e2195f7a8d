"""What an organisation does about its money: top-ups, cards, topping up by itself, invoices. All of it is audited."""

from django.conf import settings
from django.db import transaction

from kindling_billing.charging import (
    checkout_start,
    customer_call,
    customer_id_get,
    invoice_page_start,
    topup_check,
)
from kindling_billing.models import AutoTopUp, OutboxCall, SavedCard, Terms
from kindling_billing.money import round_half_even
from kindling_billing.outbox.sending import call_send
from kindling_billing.saved_cards import card_default, card_forget, card_list, card_prefer
from kindling_billing.stripe_api import reading
from kindling_billing.stripe_api.client import StripeApi
from kindling_billing.terms import auto_topup_set, terms_get, terms_set
from kindling_platform.accounts.models import Organisation
from kindling_platform.accounts.provider import AWAY, REFUSED, provider_find, provider_get, refusals
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.jobs import enqueue


def topup_begin(*, org: Organisation, amount_cents: int, return_url: str, actor: Actor) -> OutboxCall:
    """Begin a top-up on the provider's page; `{payment}` in the return address becomes the payment's id.

    The request may still be waiting when this returns: then its page is made by the workers.

    Raises:
        KindlingError: `payments_off`, `amount_invalid`, `topups_too_many`, `payment_provider_away`,
            `payment_provider_refused`.
    """
    topup_ready(org=org, amount_cents=amount_cents, actor=actor)
    return topup_send(topup_open(org=org, amount_cents=amount_cents, return_url=return_url, actor=actor))


def invoice_pay_begin(*, org: Organisation, invoice_id: str, return_url: str, actor: Actor) -> OutboxCall:
    """Begin to pay an invoice on the provider's page, or go on with what was begun.

    Raises:
        KindlingError: those of `topup_begin`; `invoice_unknown`, `invoice_not_open`, `payment_open`.
    """
    api = provider_get()
    with refusals():
        customer_ensure(api=api, org=org, actor=actor)
        with transaction.atomic():
            call = invoice_page_start(owner_id=org.id, invoice_id=invoice_id, return_url=return_url)
            data = {"invoice": invoice_id, "payment": call.subject}
            audit_record(
                actor=actor, action="invoice.pay_begun", target=org.id, organisation_id=org.id, data=data
            )
            enqueue("payments.sweep")
        return _sent(api, call)


def topup_ready(*, org: Organisation, amount_cents: int, actor: Actor) -> None:
    """The first step of a top-up: it is possible, and the provider knows who pays. It may ask the network.

    Raises:
        KindlingError: `payments_off`, `amount_invalid`, `payment_provider_away`, `payment_provider_refused`.
    """
    api = provider_get()
    with refusals():
        topup_check(amount_cents)
        customer_ensure(api=api, org=org, actor=actor)


def topup_open(*, org: Organisation, amount_cents: int, return_url: str, actor: Actor) -> OutboxCall:
    """The second step, a transaction: a payment, and the request for its page, which the workers send if nobody else
    does.

    Raises:
        KindlingError: `amount_invalid`, `topups_too_many`.
    """
    with refusals(), transaction.atomic():
        call = checkout_start(
            owner_id=org.id,
            amount_cents=amount_cents,
            tax_cents=tax_cents_of(terms_get(owner_id=org.id), amount_cents),
            tax_by_provider=settings.KINDLING_ENV.stripe_tax,
            return_url=return_url,
        )
        data = {"cents": str(amount_cents), "payment": call.subject}
        audit_record(actor=actor, action="topup.begun", target=org.id, organisation_id=org.id, data=data)
        enqueue("payments.sweep")
    return call


def topup_is_refused(*, payment_id: str) -> bool:
    """Whether the provider has made no page for it, and never will."""
    calls = OutboxCall.objects.filter(kind=OutboxCall.Kind.CHECKOUT, subject=payment_id)
    refused = (OutboxCall.State.REFUSED, OutboxCall.State.STUCK, OutboxCall.State.CLOSED)
    return calls.filter(state__in=refused).exists()


def topup_send(call: OutboxCall) -> OutboxCall:
    """The last step: ask the provider for the page at once, since somebody waits for it.

    Raises:
        KindlingError: `payments_off`, `payment_provider_refused`.
    """
    api = provider_get()
    with refusals():
        return _sent(api, call)


def auto_topup_change(
    *,
    org: Organisation,
    enabled: bool,
    threshold_cents: int,
    amount_cents: int,
    monthly_cap_cents: int,
    actor: Actor,
) -> AutoTopUp:
    """Say when the saved card is charged, how much, and how much in a month at most; or switch that off.

    Raises:
        KindlingError: `payments_off`, `card_missing`, `amount_invalid`, `cap_invalid`.
    """
    provider_get()
    if enabled and card_default(owner_id=org.id) is None:
        raise KindlingError(
            "card_missing", "Add credit once with a card; it is kept for automatic top-ups.", 409
        )
    with refusals(), transaction.atomic():
        if enabled:
            topup_check(amount_cents)
        before = _wished(AutoTopUp.objects.select_for_update().filter(owner_id=org.id).first())
        wish = auto_topup_set(
            owner_id=org.id,
            enabled=enabled,
            threshold_cents=threshold_cents,
            amount_cents=amount_cents,
            monthly_cap_cents=monthly_cap_cents,
        )
        audit_record(
            actor=actor, action="auto_topup.changed", target=org.id, organisation_id=org.id,
            before=before, after=_wished(wish),
        )  # fmt: skip
        enqueue("payments.topups")
        return wish


@transaction.atomic
def auto_topup_off(*, org: Organisation, actor: Actor) -> bool:
    """Stop charging the saved card; False when it was not being charged."""
    wish = AutoTopUp.objects.select_for_update().filter(owner_id=org.id, enabled=True).first()
    if wish is None:
        return False
    before = _wished(wish)
    wish.enabled = False
    wish.save(update_fields=["enabled"])
    audit_record(
        actor=actor, action="auto_topup.off", target=org.id, organisation_id=org.id,
        before=before, after=_wished(wish),
    )  # fmt: skip
    return True


def card_remove(*, org: Organisation, card_id: str, actor: Actor) -> OutboxCall:
    """Have a saved card removed at the provider.

    Raises:
        KindlingError: `payments_off`, `card_unknown`.
    """
    api = provider_get()
    with refusals():
        with transaction.atomic():
            call = card_forget(owner_id=org.id, card_id=card_id)
            audit_record(actor=actor, action="card.removed", target=card_id, organisation_id=org.id)
            enqueue("payments.sweep")
        return _sent(api, call)


@transaction.atomic
def cards_detach(*, org: Organisation, actor: Actor) -> int:
    """Ask the provider to remove every saved card; gives how many were not asked for before. Workers send it.

    Cards stay on our list until the provider has said yes.
    """
    cards = list(card_list(owner_id=org.id)) if provider_find() is not None else []
    asked = OutboxCall.objects.filter(
        kind=OutboxCall.Kind.FORGET_CARD, subject__in=[card.id for card in cards]
    )
    known = set(asked.values_list("subject", flat=True))
    fresh = [card for card in cards if card.id not in known]
    for card in fresh:
        card_forget(owner_id=org.id, card_id=card.id)
        audit_record(actor=actor, action="card.removed", target=card.id, organisation_id=org.id)
    if fresh:
        enqueue("payments.sweep")
    return len(fresh)


def card_choose(*, org: Organisation, card_id: str, actor: Actor) -> SavedCard:
    """Make a saved card the one that is charged.

    Raises:
        KindlingError: `card_unknown`.
    """
    with refusals(), transaction.atomic():
        before = card_default(owner_id=org.id)
        card = card_prefer(owner_id=org.id, card_id=card_id)
        audit_record(
            actor=actor, action="card.chosen", target=card_id, organisation_id=org.id,
            before={"card": before.id if before else ""}, after={"card": card_id},
        )  # fmt: skip
        return card


def portal_begin(*, org: Organisation, return_url: str, actor: Actor) -> str:
    """The address of the provider's page for cards, address and tax id.

    Raises:
        KindlingError: `payments_off`, `payment_provider_away`, `payment_provider_refused`.
    """
    api = provider_get()
    with refusals():
        customer_ensure(api=api, org=org, actor=actor)
        customer_id = customer_id_get(owner_id=org.id)
        return reading.portal_open(api, customer_id=customer_id, return_url=return_url)


@transaction.atomic
def billing_details_set(
    *,
    org: Organisation,
    actor: Actor,
    bill_to: str | None = None,
    tax_id: str | None = None,
    low_balance_picousd: int | None = None,
) -> Terms:
    """What stands on invoices, and the balance below which a letter is sent; what is not given stays.

    Raises:
        KindlingError: `terms_invalid`, `amount_invalid`.
    """
    given = {"bill_to": bill_to, "tax_id": tax_id, "low_balance_picousd": low_balance_picousd}
    changes = {name: value for name, value in given.items() if value is not None}
    old = terms_get(owner_id=org.id)
    before = {name: str(getattr(old, name)) for name in changes}
    with refusals():
        terms = terms_set(owner_id=org.id, **changes)
    audit_record(
        actor=actor, action="billing.details_set", target=org.id, organisation_id=org.id,
        before=before, after={name: str(value) for name, value in changes.items()},
    )  # fmt: skip
    return terms


def customer_ensure(*, api: StripeApi, org: Organisation, actor: Actor) -> None:
    """Make the organisation known at the provider, unless it is.

    Raises:
        KindlingError: `payment_provider_away`, `payment_provider_refused`.
    """
    email = actor.label if "@" in actor.label else ""
    call = customer_call(owner_id=org.id, email=email, name=org.name)
    if call is None:
        return
    call = call_send(api, call_id=call.id)
    if call.state == OutboxCall.State.WAITING:
        raise KindlingError("payment_provider_away", AWAY, 503)
    if call.state != OutboxCall.State.DONE:
        text = REFUSED.format(call.trouble)
        raise KindlingError("payment_provider_refused", text, 502)


def tax_cents_of(terms: Terms, amount_cents: int) -> int:
    """The tax on a sum by the rate that was agreed; none where the provider reckons it."""
    if settings.KINDLING_ENV.stripe_tax:
        return 0
    return round_half_even(amount_cents * terms.tax_basis_points, 10_000)


def _wished(wish: AutoTopUp | None) -> dict[str, str] | None:
    """A wish to be topped up, as the audit log shows it."""
    if wish is None:
        return None
    return {
        "enabled": str(wish.enabled).lower(),
        "threshold_cents": str(wish.threshold_cents),
        "amount_cents": str(wish.amount_cents),
        "monthly_cap_cents": str(wish.monthly_cap_cents),
    }


def _sent(api: StripeApi, call: OutboxCall) -> OutboxCall:
    """The first attempt at once, since somebody waits for it; the workers go on where it fails."""
    call = call_send(api, call_id=call.id)
    if call.state in {OutboxCall.State.REFUSED, OutboxCall.State.STUCK}:
        text = REFUSED.format(call.trouble)
        raise KindlingError("payment_provider_refused", text, 502)
    return call
