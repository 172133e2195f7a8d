"""The two routes between text and tokens; nothing is made and nothing recorded."""

import asyncio

import msgspec
from aiohttp import web

from kindling_engine.server.inference import headers_read, ignored_header
from kindling_engine.server.keys import FRONT
from kindling_engine.server.tokens_body import INLINE_TOKENS, detokenize_body_read, tokenize_body_read


async def post_tokenize(request: web.Request) -> web.StreamResponse:
    front = request.app[FRONT]
    front.check_open()
    read = await tokenize_body_read(await request.read(), front.text, front.facts)
    answer = {
        "count": len(read.ids),
        "max_model_len": front.facts.context_length,
        "tokens": read.ids,
        "token_strs": read.strings,
    }
    body = (
        msgspec.json.encode(answer)
        if len(read.ids) <= INLINE_TOKENS
        else await asyncio.to_thread(msgspec.json.encode, answer)
    )
    ignored = ignored_header(headers_read(request), read.ignored)
    return web.Response(body=body, content_type="application/json", headers=ignored)


async def post_detokenize(request: web.Request) -> web.StreamResponse:
    front = request.app[FRONT]
    front.check_open()
    prompt = await detokenize_body_read(await request.read(), front.text, front.facts)
    return web.Response(body=msgspec.json.encode({"prompt": prompt}), content_type="application/json")
