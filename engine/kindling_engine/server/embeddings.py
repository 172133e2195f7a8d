"""The route that embeds: read, have all inputs embedded at once, answer whole."""

import asyncio
from functools import partial

from aiohttp import web

from kindling_engine.server.embedding_body import embedding_body_read
from kindling_engine.server.embedding_reply import embedding_reply
from kindling_engine.server.errors import ApiError
from kindling_engine.server.inference import headers_read, ignored_header
from kindling_engine.server.keys import FRONT

# Replies with more numbers than this are written in a thread.
INLINE_NUMBERS = 50_000


async def post_embeddings(request: web.Request) -> web.Response:
    """Answer one call with a vector for each of its inputs."""
    front = request.app[FRONT]
    headers = headers_read(request)
    front.check_open(headers.priority)
    text = front.embedding
    if text is None:
        raise ApiError(
            400,
            "not_an_embedding_model",
            f"The model {front.facts.ref!r} generates text; choose an embedding model.",
            param="model",
        )
    asked = await embedding_body_read(await request.read(), text, front.facts)
    front.check_open(headers.priority)  # reading may have taken long
    call = front.embed(asked.inputs, headers)
    try:
        vectors = await call.vectors()
        write = partial(
            embedding_reply,
            asked,
            vectors,
            prompt_tokens=call.prompt_tokens,
            cached_tokens=call.cached_tokens,
        )
        small = len(vectors) * asked.dimensions <= INLINE_NUMBERS
        body = write() if small else await asyncio.to_thread(write)
        extra = ignored_header(headers, asked.ignored)
        return web.Response(body=body, content_type="application/json", headers=extra)
    finally:
        front.end(call)
