"""Money in the browser: top up on the stand-in's page, spend to zero, be refused, be topped up, read the invoice."""

import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg
import pytest
from celery import Celery
from playwright.sync_api import Page, expect

from kindling_browser import Visit
from kindling_stack import Stack
from kindling_tenant import poll

pytestmark = [pytest.mark.stack, pytest.mark.browser]
# So dear that a few answers spend a few dollars: a tenth of a cent per token in, two cents per token out.
INPUT, OUTPUT = 10**9, 2 * 10**10
LONG_S = 60


def price_dearly(stack: Stack, org_id: str) -> None:
    """Put one organisation on a plan of its own, as the operator's price book would."""
    plan = f"pln_{secrets.token_hex(13)}"
    with psycopg.connect(stack.state["database_url"]) as db:
        (sku,) = db.execute("SELECT id FROM catalog_model WHERE name = 'spark'").fetchone() or ("",)
        db.execute(
            "INSERT INTO billing_priceplan (id, name, created_at, created_by) VALUES (%s, %s, now(), '')",
            [plan, plan],
        )
        db.execute(
            "INSERT INTO billing_priceversion (id, plan_id, sku, input_picousd, cached_input_picousd, output_picousd,"
            " gpu_ms_picousd, batch_percent, valid_from, created_at, created_by)"
            " VALUES (%s, %s, %s, %s, %s, %s, 0, 50, now(), now(), '')",
            [f"prc_{secrets.token_hex(13)}", plan, sku, INPUT, INPUT, OUTPUT],
        )
        db.execute(
            "INSERT INTO billing_planterm (owner_id, plan_id, valid_from, created_at, created_by)"
            " VALUES (%s, %s, now(), now(), '')",
            [org_id, plan],
        )


def ask(url: str, key: str) -> httpx.Response:
    body = {
        "model": "kindling/spark",
        "messages": [{"role": "user", "content": "Tell me a story about a fox."}],
        "max_tokens": 120,
        "temperature": 0,
    }
    return httpx.post(
        f"{url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=60
    )


def ask_until(url: str, key: str, status: int) -> httpx.Response:
    deadline = time.monotonic() + LONG_S
    while (reply := ask(url, key)).status_code != status:
        assert reply.status_code in {200, 402}, reply.text
        assert time.monotonic() < deadline, f"not {status} within {LONG_S} s: {reply.text}"
    return reply


def picture(page: Page, name: str) -> None:
    """Kept for people when the environment names a folder."""
    folder = os.environ.get("KINDLING_SCREENSHOTS")
    if not folder:
        return
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        page.screenshot(path=Path(folder) / f"{name}-{theme}.png", full_page=True)
    page.set_viewport_size({"width": 360, "height": 760})
    page.screenshot(path=Path(folder) / f"{name}-narrow.png", full_page=True)
    page.set_viewport_size({"width": 1320, "height": 900})


def pay(page: Page, amount: str, number: str = "4242 4242 4242 4242") -> None:
    """From the billing page to the stand-in's and back."""
    page.get_by_label("Amount", exact=True).fill(amount)
    page.get_by_role("button", name="Continue to payment").click()
    page.wait_for_url(re.compile(r"/pay/cs_test_"))
    page.get_by_label("Card number").fill(number)
    page.get_by_role("button", name=re.compile("^Pay ")).click()


def test_top_up_spend_be_refused_be_topped_up_read_the_invoice(visit: Callable[..., Visit], stack: Stack):
    me = visit()
    me.sign_up(f"payer-{secrets.token_hex(3)}@example.com")
    page = me.page
    me_row = me.api("me")
    made = me.context.request.post(
        f"{me.url}/api/v1/keys",
        data={"name": "laptop", "scopes": ["inference"]},
        headers={"X-CSRFToken": next(c["value"] for c in me.context.cookies() if c["name"] == "csrftoken")},
    )
    key = made.json()["key"]
    price_dearly(stack, me_row["organisation"]["id"])

    page.goto("/console/billing/")
    expect(page.get_by_text("Test mode.")).to_be_visible()
    pay(page, "5")
    page.wait_for_url(re.compile(r"/console/billing/payments/pay_\w+/$"))
    expect(page.get_by_role("heading", name="$5.00 of credit added")).to_be_visible()
    picture(page, "payment")
    page.get_by_role("link", name="Back to billing").click()
    expect(page.get_by_text("Visa ending in 4242")).to_be_visible()

    refused = ask_until(me.url, key, 402)
    assert refused.json()["error"]["code"] == "insufficient_credit"

    page.reload()
    page.get_by_role("button", name="Switch on").click()
    expect(page.get_by_text("Automatic top-up is on.").first).to_be_visible()
    ask_until(me.url, key, 200)
    page.goto("/console/billing/?kind=payment")
    expect(page.get_by_role("link", name="Automatic top-up").first).to_be_visible()
    expect(page.get_by_text("$20.00 of $100.00 this month")).to_be_visible()
    picture(page, "billing")
    page.get_by_role("button", name="Switch off").click()
    expect(page.get_by_text("Automatic top-up is off.").first).to_be_visible()

    link = page.get_by_role("link", name="This month so far").get_attribute("href")
    invoice = me.context.request.get(f"{me.url}{link}")
    assert invoice.ok and invoice.headers["content-type"] == "application/pdf"
    assert invoice.body().startswith(b"%PDF-")
    receipt = page.get_by_role("link", name="Receipt of $20.00 as PDF").get_attribute("href")
    assert me.context.request.get(f"{me.url}{receipt}").body().startswith(b"%PDF-")
    if folder := os.environ.get("KINDLING_SCREENSHOTS"):
        (Path(folder) / "invoice.pdf").write_bytes(invoice.body())


