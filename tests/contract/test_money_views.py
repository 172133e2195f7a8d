"""What the gateway reads of money: the limit of post-paid owners, a plan's prices, suspension for unpaid invoices."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from kindling_billing.plans import plan_assign, plan_create
from kindling_billing.rating import Used, usage_rate
from kindling_billing.selectors import price_of
from kindling_billing.services import price_publish
from kindling_billing.terms import owner_resume, owner_suspend, terms_set
from kindling_people import Customer, make_customer, make_model, make_operator
from kindling_platform.common.clock import now
from kindling_platform.gateway import database as gateway
from kindling_platform.gateway.catalog import model_from_row
from kindling_platform.keys.models import ApiKey

pytestmark = pytest.mark.django_db
CREDIT = 10**12


@pytest.fixture
def ada(db: None) -> Customer:
    return make_customer("ada")


def rows(query: str, *values: Any) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def balance(org_id: str) -> tuple[int, int]:
    row = rows(gateway.BALANCE_OF_ORG, org_id)[0]
    return int(row["balance_picousd"]), row["version"]


def test_a_credit_limit_can_be_spent_by_post_paid_owners_alone(ada: Customer):
    assert balance(ada.org.id)[0] == CREDIT
    terms_set(owner_id=ada.org.id, credit_limit_picousd=5 * CREDIT)
    before = balance(ada.org.id)
    assert before[0] == CREDIT
    terms_set(owner_id=ada.org.id, mode="postpaid")
    after = balance(ada.org.id)
    assert (after[0], after[1] > before[1]) == (6 * CREDIT, True)


def test_a_suspended_owner_can_spend_nothing_and_their_keys_say_so(ada: Customer):
    ada.key()
    digest = bytes(ApiKey.objects.get(organisation=ada.org).digest)
    assert rows(gateway.KEY_BY_DIGEST, digest)[0]["suspended_for"] == ""
    assert owner_suspend(owner_id=ada.org.id, reason="Unpaid")
    assert not owner_suspend(owner_id=ada.org.id, reason="Unpaid")
    assert (balance(ada.org.id)[0], rows(gateway.KEY_BY_DIGEST, digest)[0]["suspended_for"]) == (0, "unpaid")
    assert owner_resume(owner_id=ada.org.id)
    assert (balance(ada.org.id)[0], rows(gateway.KEY_BY_DIGEST, digest)[0]["suspended_for"]) == (CREDIT, "")


def test_a_plan_has_prices_of_its_own_and_does_not_touch_the_book(ada: Customer):
    model = make_model(make_operator())
    plan = plan_create(name="Friends")
    price_publish(
        sku=model.id,
        plan_id=plan.id,
        input_picousd=1,
        cached_input_picousd=2,
        output_picousd=3,
        reasoning_picousd=5,
        batch_percent=0,
    )
    book = rows(gateway.MODEL_BY_NAME, "kindling", "spark")[0]
    assert (book["input_picousd"], book["reasoning_picousd"], book["batch_percent"]) == (100_000, None, 50)
    assert rows(gateway.PLAN_PRICES_OF_ORG, ada.org.id) == []
    plan_assign(owner_id=ada.org.id, plan_id=plan.id)
    found = rows(gateway.PLAN_PRICES_OF_ORG, ada.org.id)[0]
    assert (found["model_id"], found["input_picousd"], found["output_picousd"]) == (model.id, 1, 3)
    assert (found["reasoning_picousd"], found["batch_percent"]) == (5, 0)
    plan_assign(owner_id=ada.org.id, plan_id="", valid_from=now() + timedelta(hours=1))
    assert len(rows(gateway.PLAN_PRICES_OF_ORG, ada.org.id)) == 1
    plan_assign(owner_id=ada.org.id, plan_id="")
    assert rows(gateway.PLAN_PRICES_OF_ORG, ada.org.id) == []


@pytest.mark.parametrize("percent", [0, 1, 33, 100])
def test_batch_work_is_held_at_the_part_that_the_books_charge(ada: Customer, percent: int):
    """From the price book to the gateway's price, of a model and of a plan."""
    model, plan = make_model(make_operator(), priced=False), plan_create(name="Friends")
    prices = {
        "input_picousd": 301,
        "cached_input_picousd": 101,
        "output_picousd": 701,
        "reasoning_picousd": 1303,
    }
    made = price_publish(sku=model.id, batch_percent=percent, **prices)
    for_plan = price_publish(sku=model.id, plan_id=plan.id, batch_percent=100 - percent, **prices)
    plan_assign(owner_id=ada.org.id, plan_id=plan.id)
    [row] = rows(gateway.MODEL_BY_NAME, "kindling", "spark")
    assert row in rows(gateway.MODELS_OF_ORG, ada.org.id)
    [plan_row] = rows(gateway.PLAN_PRICES_OF_ORG, ada.org.id)
    used = Used(11, 3, 17, 5, batch=True)
    for found, version in ((row, made), (row | plan_row, for_plan)):
        assert (found["price_version_id"], found["batch_percent"]) == (version.id, version.batch_percent)
        price = model_from_row(found).price
        assert price
        held = usage_rate(price.for_batch(), used._replace(batch=False))
        assert [line.amount_picousd for line in held] == [
            line.amount_picousd for line in usage_rate(price_of(version), used)
        ]
