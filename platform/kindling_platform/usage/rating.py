"""Turns an engine's records into events with a cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from kindling_billing.models import PriceVersion
from kindling_billing.rating import Line, Price, Used, usage_rate
from kindling_billing.selectors import price_book, price_map, price_of
from kindling_engine.protocol.usage_log import UsageRecord
from kindling_platform.common.clock import now
from kindling_platform.usage.context import UsageContext, context_parse
from kindling_platform.usage.models import UsageEvent

# org, key, model, name, price, adapter, deployment; adapter's hash, finish, replica: the columns' widths.
TEXT_LIMITS = (32, 32, 32, 160, 32, 32, 32, 64, 24, 80)
MAX_TOKENS = 100_000_000
MAX_AHEAD = timedelta(days=1)
FIRST_MS, LAST_MS = 946_684_800_000, 4_102_444_800_000  # the years 2000 to 2100


@dataclass(frozen=True, slots=True)
class Rated:
    """Events that can be booked with the lines of their cost, and records that cannot, with the reason."""

    events: list[UsageEvent]
    parked: list[tuple[UsageRecord, str]]
    lines: dict[UUID, tuple[Line, ...]]


def records_rate(
    records: Sequence[UsageRecord], *, source: str, known_orgs: set[str], price_by_time: bool = False
) -> Rated:
    """Rate records with the price versions they name. A failure of ours costs nothing.

    `price_by_time` gives records that name none the version that was in force when they began.
    """
    contexts = [context_parse(record.context) for record in records]
    if price_by_time:
        contexts = _contexts_priced(records, contexts)
    prices = price_map(price_ids={context.price for context in contexts if context})
    rated = Rated([], [], {})
    for record, context in zip(records, contexts, strict=True):
        reason = _unbillable(record, context, prices, known_orgs)
        if reason or context is None:
            rated.parked.append((record, reason or "no context"))
        else:
            event, lines = _event(record, context, prices[context.price], source)
            rated.events.append(event)
            rated.lines[event.request_id] = lines
    return rated


def event_lines(event: UsageEvent, price: Price) -> tuple[Line, ...]:
    """Why an event costs what it costs at a price; nothing when the failure was ours."""
    if not event.billable:
        return ()
    used = Used(
        prompt_tokens=event.prompt_tokens,
        cached_tokens=event.cached_tokens,
        completion_tokens=event.completion_tokens,
        reasoning_tokens=event.reasoning_tokens,
        batch=event.batch,
    )
    return usage_rate(price, used)


def _contexts_priced(
    records: Sequence[UsageRecord], contexts: Sequence[UsageContext | None]
) -> list[UsageContext | None]:
    named = price_map(price_ids={context.price for context in contexts if context})
    book = price_book(skus={context.model for context in contexts if context})
    priced: list[UsageContext | None] = []
    for record, context in zip(records, contexts, strict=True):
        found = None
        if context and context.price not in named and FIRST_MS <= record.started_ms <= LAST_MS:
            found = book.find(context.org, context.model, _time(record.started_ms))
        priced.append(msgspec.structs.replace(context, price=found.id) if context and found else context)
    return priced


def _unbillable(
    record: UsageRecord, context: UsageContext | None, prices: dict[str, PriceVersion], known_orgs: set[str]
) -> str:
    """Why a record cannot be booked, "" when it can. One bad record must not stop those behind it."""
    if context is None:
        return "The record does not say who asked."
    texts = (*context.ids, record.adapter, record.finish, record.replica)
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
    if not _counts_hold(record):
        return "The token counts contradict each other."
    if not all(FIRST_MS <= time_ms <= LAST_MS for time_ms in _times(record)):
        return "The times in the record cannot be right."
    if record.finished_ms > (now() + MAX_AHEAD).timestamp() * 1000:
        return "The record is from the future: a clock is wrong."
    return ""


def _counts_hold(record: UsageRecord) -> bool:
    wholes = (record.prompt_tokens, record.completion_tokens)
    parts = (record.cached_tokens, record.reasoning_tokens)
    return all(0 <= part <= whole <= MAX_TOKENS for part, whole in zip(parts, wholes, strict=True))


def _times(record: UsageRecord) -> list[int]:
    first = [record.first_token_ms] if record.first_token_ms is not None else []
    return [record.started_ms, record.finished_ms, *first]


def _event(
    record: UsageRecord, context: UsageContext, price: PriceVersion, source: str
) -> tuple[UsageEvent, tuple[Line, ...]]:
    event = UsageEvent(
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
        reasoning_tokens=record.reasoning_tokens,
        batch=context.batch,
        finish=record.finish,
        billable=record.billable,
        price_version_id=context.price,
        cost_picousd=0,
        started_at=_time(record.started_ms),
        first_token_at=_time(record.first_token_ms) if record.first_token_ms is not None else None,
        finished_at=_time(record.finished_ms),
    )
    lines = event_lines(event, price_of(price))
    event.cost_picousd = sum(line.amount_picousd for line in lines)
    return event, lines


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