def owe(stack: Stack, org_id: str) -> None:
    """An invoice behind its last reminder; the workers find it as they find others, only sooner."""
    with psycopg.connect(stack.state["database_url"]) as db:
        db.execute(
            "INSERT INTO billing_invoice (id, owner_id, month, state, year, number, exact_picousd, covered_picousd,"
            " rounding_picousd, subtotal_cents, due_cents, tax_cents, paid_cents, bill_to, tax_id, created_at, due_at,"
            " dunned) VALUES (%s, %s, '2020-01-01', 'final', 2020, %s, 0, 0, 0, 1000, 1000, 0, 0, '', '', now(),"
            " now() - interval '30 days', 2)",
            [f"inv_{secrets.token_hex(13)}", org_id, secrets.randbelow(900_000) + 1],
        )
    Celery(broker=stack.state["redis_url"]).send_task("books.chase", ignore_result=True)


def test_a_suspended_customer_pays_in_the_banner_and_goes_on(visit: Callable[..., Visit], stack: Stack):
    me = visit()
    me.sign_up(f"owing-{secrets.token_hex(3)}@example.com")
    page = me.page
    made = me.context.request.post(
        f"{me.url}/api/v1/keys",
        data={"name": "laptop", "scopes": ["inference"]},
        headers={"X-CSRFToken": next(c["value"] for c in me.context.cookies() if c["name"] == "csrftoken")},
    )
    key = made.json()["key"]
    owe(stack, me.api("me")["organisation"]["id"])
    refused = poll(lambda: ask(me.url, key), lambda reply: reply.status_code == 412, every=0.5)
    assert refused.json()["error"]["code"] == "account_unpaid"

    page.goto("/console/keys/")
    banner = page.get_by_role("alert").filter(
        has_text="Requests are stopped until an overdue payment is made."
    )
    expect(banner).to_contain_text("and is not paid")
    picture(page, "unpaid")
    banner.get_by_role("button", name="Pay $10.00").click()
    page.wait_for_url(re.compile(r"/pay/cs_test_"))
    page.get_by_label("Card number").fill("4242 4242 4242 4242")
    page.get_by_role("button", name=re.compile("^Pay ")).click()
    page.wait_for_url(re.compile(r"/console/billing/payments/pay_\w+/$"))
    expect(page.get_by_role("heading", name="The invoice is paid")).to_be_visible()
    # Dunning's stop is lifted with the payment, and its banner goes without a reload.
    expect(page.get_by_text("Requests are stopped")).to_have_count(0)
    picture(page, "paid")
    poll(lambda: ask(me.url, key).status_code, lambda status: status == 200, every=0.5)


def test_who_comes_back_from_the_payment_page_is_not_sent_there_again(visit: Callable[..., Visit]):
    me = visit()
    me.sign_up(f"returner-{secrets.token_hex(3)}@example.com")
    page = me.page
    page.goto("/console/billing/")
    page.get_by_label("Amount", exact=True).fill("10")
    page.get_by_role("button", name="Continue to payment").click()
    page.wait_for_url(re.compile(r"/pay/cs_test_"))
    page.go_back()
    page.wait_for_url(re.compile(r"/console/billing/payments/pay_\w+/$"))
    with page.expect_response("**/live/") as asked:
        expect(page.get_by_role("heading", name="Waiting for the confirmation")).to_be_visible()
    assert asked.value.status == 200
    page.go_back()
    page.wait_for_url("**/console/billing/")


def test_a_declined_card_can_be_replaced_on_the_page(visit: Callable[..., Visit]):
    me = visit()
    me.sign_up(f"unlucky-{secrets.token_hex(3)}@example.com")
    page = me.page
    page.goto("/console/billing/")
    pay(page, "10", "4000 0000 0000 0002")
    expect(page.get_by_role("alert")).to_have_text("Your card was declined.")
    picture(page, "declined")
    page.get_by_label("Card number").fill("4000 0027 6000 3184")
    page.get_by_role("button", name=re.compile("^Pay ")).click()
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("heading", name="$10.00 of credit added")).to_be_visible()
    # The browser itself notes the stand-in's answer to the declined card.
    me.complaints = [text for text in me.complaints if "402" not in text]


def test_without_scripts_a_link_leads_to_the_payment(visit: Callable[..., Visit]):
    me = visit(java_script_enabled=False)
    me.sign_up(f"noscript-{secrets.token_hex(3)}@example.com")
    page = me.page
    page.goto("/console/billing/")
    page.get_by_label("Amount", exact=True).fill("10")
    page.get_by_role("button", name="Continue to payment").click()
    onward = page.get_by_role("link", name="Continue to payment")
    # Nothing changes by itself: the visitor looks again until the provider has answered.
    poll(lambda: onward.count() or page.get_by_role("link", name="Look again").click() or 0, bool, every=0.5)
    onward.click()
    page.get_by_role("button", name=re.compile("^Pay ")).click()
    page.wait_for_url(re.compile(r"/console/billing/payments/pay_\w+/$"))
    heading = page.get_by_role("heading", name="$10.00 of credit added")
    poll(lambda: heading.count() or page.reload() is None, bool, every=0.5)
    assert heading.count() == 1


def test_the_operator_sees_that_the_books_agree(visit: Callable[..., Visit], stack: Stack):
    email, password = stack.operator_login()
    operator = visit()
    page = operator.page
    page.goto("/accounts/login/")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.goto("/console/operator/payments/")
    page.get_by_role("button", name="Reconcile now").click()
    expect(page.get_by_role("heading", name="The books agree")).to_be_visible()
    picture(page, "reconciliation")
