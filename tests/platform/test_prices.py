"""The price book as the operator changes it: audited versions, withdrawal by another version, what a draft would do."""

from datetime import UTC, datetime, timedelta

import pytest

from kindling_billing.book import Version
from kindling_billing.effects import draft
from kindling_billing.models import PriceVersion
from kindling_billing.plans import plan_assign, plan_create
from kindling_billing.rating import Price
from kindling_billing.selectors import balance_get, price_map_current
from kindling_people import CACHED, INPUT, OUTPUT, Customer, make_customer, make_model, make_record
from kindling_platform.audit.models import AuditEvent
from kindling_platform.catalog.models import Model
from kindling_platform.catalog.prices import price_withdraw, prices_publish
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.usage.repricing import prices_preview
from kindling_platform.usage.rerating import rerating_start, rerating_step
from kindling_platform.usage.services import usage_ingest

pytestmark = pytest.mark.django_db
NEW = Price(3, 2, 7, reasoning=9, batch_percent=40)
DAY = datetime(2026, 9, 21, tzinfo=UTC)  # on which the records of these tests ran
SPAN = {"start": DAY, "end": DAY + timedelta(days=2)}


@pytest.fixture
def model(operator: Customer) -> Model:
    return make_model(operator)


def soon(hours: int = 1) -> datetime:
    return now() + timedelta(hours=hours)


def new(model: Model, **more) -> Version:
    return draft(**{"sku": model.id, "valid_from": now(), "price": NEW} | more)


def refused(code: str, *drafts: Version, actor, **more) -> None:
    before = PriceVersion.objects.count()
    with pytest.raises(KindlingError) as error:
        prices_publish(drafts=drafts, actor=actor, **more)
    assert error.value.code == code
    assert PriceVersion.objects.count() == before


def test_a_price_is_published_with_what_it_replaces_in_the_audit_log(operator: Customer, model: Model):
    (version,) = prices_publish(drafts=[new(model)], actor=operator.actor)
    assert price_map_current(skus=[model.id])[model.id] == version
    kept = (version.reasoning_picousd, version.batch_percent, version.created_by)
    assert kept == (9, 40, operator.user.email)
    event = AuditEvent.objects.get(action="price.published", data__version=version.id)
    assert (event.target, event.data["before"]["input"], event.data["after"]["input"]) == (model.id, INPUT, 3)


def test_many_are_published_or_none(operator: Customer, model: Model):
    before = PriceVersion.objects.count()
    refused("model_unknown", new(model), new(model, sku="mdl_gone"), actor=operator.actor)
    refused(
        "amount_invalid",
        new(model),
        new(model, valid_from=soon(), price=Price(-1, 0, 0)),
        actor=operator.actor,
    )
    refused("plan_unknown", new(model, plan_id="pln_gone"), actor=operator.actor)
    moment = soon()
    refused(
        "price_doubled", new(model, valid_from=moment), new(model, valid_from=moment), actor=operator.actor
    )
    assert PriceVersion.objects.count() == before


def test_the_past_is_corrected_only_when_that_is_meant(operator: Customer, model: Model):
    past = new(model, valid_from=now() - timedelta(days=9))
    refused("valid_from_past", past, actor=operator.actor)
    refused("valid_from_far", new(model, valid_from=soon(24 * 365 * 20)), actor=operator.actor)
    assert prices_publish(drafts=[past], actor=operator.actor, corrects=True)


def test_a_price_to_come_is_withdrawn_by_what_holds_before_it(operator: Customer, model: Model):
    (coming,) = prices_publish(drafts=[new(model, valid_from=soon())], actor=operator.actor)
    copy = price_withdraw(price_id=coming.id, actor=operator.actor)
    assert (copy.input_picousd, copy.valid_from) == (INPUT, coming.valid_from)
    assert price_map_current(skus=[model.id], at=soon(2))[model.id] == copy
    event = AuditEvent.objects.get(action="price.withdrawn")
    assert event.data["withdrawn"] == coming.id
    with pytest.raises(KindlingError) as error:
        price_withdraw(price_id=coming.id, actor=operator.actor)
    assert error.value.code == "price_replaced"


def test_what_has_begun_or_has_nothing_before_it_is_not_withdrawn(operator: Customer, model: Model):
    begun = PriceVersion.objects.get(sku=model.id)
    plan = plan_create(name="Partner")
    (first,) = prices_publish(drafts=[new(model, valid_from=soon(), plan_id=plan.id)], actor=operator.actor)
    for price_id, code in ((begun.id, "price_begun"), (first.id, "price_first"), ("prc_none", "not_found")):
        with pytest.raises(KindlingError) as error:
            price_withdraw(price_id=price_id, actor=operator.actor)
        assert error.value.code == code


