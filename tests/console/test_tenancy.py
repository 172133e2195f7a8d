"""Nobody sees, by any address of the console, what belongs to another organisation."""

from datetime import date

import pytest
from django.urls import URLPattern, get_resolver, reverse

from kindling_billing.invoicing import invoice_draft
from kindling_billing.payment_selectors import payment_list
from kindling_billing.payments import payment_received
from kindling_billing.webhooks.cards import card_apply, customer_known
from kindling_console_world import Member, World, request_keep
from kindling_hooks import hook
from kindling_platform.accounts.invitations import invitation_create
from kindling_platform.hooks.services import endpoint_test
from kindling_shared import shared
from kindling_stored_batches import stored_batch, stored_file

# Addresses with nobody's object in them.
OPEN = {
    "home", "home-live", "account", "theme", "catalog", "adapters", "adapter-upload", "keys", "playground",
    "playground-run", "usage", "usage-csv", "requests", "requests-csv", "billing", "deployments",
    "operator-organisations",
    "operator-prices", "operator-fleet", "operator-mail", "operator-payments", "billing-portal", "invoice-so-far",
    "operator-price-table", "operator-price-book", "operator-plans", "operator-margins", "operator-margins-csv",
}  # fmt: skip

OPEN |= {
    "search",
    "limits",
    "team",
    "leave",
    "settings",
    "request-log",
    "activity",
    "activity-csv",
    "gpu-time-csv",
}
OPEN |= {"batches", "batch-new", "operator-status", "deployment-new"}
OPEN |= {"second-factor", "webhooks"}
OPEN |= {"account-data", "account-delete", "organisation-delete", "shared"}

# The operator's pages about money, each with its CSV.
BOOKS = {
    f"operator-{name}{end}"
    for name in ("revenue", "risk", "reconciliation", "records", "proofs", "reratings", "audit")
    for end in ("", "-csv")
}
OPEN |= BOOKS

# Those that only take a form.
FORMS = {
    "organisation-change",
    "second-factor-required",
    "adapter-hub",
    "seeing-end",
    "credit-add",
    "auto-topup",
    "auto-topup-off",
    "hard-limit",
    "balance-alert",
    "billing-details",
}
READ_ONLY = {
    "model",
    "adapter",
    "adapter-report",
    "playground-receipt",
    "request",
    "logged-request",
    "operator-letter",
    "deployment-logs",
    "operator-reconciliation-day",
    "payment",
    "payment-live",
    "receipt",
    "invoice",
    "batch",
    "batch-file",
    "shared-conversation",
    "webhook-delivery",
}
POST_ONLY = {
    *("invoice-pay", "card-action"),
    *(
        "operator-letter-retry",
        "operator-refund",
        "operator-event",
        "operator-price-withdraw",
        "operator-suspension",
        "operator-deployable",
        "deployment-restored",
    ),
    *("member-removed", "invitation-withdrawn"),
    *("webhook-switch", "webhook-secret", "webhook-rotate", "webhook-test", "webhook-again"),
    *("operator-record-action", "operator-difference", "operator-invoice-give-up"),
}


def console_urls() -> dict[str, URLPattern]:
    (console,) = [
        found for found in get_resolver().url_patterns if getattr(found, "app_name", "") == "console"
    ]
    return {str(pattern.name): pattern for pattern in console.url_patterns}


