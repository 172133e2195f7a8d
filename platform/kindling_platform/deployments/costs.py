"""What the operator enters about costs: of an hour of a replica, and of a model like ours elsewhere; both audited."""

from datetime import date, datetime

from django.db import transaction

from kindling_billing.costs import hosted_price_set, hour_cost_set
from kindling_billing.errors import BillingError
from kindling_billing.margins import Quote
from kindling_billing.models import HostedPrice, HourCost
from kindling_platform.audit.services import audit_record
from kindling_platform.catalog.models import Model
from kindling_platform.common.actors import Actor
from kindling_platform.common.errors import KindlingError, not_found

EVERY_MODEL = "every model"


@transaction.atomic
def cost_enter(
    *,
    picousd_per_hour: int,
    actor: Actor,
    model_id: str = "",
    valid_from: datetime | None = None,
    note: str = "",
) -> HourCost:
    """Say what an hour of a replica costs from a moment on, for one model or for all that have no cost of their own.

    Raises:
        KindlingError: `not_found`, `amount_invalid`.
    """
    model = _model(model_id) if model_id else None
    try:
        row = hour_cost_set(
            sku=model_id,
            picousd_per_hour=picousd_per_hour,
            valid_from=valid_from,
            note=note,
            created_by=actor.label,
        )
    except BillingError as error:
        raise KindlingError(error.code, error.message, param="cost") from error
    data = {
        "picousd_per_hour": str(picousd_per_hour),
        "valid_from": row.valid_from.isoformat(),
        "note": row.note,
    }
    audit_record(
        actor=actor,
        action="cost.entered",
        target=model.id if model else EVERY_MODEL,
        organisation_id=model.organisation_id if model else "",
        data=data,
    )
    return row


@transaction.atomic
def hosted_price_enter(
    *, model_id: str, quote: Quote, source: str, quoted_on: date, actor: Actor
) -> HostedPrice:
    """Note what a provider asks for a model like one of ours.

    Raises:
        KindlingError: `not_found`, `amount_invalid`, `source_missing`, `date_invalid`.
    """
    model = _model(model_id)
    try:
        row = hosted_price_set(
            sku=model.id,
            input_picousd=quote.input,
            cached_input_picousd=quote.cached_input,
            output_picousd=quote.output,
            source=source,
            quoted_on=quoted_on,
            created_by=actor.label,
        )
    except BillingError as error:
        raise KindlingError(error.code, error.message) from error
    data = {
        "input": quote.input,
        "cached_input": quote.cached_input,
        "output": quote.output,
        "source": row.source,
        "quoted_on": quoted_on.isoformat(),
    }
    audit_record(
        actor=actor,
        action="hosted_price.entered",
        target=model.id,
        organisation_id=model.organisation_id,
        data=data,
    )
    return row


def _model(model_id: str) -> Model:
    found: Model | None = Model.objects.filter(id=model_id).first()
    if found is None:
        raise not_found("model")
    return found
