"""What every table here is made with: prefixed ids and a clock."""

from datetime import UTC, datetime

from kindling_billing.ids import new_billing_id, new_billing_ids

ID_CHARS = 32


def price_id() -> str:
    return new_billing_id("prc")


def account_id() -> str:
    return new_billing_id("lac")


def transaction_id() -> str:
    return new_billing_id("ltx")


def transaction_ids(count: int) -> list[str]:
    return new_billing_ids("ltx", count)


def payment_id() -> str:
    return new_billing_id("pay")


def grant_id() -> str:
    return new_billing_id("grt")


def plan_id() -> str:
    return new_billing_id("pln")


def invoice_id() -> str:
    return new_billing_id("inv")


def call_id() -> str:
    return new_billing_id("obx")


def utc_now() -> datetime:
    return datetime.now(UTC)
