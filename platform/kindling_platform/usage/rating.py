"""Turns an engine's records into events with a cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from kindling_billing.rating import Price, event_cost_picousd
from kindling_billing.selectors import price_map
from kindling_engine.protocol.usage_log import UsageRecord
from kindling_platform.usage.context import UsageContext, context_parse
from kindling_platform.usage.models import UsageEvent


@dataclass(frozen=True, slots=True)
class Rated:
    """Events that can be booked, and records that cannot, with the reason."""

    events: list[UsageEvent]
    parked: list[tuple[UsageRecord, str]]


def records_rate(records: Sequence[UsageRecord], *, source: str, known_orgs: set[str]) -> Rated:
    """Rate records with the price versions they name. A failure of ours costs nothing."""
    contexts = [context_parse(record.context) for record in records]
    prices = {
        price.id: Price(price.input_picousd, price.cached_input_picousd, price.output_picousd)
        for price in price_map(price_ids={context.price for context in contexts if context}).values()
    }
    rated = Rated([], [])
    for record, context in zip(records, contexts, strict=True):
        reason = _unbillable(record, context, prices, known_orgs)
        if reason or context is None:
            rated.parked.append((record, reason or "no context"))
        else:
            rated.events.append(_event(record, context, prices[context.price], source))
    return rated


def _unbillable(
    record: UsageRecord, context: UsageContext | None, prices: dict[str, Price], known_orgs: set[str]
) -> str:
    if context is None:
        return "The record does not say who asked."
    if context.org not in known_orgs:
        return f"There is no organisation {context.org[:32]!r}."
    if context.price not in prices:
        return f"There is no price version {context.price[:32]!r}."
    try:
        UUID(record.request_id)
    except ValueError:
        return "The request id is not a UUID."
    if not 0 <= record.cached_tokens <= record.prompt_tokens or record.completion_tokens < 0:
        return "The token counts contradict each other."
    return ""


def _event(record: UsageRecord, context: UsageContext, price: Price, source: str) -> UsageEvent:
    cost = event_cost_picousd(
        price,
        prompt_tokens=record.prompt_tokens,
        cached_tokens=record.cached_tokens,
        completion_tokens=record.completion_tokens,
    )
    return UsageEvent(
        request_id=UUID(record.request_id),
        organisation_id=context.org,
        key_id=context.key,
        model_id=context.model,
        model_name=context.name,
        adapter_id=context.adapter,
        adapter_hash=record.adapter,
        deployment_id=context.deployment,
        replica_name=record.replica or source,
        prompt_tokens=record.prompt_tokens,
        cached_tokens=record.cached_tokens,
        completion_tokens=record.completion_tokens,
        finish=record.finish,
        billable=record.billable,
        price_version_id=context.price,
        cost_picousd=cost if record.billable else 0,
        started_at=_time(record.started_ms),
        first_token_at=_time(record.first_token_ms) if record.first_token_ms else None,
        finished_at=_time(record.finished_ms),
    )


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
