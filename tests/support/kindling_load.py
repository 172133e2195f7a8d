"""Clients that call a stack at the same time, some of which leave in the middle of their answer."""

import asyncio
import json
import random
from dataclasses import dataclass

import httpx

ASK = {
    "model": "kindling/spark",
    "messages": [{"role": "user", "content": "Tell me a long story about a fox."}],
}


@dataclass(slots=True, frozen=True)
class Answer:
    """How one request looked from outside: `complete` means that its last chunk or whole body was seen."""

    request_id: str
    complete: bool
    status: int
    completion_tokens: int | None = None


async def ask_whole(http: httpx.AsyncClient, *, max_tokens: int) -> Answer:
    try:
        reply = await http.post(
            "/v1/chat/completions", json=ASK | {"max_tokens": max_tokens, "temperature": 1}
        )
    except httpx.HTTPError:
        return Answer("", complete=False, status=0)
    request_id = reply.headers.get("x-request-id", "")
    if reply.status_code != 200:
        return Answer(request_id, complete=False, status=reply.status_code)
    return Answer(request_id, True, 200, reply.json()["usage"]["completion_tokens"])


async def ask_stream(http: httpx.AsyncClient, *, max_tokens: int, cut_after: int | None = None) -> Answer:
    """Stream an answer; with `cut_after` leave after that many chunks."""
    body = ASK | {"max_tokens": max_tokens, "temperature": 1, "stream": True, "ignore_eos": True}
    body["stream_options"] = {"include_usage": True}
    request_id, tokens, seen = "", None, 0
    try:
        async with http.stream("POST", "/v1/chat/completions", json=body) as reply:
            request_id = reply.headers.get("x-request-id", "")
            if reply.status_code != 200:
                return Answer(request_id, complete=False, status=reply.status_code)
            async for line in reply.aiter_lines():
                if line == "data: [DONE]":
                    return Answer(request_id, True, 200, tokens)
                if not line.startswith("data: "):
                    continue
                seen += 1
                if cut_after is not None and seen > cut_after:
                    break
                usage = json.loads(line[6:]).get("usage")
                tokens = usage["completion_tokens"] if usage else tokens
    except httpx.HTTPError:
        pass
    return Answer(request_id, complete=False, status=200 if request_id else 0)


async def mixed_burst(url: str, key: str, *, requests: int, cut: int, seed: int) -> list[Answer]:
    """Send `requests` at the same time, of which `cut` streams leave after a random number of chunks."""
    dice = random.Random(seed)
    headers = {"Authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=requests)
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120, limits=limits) as http:
        calls = [
            ask_stream(http, max_tokens=600, cut_after=dice.randint(1, 60))
            if number < cut
            else (ask_stream if number % 2 else ask_whole)(http, max_tokens=dice.randint(8, 48))
            for number in range(requests)
        ]
        dice.shuffle(calls)
        return list(await asyncio.gather(*calls))
