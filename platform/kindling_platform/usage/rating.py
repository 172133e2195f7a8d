"""Turns an engine's records into events with a cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from kindling_billing.models import PriceVersion
from kindling_billing.rating import Price, event_cost_picousd
from kindling_billing.selectors import price_map
from kindling_engine.protocol.usage_log import UsageRecord
from kindling_platform.usage.context import UsageContext, context_parse
from kindling_platform.usage.models import UsageEvent

# org, key, model, name, price, adapter, deployment; adapter's hash, finish, replica: the columns' widths.
TEXT_LIMITS = (32, 32, 32, 160, 32, 32, 32, 64, 24, 80)
MAX_TOKENS = 100_000_000
FIRST_MS, LAST_MS = 946_684_800_000, 4_102_444_800_000  # the years 2000 to 2100


@dataclass(frozen=True, slots=True)
class Rated:
    """Events that can be booked, and records that cannot, with the reason."""

    events: list[UsageEvent]
    parked: list[tuple[UsageRecord, str]]


def records_rate(records: Sequence[UsageRecord], *, source: str, known_orgs: set[str]) -> Rated:
    """Rate records with the price versions they name. A failure of ours costs nothing."""
    contexts = [context_parse(record.context) for record in records]
    prices = price_map(price_ids={context.price for context in contexts if context})
    rated = Rated([], [])
    for record, context in zip(records, contexts, strict=True):
        reason = _unbillable(record, context, prices, known_orgs)
        if reason or context is None:
            rated.parked.append((record, reason or "no context"))
        else:
            rated.events.append(_event(record, context, prices[context.price], source))
    return rated


def _unbillable(
    record: UsageRecord, context: UsageContext | None, prices: dict[str, PriceVersion], known_orgs: set[str]
) -> str:
    """Why a record cannot be booked, "" when it can. One bad record must not stop those behind it."""
    if context is None:
        return "The record does not say who asked."
    texts = (*msgspec.structs.astuple(context), record.adapter, record.finish, record.replica)
    if any(len(text) > limit or "\0" in text for text, limit in zip(texts, TEXT_LIMITS, strict=True)):
        return "A name or an id in the record cannot be stored."
    if context.org not in known_orgs:
        return f"There is no organisation {context.org}."
    if context.price not in prices or prices[context.price].sku != context.model:
        return f"There is no price version {context.price!r} of this model."
    try:
        UUID(record.request_id)
    except ValueError:
        return "The request id is not a UUID."
    counts = (record.prompt_tokens, record.completion_tokens, record.cached_tokens)
    if not all(0 <= count <= MAX_TOKENS for count in counts) or record.cached_tokens > record.prompt_tokens:
        return "The token counts contradict each other."
    if not all(FIRST_MS <= time_ms <= LAST_MS for time_ms in _times(record)):
        return "The times in the record cannot be right."
    return ""


def _times(record: UsageRecord) -> list[int]:
    first = [record.first_token_ms] if record.first_token_ms is not None else []
    return [record.started_ms, record.finished_ms, *first]


def _event(record: UsageRecord, context: UsageContext, price: PriceVersion, source: str) -> UsageEvent:
    cost = event_cost_picousd(
        Price(price.input_picousd, price.cached_input_picousd, price.output_picousd),
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
        first_token_at=_time(record.first_token_ms) if record.first_token_ms is not None else None,
        finished_at=_time(record.finished_ms),
    )


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
