"""The price book as the operator changes it: versions that are added, all or none, and never edited."""

from collections.abc import Sequence
from typing import Any

from django.db import transaction

from kindling_billing.book import BOOK, Version
from kindling_billing.errors import BillingError
from kindling_billing.models import PricePlan, PriceVersion
from kindling_billing.rating import Price
from kindling_billing.selectors import price_of
from kindling_billing.services import price_publish
from kindling_platform.audit.services import audit_record
from kindling_platform.catalog.models import Model
from kindling_platform.common.actors import Actor
from kindling_platform.common.clock import now
from kindling_platform.common.effective import effective_check
from kindling_platform.common.errors import KindlingError, not_found


@transaction.atomic
def prices_publish(*, drafts: Sequence[Version], actor: Actor, corrects: bool = False) -> list[PriceVersion]:
    """Publish drafts, all or none. A past `valid_from` changes nothing that was billed, and must be meant (`corrects`).

    Raises:
        KindlingError: `model_unknown`, `price_doubled`, `valid_from_past`, `valid_from_far`, `plan_unknown`,
            `amount_invalid`.
    """
    models = drafts_check(drafts, corrects=corrects)
    return [_publish(draft, models[draft.sku], actor) for draft in drafts]


def drafts_check(drafts: Sequence[Version], *, corrects: bool) -> dict[str, Model]:
    """Refuse drafts that cannot be published by their model, plan or moment; gives the models by id.

    Raises:
        KindlingError: `model_unknown`, `plan_unknown`, `price_doubled`, `valid_from_past`, `valid_from_far`.
    """
    plans = {BOOK, *PricePlan.objects.values_list("id", flat=True)}
    models = {model.id: model for model in Model.objects.filter(id__in={draft.sku for draft in drafts})}
    seen = set()
    for draft in drafts:
        if draft.sku not in models:
            raise KindlingError("model_unknown", f"There is no model {draft.sku[:64]!r}.", param="model")
        if draft.plan_id not in plans:
            text = f"There is no price plan {draft.plan_id[:64]!r}."
            raise KindlingError("plan_unknown", text, param="plan_id")
        effective_check(draft.valid_from, corrects=corrects)
        key = (draft.plan_id, draft.sku, draft.valid_from)
        if key in seen:
            text = "Two of these prices are of the same model and begin at the same moment."
            raise KindlingError("price_doubled", text, param="valid_from")
        seen.add(key)
    return models


@transaction.atomic
def price_withdraw(*, price_id: str, actor: Actor) -> PriceVersion:
    """Take back a price that has not begun: what holds until then is published again, from the same moment on.

    Raises:
        KindlingError: `not_found`, `price_begun`, `price_replaced`, `price_first`.
    """
    version = PriceVersion.objects.filter(id=price_id).first()
    if version is None:
        raise not_found("price version")
    if version.valid_from <= now():
        text = (
            "This price has begun. Publish another instead; requests keep the price they were admitted under."
        )
        raise KindlingError("price_begun", text, 409)
    line = PriceVersion.objects.filter(plan_id=version.plan_id, sku=version.sku)
    if line.filter(valid_from=version.valid_from, id__gt=version.id).exists():
        raise KindlingError("price_replaced", "Another price begins at the same moment and holds.", 409)
    before = line.filter(valid_from__lt=version.valid_from).order_by("-valid_from", "-id").first()
    if before is None:
        text = "No price precedes this one. Publish the price that should hold from that moment on instead."
        raise KindlingError("price_first", text, 409)
    model = Model.objects.get(id=version.sku)
    copy = Version("", version.plan_id, version.sku, version.valid_from, price_of(before))
    return _publish(copy, model, actor, action="price.withdrawn", withdrawn=version.id)


def price_data(price: Price) -> dict[str, Any]:
    """A price as the audit log keeps it, in pico-dollars per unit."""
    return {
        "input": price.input,
        "cached_input": price.cached_input,
        "output": price.output,
        "reasoning": price.reasoning,
        "gpu_ms": price.gpu_ms,
        "batch_percent": price.batch_percent,
    }


def _publish(
    draft: Version, model: Model, actor: Actor, *, action: str = "price.published", **more: Any
) -> PriceVersion:
    line = PriceVersion.objects.filter(plan_id=draft.plan_id, sku=draft.sku, valid_from__lte=draft.valid_from)
    before = line.order_by("-valid_from", "-id").first()
    price = draft.price
    try:
        version = price_publish(
            sku=draft.sku,
            plan_id=draft.plan_id,
            input_picousd=price.input,
            cached_input_picousd=price.cached_input,
            output_picousd=price.output,
            reasoning_picousd=price.reasoning,
            gpu_ms_picousd=price.gpu_ms,
            batch_percent=price.batch_percent,
            valid_from=draft.valid_from,
            created_by=actor.label,
        )
    except BillingError as error:
        raise KindlingError(error.code, error.message) from error
    data = {
        "version": version.id,
        "plan": draft.plan_id,
        "valid_from": draft.valid_from.isoformat(),
        "before": price_data(price_of(before)) if before else None,
        "after": price_data(price),
    }
    audit_record(
        actor=actor, action=action, target=model.id, organisation_id=model.organisation_id, data=data | more
    )
    return version
