"""What each route that runs a model makes of a body: where it goes, and how the answer comes back."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from kindling_platform.gateway.ask import Ask, Spare, ask_of, parse_ask
from kindling_platform.gateway.auth import Caller, flexible
from kindling_platform.gateway.catalog import Model, price_of
from kindling_platform.gateway.routes import Action
from kindling_platform.gateway.surface.body import INLINE_BODY_BYTES, Translated, body_write
from kindling_platform.gateway.surface.cost import TIER, CostForm, own_fields_take
from kindling_platform.gateway.surface.messages.reply import MessageForm
from kindling_platform.gateway.surface.messages.request import message_body_read
from kindling_platform.gateway.surface.rerank.reply import RerankForm
from kindling_platform.gateway.surface.rerank.request import rerank_body_read
from kindling_platform.gateway.surface.responses.count import InputTokensForm
from kindling_platform.gateway.surface.responses.keep import Keeper
from kindling_platform.gateway.surface.responses.references import references_resolve
from kindling_platform.gateway.surface.responses.reply import ResponseForm
from kindling_platform.gateway.surface.responses.request import ResponseAsk, response_body_read
from kindling_platform.gateway.surface.responses.store import ResponseStore
from kindling_platform.gateway.surface.shaped import ShapedRequest
from kindling_platform.gateway.surface.spare import spare_make

ENGINE_PATHS = {
    Action.CHAT: "/v1/chat/completions",
    Action.COMPLETION: "/v1/completions",
    Action.EMBEDDING: "/v1/embeddings",
    Action.MESSAGES: "/v1/chat/completions",
    Action.COUNT_TOKENS: "/v1/chat/tokens",
    Action.RESPONSES: "/v1/chat/completions",
    Action.RESPONSE_TOKENS: "/v1/chat/tokens",
    Action.RERANK: "/v1/embeddings",
    Action.TOKENIZE: "/v1/tokenize",
    Action.DETOKENIZE: "/v1/detokenize",
}
# Routes without an answer that grows.
WITHOUT_OUTPUT = frozenset({Action.EMBEDDING, Action.RERANK})
# Routes between text and tokens, which make and charge nothing.
COUNTS = frozenset({Action.COUNT_TOKENS, Action.RESPONSE_TOKENS, Action.TOKENIZE, Action.DETOKENIZE})
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """What the engine is asked: the body, and what admission and relay have to know of it.

    `spare` takes out what the model cannot do; `background` is the form of a response that nobody waits for.
    """

    body: bytes
    ask: Ask
    spare: Spare | None = None
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
        case Action.TOKENIZE | Action.DETOKENIZE:
            ask = replace(await _read(parse_ask, raw), stream=False, flex=False)
            return Asked(ask.model, _given(Call(raw, ask)))
        case Action.RERANK:
            ranking = await _read(rerank_body_read, raw)
            request.form = RerankForm(ranking)
            return _translated(request, ranking.translated)
        case Action.RESPONSES:
            return _response(request, caller, store, await _read(response_body_read, raw))
        case Action.RESPONSE_TOKENS:
            return _response_tokens(request, caller, store, await _read(_response_counted_read, raw))
        case _:
            return await _plain(request, caller, raw)


async def _plain(request: ShapedRequest, caller: Caller, raw: bytes) -> Asked:
    """OpenAI's own shape: the engine gets the bytes as they came, unless the gateway keeps a field for itself."""
    ask = parse_ask(raw)
    if ask.include_cost is None and not ask.flex:
        return Asked(ask.model, _given(Call(raw, ask)))
    body = body_write(await _read(own_fields_take, raw))
    call = Call(body, replace(parse_ask(body), flex=ask.flex))

    async def priced(model: Model) -> Call:
        request.form = CostForm(price_of(model, flexible(caller) if ask.flex else caller))
        return call

    return Asked(ask.model, priced if ask.include_cost else _given(call))


def _translated(request: ShapedRequest, translated: Translated) -> Asked:
    request.ignored = translated.ignored
    call = _call(translated)
    if translated.spare:
        call = replace(call, spare=spare_make(request, translated.spare))
    if isinstance(request.form, MessageForm):
        request.form.naming = translated.naming
    return Asked(call.ask.model, _given(call))


def _response(request: ShapedRequest, caller: Caller, store: ResponseStore, asked: ResponseAsk) -> Asked:
    body_write(asked.echo)  # what the answer repeats has to be writable before there is one

    async def continued(model: Model) -> Call:
        full, translated = await _continue(asked, caller, store, model)
        form = ResponseForm(full.echo, full.items, model=full.chat["model"], naming=full.naming)
        request.form, request.ignored = form, translated.ignored
        request.keep = Keeper(store, caller, form, full.items) if full.store else None
        return replace(_call(translated), background=form if full.background else None)

    return Asked(asked.chat["model"], continued)


def _response_tokens(
    request: ShapedRequest, caller: Caller, store: ResponseStore, asked: ResponseAsk
) -> Asked:
    async def continued(model: Model) -> Call:
        _, translated = await _continue(asked, caller, store, model)
        request.form, request.ignored = InputTokensForm(asked.naming), translated.ignored
        return _call(translated)

    return Asked(asked.chat["model"], continued)


async def _continue(
    asked: ResponseAsk, caller: Caller, store: ResponseStore, model: Model
) -> tuple[ResponseAsk, Translated]:
    """The same with what its items refer to, and the body for the engine behind the conversation before it."""
    full = replace(asked, items=await references_resolve(asked.items, caller, store))
    earlier = await store.conversation(caller, full.previous_id)
    return full, full.translate(earlier, context_length=model.context_length)


def _response_counted_read(raw: bytes) -> ResponseAsk:
    return response_body_read(raw, counting=True)


def _counted_read(raw: bytes) -> Translated:
    return message_body_read(raw, counting=True)


def _call(translated: Translated) -> Call:
    asked = ask_of(translated.fields, bound_bytes=0)
    fields = {name: value for name, value in translated.fields.items() if not (asked.flex and name == TIER)}
    body = body_write(fields)
    return Call(body, replace(ask_of(fields, bound_bytes=len(body)), flex=asked.flex))


def _given(call: Call) -> Callable[[Model], Awaitable[Call]]:
    async def known(model: Model) -> Call:
        return call

    return known


async def _read(read: Callable[[bytes], T], raw: bytes) -> T:
    """Large bodies are read in a thread, so that others' streams go on."""
    return read(raw) if len(raw) <= INLINE_BODY_BYTES else await asyncio.to_thread(read, raw)
