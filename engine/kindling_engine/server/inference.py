"""The two routes that generate: read, run, answer whole or as a stream."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from kindling_engine.protocol import headers as names
from kindling_engine.protocol.headers import EngineHeaders, HeaderError, parse_headers
from kindling_engine.server.chat_body import chat_body_read
from kindling_engine.server.chat_reply import ChatReply
from kindling_engine.server.choice import Answer, Piece, answers_join, best_select
from kindling_engine.server.completion_body import completion_body_read
from kindling_engine.server.completion_reply import CompletionReply
from kindling_engine.server.errors import ApiError, invalid_value, place_of
from kindling_engine.server.generation import Generation
from kindling_engine.server.keys import FRONT
from kindling_engine.server.model_text import ModelText
from kindling_engine.server.perf import perf_headers
from kindling_engine.server.reply import Reply, error_event
from kindling_engine.server.request_common import GenerationRequest, ModelFacts
from kindling_engine.server.usage import now_ms

logger = logging.getLogger(__name__)

STREAM_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
# So long may a client take to read what lies before it.
WRITE_TIMEOUT_S = 60.0
# An idle connection takes so much at once, whatever its reader does: half of what asyncio keeps before it waits.
FREE_BYTES = 32 * 1024
# The log-probabilities of more tokens are written in a thread, so that the event loop goes on streaming to the others.
INLINE_ENTRIES = 1024
ReadBody = Callable[[bytes, ModelText, ModelFacts], Awaitable[GenerationRequest]]


async def post_chat(request: web.Request) -> web.StreamResponse:
    return await _answer(request, chat_body_read)


async def post_completion(request: web.Request) -> web.StreamResponse:
    return await _answer(request, completion_body_read)


async def post_chat_tokens(request: web.Request) -> web.StreamResponse:
    """Count the tokens of a chat's prompt, also where they exceed the context: who asks may want to know by how much.
    Nothing is made and nothing recorded.
    """
    front = request.app[FRONT]
    front.check_open()
    front.check_generates()
    asked = await chat_body_read(await request.read(), front.text, front.facts, counts_only=True)
    return web.json_response({"tokens": len(asked.prompts[0].ids)})


async def _answer(request: web.Request, read_body: ReadBody) -> web.StreamResponse:
    front = request.app[FRONT]
    headers = headers_read(request)
    front.check_open(headers.priority)
    front.check_generates()
    asked = await read_body(await request.read(), front.text, front.facts)
    front.check_open(headers.priority)  # reading may have taken long
    generation = front.start(asked, headers)
    try:
        # The status depends on how the first step goes, so nothing is sent before it.
        first = await generation.advance()
        reply: Reply = (ChatReply if asked.chat else CompletionReply)(asked, generation, front.text)
        extra = ignored_header(headers, asked.ignored)
        if asked.stream:
            if asked.perf:
                extra |= perf_headers(generation)
            return await _stream(request, generation, reply, first, extra)
        return await _whole(asked, generation, reply, first, extra)
    finally:
        front.end(generation)


async def _whole(
    asked: GenerationRequest,
    generation: Generation,
    reply: Reply,
    pieces: list[Piece],
    extra: dict[str, str],
) -> web.StreamResponse:
    generation.leave_notice()
    while not generation.ended:
        pieces += await generation.advance()
        generation.leave_notice()
    if generation.first_token_ms is not None:
        extra = extra | {names.WRITTEN_MS: str(max(0, now_ms() - generation.first_token_ms))}
    if asked.perf:
        extra = extra | perf_headers(generation)
    try:
        answers = answers_join(pieces, len(generation.choices))
        if asked.best_of > asked.n:
            answers = best_select(answers, generation.choices, n=asked.n, of=asked.best_of)
        body = await _whole_body(reply, answers)
    except Exception:
        generation.fail()
        raise
    generation.record()
    return web.Response(body=body, content_type="application/json", headers=extra)


async def _stream(
    request: web.Request, generation: Generation, reply: Reply, pieces: list[Piece], extra: dict[str, str]
) -> web.StreamResponse:
    # A stream tells its usage last; some clients want to know the prompt's part of it first.
    counts = {
        names.PROMPT_TOKENS: str(generation.prompt_tokens),
        names.CACHED_TOKENS: str(generation.cached_tokens),
    }
    response = web.StreamResponse(headers={**STREAM_HEADERS, **counts, **extra})
    out = [reply.first_events()]
    try:
        await response.prepare(request)
        while True:
            out += await _piece_bodies(reply, pieces)
            if (made := generation.take_notice()) is not None:
                out.append(b": grant %d\n\n" % made)
            if generation.ended:
                out.append(reply.end_events())
                generation.record()
            if data := b"".join(out):
                await _write(request, response, data)
            if generation.ended:
                break
            out.clear()
            pieces = await generation.advance()
    except ApiError as error:
        await _write_last(response, error_event(error.body()))
    except TimeoutError:
        # A reader that has stopped reading would keep its request, and its hold, for ever.
        if request.transport:
            request.transport.abort()
    except ConnectionError:
        pass  # the client is gone; whoever called us closes the generation
    except Exception as error:
        if not response.prepared:
            raise
        # No text of the error: it may quote a prompt.
        logger.error("a stream failed: %s at %s", type(error).__name__, place_of(error))
        generation.fail()
        failed = ApiError(500, "internal_error", "The engine failed to go on with this answer.")
        await _write_last(response, error_event(failed.body()))
    return response


async def _whole_body(reply: Reply, answers: Sequence[Answer]) -> bytes:
    return await asyncio.to_thread(reply.whole, answers) if _are_large(answers) else reply.whole(answers)


async def _piece_bodies(reply: Reply, pieces: Sequence[Piece]) -> list[bytes]:
    def written() -> list[bytes]:
        return list(map(reply.piece_events, pieces))

    return await asyncio.to_thread(written) if _are_large(pieces) else written()


def _are_large(told: Sequence[Answer] | Sequence[Piece]) -> bool:
    return sum(len(one.entries) for one in told) > INLINE_ENTRIES


async def _write(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Write a part of a stream. A timer costs as much as the rest of this, so only a write that may wait has one."""
    transport = request.transport
    if transport and not transport.get_write_buffer_size() and len(data) <= FREE_BYTES:
        await response.write(data)
        return
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await response.write(data)


async def _write_last(response: web.StreamResponse, data: bytes) -> None:
    try:
        await response.write(data)
    except ConnectionError:
        return


def headers_read(request: web.Request) -> EngineHeaders:
    """What the gateway says about a request. Errors: `invalid_value`."""
    try:
        return parse_headers(request.headers)
    except HeaderError as error:
        raise invalid_value(str(error).split(" ", 1)[0], f"{error}.") from None


def ignored_header(headers: EngineHeaders, fields: Sequence[str]) -> dict[str, str]:
    """The warning about what was accepted and has no effect."""
    ignored = (*fields, *headers.ignored)
    return {"x-kindling-ignored": ",".join(ignored)} if ignored else {}