@pytest.fixture
def theirs(world: World) -> dict[str, list[str]]:
    """Arguments that lead to another organisation's things, by the name of the address."""
    other = world.member("grace")
    adapter = world.adapter(other)
    (request_id,) = world.use(other, adapter=adapter)
    world.model.organisation, world.model.is_public = other.org, False
    world.model.save()
    world.deployment.organisation = other.org
    world.deployment.save()
    key = other.key()
    invited, _ = invitation_create(org=other.org, email="new@example.com", role="viewer", actor=other.actor)
    payment_received(intent_id="pi_treasure", owner_id=other.org.id, amount_cents=2000)
    payment = payment_list(owner_id=other.org.id).get()
    invoice = invoice_draft(owner_id=other.org.id, month=date(2026, 1, 1))
    customer_known(owner_id=other.org.id, customer_id="cus_treasure")
    card_apply({"id": "pm_treasure", "customer": "cus_treasure", "card": {"brand": "visa", "last4": "4242"}})
    endpoint, _ = hook(other)
    sent = endpoint_test(org=other.org, endpoint_id=endpoint.id, actor=other.actor)
    hooks = (
        "webhook",
        "webhook-delete",
        "webhook-switch",
        "webhook-secret",
        "webhook-rotate",
        "webhook-test",
    )
    return {
        **{name: [endpoint.id] for name in hooks},
        **{name: [endpoint.id, sent.id] for name in ("webhook-delivery", "webhook-again")},
        "model": [other.org.slug, world.model.name],
        "adapter": [adapter.id],
        "adapter-report": [adapter.id],
        "adapter-delete": [adapter.id],
        "key-revoke": [key.id],
        "key-rotate": [key.id],
        "key-limits": [key.id],
        "member-limits": [other.user.id],
        "member": [other.user.id],
        "member-removed": [other.user.id],
        "invitation-withdrawn": [invited.id],
        "playground-receipt": [request_id],
        "request": [request_id],
        "logged-request": [str(request_keep(other).request_id)],
        "batch": [stored_batch(other.org).id],
        "batch-cancel": [stored_batch(other.org).id],
        "batch-file": [stored_file(other.org, b"{}").id],
        "shared-conversation": [shared(other).id],
        "shared-revoke": [shared(other).id],
        "deployment": [world.deployment.id],
        "deployment-delete": [world.deployment.id],
        "deployment-action": [world.deployment.id, "stop"],
        "operator-organisation": [other.org.id],
        "operator-organisation-limits": [other.org.id],
        "operator-letter": ["any-0"],
        "operator-letter-retry": ["any-0"],
        "payment": [payment.id],
        "payment-live": [payment.id],
        "receipt": [payment.id],
        "invoice": [invoice.id],
        "invoice-pay": [invoice.id],
        "card-action": ["pm_treasure", "remove"],
        "operator-refund": [other.org.id],
        "operator-event": ["evt_any"],
        "operator-record-action": ["events", "evt_any", "retry"],
        "operator-difference": ["ch_any"],
        "operator-invoice-give-up": [invoice.id],
        "operator-reconciliation-day": ["2026-01-01"],
        "operator-terms": [other.org.id],
        "operator-deployments": [other.org.id],
        "deployment-logs": [world.deployment.id],
        "operator-suspension": [other.org.id],
        "operator-deployable": [world.model.id],
        "operator-seeing": [other.org.id, other.user.id],
        "deployment-restored": [world.deployment.id, "1"],
        "operator-notice": ["ntc_any"],
        "operator-price-withdraw": [world.price_id],
        "operator-margin": [world.model.id],
    }


def test_every_address_is_known_to_this_test(theirs: dict[str, list[str]]):
    # An invitation is for whoever has its link; its own tests say what of it strangers see.
    assert set(console_urls()) == OPEN | FORMS | set(theirs) | {"join"}


def test_what_belongs_to_others_does_not_exist(member: Member, theirs: dict[str, list[str]]):
    for name, args in theirs.items():
        url = reverse(f"console:{name}", args=args)
        # Of an operator's page even its existence is nobody's business, so the role speaks first.
        expected = 403 if name.startswith("operator-") else 404
        seen = {"POST": member.client.post(url).status_code}
        if name not in POST_ONLY:
            seen["GET"] = member.client.get(url).status_code
            seen["GET part"] = member.client.get(url, headers={"HX-Request": "true"}).status_code
        if name in READ_ONLY:
            assert seen.pop("POST") == 405, name
        assert set(seen.values()) == {expected}, (name, seen)


def test_lists_hold_nothing_of_others(world: World, member: Member):
    other = world.member("grace")
    adapter = world.adapter(other, name="secret-adapter")
    key = other.key("secret-key")
    world.use(other, adapter=adapter, key_id=key.id)
    for name in OPEN - {"theme", "playground-run"}:
        if name.startswith("operator-"):
            continue
        reply = member.client.get(reverse(f"console:{name}"))
        text = b"".join(reply) if reply.streaming else reply.content
        for hidden in (other.org.slug, other.user.email, adapter.name, key.name, key.id):
            assert hidden.encode() not in text, (name, hidden)


def test_a_request_filter_cannot_reach_others(world: World, member: Member):
    other = world.member("grace")
    key = other.key()
    (request_id,) = world.use(other, key_id=key.id)
    reply = member.client.get(reverse("console:requests"), {"key": key.id})
    assert request_id not in reply.content.decode()
    assert request_id in other.client.get(reverse("console:requests"), {"key": key.id}).content.decode()


def test_signed_out_visitors_are_led_to_the_sign_in_page(world: World, client):
    for name in OPEN - {"theme", "playground-run"}:
        reply = client.get(reverse(f"console:{name}"))
        assert reply.status_code == 302, name
        assert reply["Location"].startswith("/accounts/login/?next=/console/"), name


def test_signed_out_visitors_send_no_forms(world: World, client):
    for name in FORMS:
        reply = client.post(reverse(f"console:{name}"))
        assert (reply.status_code, reply["Location"][:22]) == (302, "/accounts/login/?next="), name


def test_a_part_of_a_page_leads_the_whole_page_to_signing_in(world: World, client):
    reply = client.get(
        reverse("console:home-live"),
        headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/console/"},
    )
    assert reply.status_code == 204
    assert reply["HX-Redirect"] == "/accounts/login/?next=/console/"
