"""What each route that runs a model makes of a body: where it goes, and how the answer comes back."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from kindling_platform.gateway.ask import Ask, ask_of, parse_ask
from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.catalog import Model, price_of
from kindling_platform.gateway.routes import Action
from kindling_platform.gateway.surface.body import INLINE_BODY_BYTES, Translated, body_write
from kindling_platform.gateway.surface.cost import CostForm, cost_body_read
from kindling_platform.gateway.surface.messages.request import message_body_read
from kindling_platform.gateway.surface.rerank.reply import RerankForm
from kindling_platform.gateway.surface.rerank.request import rerank_body_read
from kindling_platform.gateway.surface.responses.keep import Keeper
from kindling_platform.gateway.surface.responses.reply import ResponseForm
from kindling_platform.gateway.surface.responses.request import response_body_read
from kindling_platform.gateway.surface.responses.store import ResponseStore
from kindling_platform.gateway.surface.shaped import ShapedRequest

ENGINE_PATHS = {
    Action.CHAT: "/v1/chat/completions",
    Action.COMPLETION: "/v1/completions",
    Action.EMBEDDING: "/v1/embeddings",
    Action.MESSAGES: "/v1/chat/completions",
    Action.COUNT_TOKENS: "/v1/chat/tokens",
    Action.RESPONSES: "/v1/chat/completions",
    Action.RERANK: "/v1/embeddings",
}
# Routes without an answer that grows.
WITHOUT_OUTPUT = frozenset({Action.EMBEDDING, Action.RERANK})
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """What the engine is asked: the body, and what admission and relay have to know of it.

    `background` is the form of a response that nobody waits for.
    """

    body: bytes
    ask: Ask
    background: ResponseForm | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A body that was read as far as its model's name; `call` does the rest once the model is known."""

    model: str
    call: Callable[[Model], Awaitable[Call]]


async def asked_read(
    action: Action, raw: bytes, *, request: ShapedRequest, caller: Caller, store: ResponseStore
) -> Asked:
    """Read a body as its route wants it, and set the form of the answer. Errors: 400 ones that name the field."""
    match action:
        case Action.MESSAGES:
            return _translated(request, await _read(message_body_read, raw))
        case Action.COUNT_TOKENS:
            return _translated(request, await _read(_counted_read, raw))
        case Action.RERANK:
            ranking = await _read(rerank_body_read, raw)
            request.form = RerankForm(ranking)
            return _translated(request, ranking.translated)
        case Action.RESPONSES:
            return await _response(request, caller, store, raw)
        case _:
            return await _plain(request, raw)


async def _plain(request: ShapedRequest, raw: bytes) -> Asked:
    """OpenAI's own shape: the engine gets the bytes as they came, unless the gateway keeps a field for itself."""
    ask = parse_ask(raw)
    if ask.include_cost is None:
        return Asked(ask.model, _given(Call(raw, ask)))
    body = body_write(await _read(cost_body_read, raw))
    call = Call(body, parse_ask(body))

    async def priced(model: Model) -> Call:
        request.form = CostForm(price_of(model))
        return call

    return Asked(ask.model, priced if ask.include_cost else _given(call))


def _translated(request: ShapedRequest, translated: Translated) -> Asked:
    request.ignored = translated.ignored
    call = _call(translated)
    return Asked(call.ask.model, _given(call))


async def _response(request: ShapedRequest, caller: Caller, store: ResponseStore, raw: bytes) -> Asked:
    asked = await _read(response_body_read, raw)
    body_write(asked.echo)  # what the answer repeats has to be writable before there is one

    async def continued(model: Model) -> Call:
        earlier = await store.conversation(caller, asked.previous_id)
        translated = asked.translate(earlier, context_length=model.context_length)
        form = ResponseForm(asked.echo, asked.items, model=asked.chat["model"])
        request.form, request.ignored = form, translated.ignored
        request.keep = Keeper(store, caller, form, asked.items) if asked.store else None
        return replace(_call(translated), background=form if asked.background else None)

    return Asked(asked.chat["model"], continued)


def _counted_read(raw: bytes) -> Translated:
    return message_body_read(raw, counting=True)


def _call(translated: Translated) -> Call:
    body = body_write(translated.fields)
    return Call(body, ask_of(translated.fields, bound_bytes=len(body)))


def _given(call: Call) -> Callable[[Model], Awaitable[Call]]:
    async def known(model: Model) -> Call:
        return call

    return known


async def _read(read: Callable[[bytes], T], raw: bytes) -> T:
    """Large bodies are read in a thread, so that others' streams go on."""
    return read(raw) if len(raw) <= INLINE_BODY_BYTES else await asyncio.to_thread(read, raw)
