"""Conversations of the playground on their way to a link and back: numbers of the books, and what a page draws."""

from decimal import Decimal
from typing import Any

from django.urls import reverse

from kindling_billing.money import PICO_PER_USD, pico_to_usd_text
from kindling_console.access import Visitor
from kindling_console.templatetags.kindling import usd_cost
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.ids import request_id_read
from kindling_platform.responses.conversations import Conversation, Numbers, Turn, conversation_read
from kindling_platform.responses.sharing import Shared, conversation_shared_open
from kindling_platform.usage.selectors import usage_event_list


def conversation_numbered(visitor: Visitor, text: bytes) -> Conversation:
    """What a page sends, with what the organisation's own books say of each answer. Errors: those of reading."""
    conversation = conversation_read(text)
    asked = {given: request_id_read(given) for given in conversation.request_ids()}
    wanted = {"request_id": [str(found) for found in asked.values() if found]}
    events = {event.request_id: numbers_of(event) for event in usage_event_list(org=visitor.org, only=wanted)}
    conversation.number({given: events[found] for given, found in asked.items() if found in events})
    return conversation


def numbers_of(event: Any) -> Numbers:
    """What the books say of a request."""
    first = (event.first_token_at - event.started_at).total_seconds() if event.first_token_at else None
    made = event.completion_tokens
    writing = (event.finished_at - event.first_token_at).total_seconds() if event.first_token_at else 0
    return Numbers(
        prompt_tokens=event.prompt_tokens,
        cached_tokens=event.cached_tokens,
        completion_tokens=made,
        cost_usd=pico_to_usd_text(int(event.cost_picousd), 12),
        finish=event.finish,
        first_token_ms=round(first * 1000) if first is not None else None,
        tokens_per_s=round((made - 1) / writing, 1) if made > 1 and writing > 0 else None,
    )


def numbers_told(numbers: Numbers, request_id: str) -> dict[str, Any]:
    """The same for the page's scripts and templates."""
    return {
        "cost": usd_cost(int(Decimal(numbers.cost_usd) * PICO_PER_USD)),
        "cost_exact_usd": numbers.cost_usd,
        "prompt_tokens": numbers.prompt_tokens,
        "cached_tokens": numbers.cached_tokens,
        "completion_tokens": numbers.completion_tokens,
        "first_token_ms": numbers.first_token_ms,
        "tokens_per_s": numbers.tokens_per_s,
        "finish": numbers.finish,
        "url": reverse("console:request", args=[request_id]),
    }


def copy_get(visitor: Visitor, share_id: str) -> Shared | None:
    """The shared conversation that a page is to go on with; None where nothing is asked for or it cannot be opened.

    Errors: `not_found`.
    """
    if not share_id:
        return None
    try:
        return conversation_shared_open(org=visitor.org, share_id=share_id)
    except KindlingError as error:
        if error.status == 404:
            raise
        return None


def shared_fields(shared: Shared) -> dict[str, Any]:
    """What the controls of the playground stand on in a copy."""
    conversation, params = shared.conversation, shared.conversation.params
    given = {name: getattr(params, name) for name in params.__struct_fields__}
    return {name: "" if value is None else value for name, value in given.items()} | {
        "mode": conversation.mode,
        "model": conversation.lanes[0].model,
        "system": conversation.system,
    }


def lanes_told(conversation: Conversation) -> list[list[dict[str, Any]]]:
    """Each lane's turns as the page's scripts keep them."""
    return [[_turn_told(turn) for turn in lane.turns] for lane in conversation.lanes]


def _turn_told(turn: Turn) -> dict[str, Any]:
    told: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if turn.role == "assistant":
        told |= {"model": turn.model, "thought": turn.thought, "request": turn.request_id}
    if turn.numbers:
        told["row"] = numbers_told(turn.numbers, turn.request_id)
    return told