def test_an_owner_on_a_plan_pays_its_price_and_nobody_else_sees_it(operator: Customer, model: Model):
    ada, bob = make_customer("ada"), make_customer("bob")
    plan = plan_create(name="Partner")
    prices_publish(drafts=[new(model, plan_id=plan.id)], actor=operator.actor)
    plan_assign(owner_id=ada.org.id, plan_id=plan.id)
    seen = [
        price_map_current(skus=[model.id], owner_id=owner)[model.id].input_picousd
        for owner in (ada.org.id, bob.org.id, "")
    ]
    assert seen == [3, INPUT, INPUT]
    shown = [one.client().call("GET", f"models/{model.ref}").json()["price"] for one in (ada, bob)]
    assert shown[0] != shown[1]


def used(model: Model, customer: Customer, count: int, source: str, **changes) -> None:
    price = PriceVersion.objects.filter(sku=model.id, plan_id="").earliest("valid_from")
    records = [make_record(customer.org.id, model, price, **changes) for _ in range(count)]
    usage_ingest(source=source, log_id="log", after=0, records=records, next_offset=count)


def test_a_preview_is_what_rating_anew_then_makes_to_the_unit(operator: Customer, model: Model):
    ada, bob, eve = make_customer("ada"), make_customer("bob"), make_customer("eve")
    plan = plan_create(name="Partner")
    prices_publish(
        drafts=[new(model, plan_id=plan.id, valid_from=DAY - timedelta(days=9))],
        actor=operator.actor,
        corrects=True,
    )
    plan_assign(owner_id=eve.org.id, plan_id=plan.id, valid_from=DAY - timedelta(days=9))
    used(model, ada, 3, "r0", prompt_tokens=1_000_003, cached_tokens=7, completion_tokens=41)
    used(model, bob, 2, "r1")
    used(model, bob, 5, "r2", finish="error")
    used(model, eve, 1, "r3")
    change = draft(
        sku=model.id, valid_from=DAY - timedelta(days=1), price=Price(INPUT // 3, CACHED, OUTPUT * 2 + 1)
    )
    preview = prices_preview(drafts=[change], **SPAN)

    by_owner = {effect.owner_id: effect for effect in preview.effects}
    assert by_owner[eve.org.id].difference_picousd == 0
    assert by_owner[bob.org.id].before_picousd == 2 * (6 * INPUT + 4 * CACHED + 5 * OUTPUT)
    assert preview.effects[0].owner_id == ada.org.id, "the largest difference comes first"
    assert preview.difference_picousd == sum(effect.difference_picousd for effect in preview.effects)

    before = {one.org.id: balance_get(owner_id=one.org.id).picousd for one in (ada, bob)}
    prices_publish(drafts=[change], actor=operator.actor, corrects=True)
    run = rerating_start(sku=model.id, reason="A new price", actor=operator.actor, **SPAN)
    while rerating_step(run_id=run.id):
        pass
    for owner_id, balance in before.items():
        moved = balance - balance_get(owner_id=owner_id).picousd
        assert moved == by_owner[owner_id].difference_picousd


def test_a_preview_writes_nothing_and_sees_its_span_and_models_alone(operator: Customer, model: Model):
    ada = make_customer("ada")
    used(model, ada, 1, "r0")
    versions = PriceVersion.objects.count()
    assert prices_preview(drafts=[new(model)], start=DAY - timedelta(days=30), end=DAY).effects == []
    assert prices_preview(drafts=[new(model, sku="other")], **SPAN).effects == []
    assert prices_preview(drafts=[], **SPAN).effects == []
    assert PriceVersion.objects.count() == versions


def test_a_preview_that_takes_too_long_is_given_up(operator: Customer, model: Model, monkeypatch):
    monkeypatch.setattr(
        "kindling_platform.usage.repricing.REQUESTS",
        "SELECT pg_sleep(20), %(skus)s::text[]",
    )
    monkeypatch.setattr("kindling_platform.usage.repricing.LIMIT_S", 0.01)
    with pytest.raises(KindlingError) as error:
        prices_preview(drafts=[new(model)], **SPAN)
    assert (error.value.code, error.value.status) == ("preview_too_long", 503)
