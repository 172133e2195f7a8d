"""An engine without a model: speaks the wire of a real one, word by word, as slowly or badly as it is told.

``with FakeEngine() as engine`` runs it in a thread; `engine.behaviour` may change at any time, and `engine.received`,
`grants`, `records` and `active` tell what happened. As a process it prints one JSON line with its port.
"""

import argparse
import asyncio
import json
import threading
import time
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any

from aiohttp import web

from kindling_fake_wire import (
    CONTEXT_LENGTH,
    error_body,
    event,
    failure,
    hang_up,
    limit_of,
    message,
    reason,
    refuse_tenants,
    refused,
    usage_block,
    whole,
)

GRANT_AHEAD_TOKENS = 64


@dataclass(slots=True)
class Behaviour:
    """How the next requests are answered; times in seconds."""

    tokens: int = 8  # where the answer ends by itself
    word_bytes: int = 0  # at least so long is each of its tokens
    prompt_tokens: int = 7
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    thought: str = ""  # beside an answer that is not streamed
    delay_s: float = 0.0  # before each token
    first_delay_s: float = 0.0  # before the first byte
    park_s: float = 30.0
    held_at: int | None = None  # makes so many tokens and, while this stands here, no more
    fail_status: int = 0  # answer with this error instead
    fail_code: str = "internal_error"
    refused_field: str = ""  # refuse bodies that have it
    deaf: float = 0  # so many times it knows nothing of its requests when asked whether their grants end
    cut_before_first: int = 0  # so many requests lose their connection before the first byte
    record_before_cut: bool = False  # which it has answered, recorded and not sent
    cut_after: int | None = None  # lose the connection after so many tokens
    error_after: int | None = None  # send an error event after so many tokens


@dataclass(slots=True)
class Received:
    """One request as it came in."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        return dict(json.loads(self.raw))

    @property
    def id(self) -> str:
        return self.headers["x-kindling-request"]


@dataclass(slots=True)
class Running:
    """A request that generates: its grant, its counts, the signal that the grant grew, and the log it ends in.

    It ends in the log that there was when it began: one that a test leaves behind is not the next test's.
    """

    received: Received
    log: list[dict[str, Any]]
    grant: int
    made: int = 0
    first_token_ms: int | None = None
    started_ms: int = field(default_factory=lambda: int(time.time() * 1000))
    stopped: bool = False
    recorded: bool = False
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    short: asyncio.Event = field(default_factory=asyncio.Event)


class FakeEngine:
    """The server; one event loop in a thread of its own."""

    def __init__(self, behaviour: Behaviour | None = None, *, replica: str = "fake-0", port: int = 0) -> None:
        self.behaviour = behaviour or Behaviour()
        self.replica = replica
        self.port = port
        self.received: list[Received] = []
        self.grants: list[tuple[str, int]] = []
        self.looks: list[str] = []  # requests whose engine was asked when their grant ends
        self.records: list[dict[str, Any]] = []
        self.active: dict[str, Running] = {}
        self.log_id = str(uuid.uuid4())
        self._over: set[str] = set()
        self._loop: asyncio.AbstractEventLoop
        self._runner: web.AppRunner | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "FakeEngine":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; a stopped engine may be started again on its old port."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-engine", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(60)

    def stop(self) -> None:
        """Hang up on everyone."""
        if self._thread and self._runner:
            asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(60)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(60)
            self._loop.close()
        self._thread = self._runner = None

    def reset(self, over: str = "") -> None:
        """Forget what happened and behave well again; what this organisation still sends is refused unseen."""
        self._over.add(over)
        self.behaviour = Behaviour()
        self.received, self.grants, self.records, self.looks = [], [], [], []

    async def serve(self) -> None:
        """Serve in the running loop until cancelled."""
        await self._listen()
        await asyncio.Event().wait()

    async def _listen(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024, middlewares=[refuse_tenants(self._over)])
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_post("/v1/{path:chat/tokens|tokenize|detokenize}", self._count)
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_post("/v1/embeddings", self._embed)
        app.router.add_post("/requests/{id}/grant", self._grant)
        app.router.add_get("/requests/{id}/grant", self._wait_short)
        app.router.add_post("/requests/{id}/stop", self._stop)
        app.router.add_get("/usage", self._usage)
        app.router.add_get("/healthz", self._health)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _receive(self, request: web.Request) -> Received:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(Received(request.path, headers, await request.read()))
        return self.received[-1]

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        received = await self._receive(request)
        how = self.behaviour
        if how.cut_before_first > 0:
            how.cut_before_first -= 1
            if how.record_before_cut:
                self._record(Running(received, self.records, grant=0, made=how.tokens), how, "stop")
            return hang_up(request)
        if refusal := refused(how, received.body):
            return refusal
        running = Running(received, self.records, grant=int(received.headers["x-kindling-grant"]))
        self.active[received.id] = running
        try:
            await asyncio.sleep(how.first_delay_s)
            if running.stopped:  # nothing was begun
                self._record(running, how, "error")
                return failure(504, "deadline_exceeded")
            answer = self._stream if received.body.get("stream") else self._whole
            return await answer(request, running, how)
        except (asyncio.CancelledError, ConnectionError):
            self._record(running, how, "cancelled")
            raise
        finally:
            del self.active[received.id]

    async def _whole(self, request: web.Request, running: Running, how: Behaviour) -> web.StreamResponse:
        words, finish, limit = [], "length", limit_of(running.received.body)
        async for word, ended in self._words(running, how):
            words.append(word)
            finish = ended or finish
            if running.made >= running.grant - GRANT_AHEAD_TOKENS and limit > running.grant:
                running.short.set()
            if how.cut_after is not None and running.made >= how.cut_after:
                return hang_up(request)
        self._record(running, how, finish)
        body = self._reply(running, "".join(words), finish, how)
        return whole(body, running.received.id, running.first_token_ms)

    async def _stream(self, request: web.Request, running: Running, how: Behaviour) -> web.StreamResponse:
        reply = web.StreamResponse(
            headers={
                "content-type": "text/event-stream",
                "x-request-id": running.received.id,
                "x-kindling-prompt-tokens": str(how.prompt_tokens),
                "x-kindling-cached-tokens": str(how.cached_tokens),
            }
        )
        await reply.prepare(request)
        chat = request.path.endswith("chat/completions")
        finish, asked_at = "length", 0
        async for word, ended in self._words(running, how):
            finish = ended or finish
            delta = {"delta": {"role": "assistant", "content": word}} if chat else {"text": word}
            chunk = self._chunk(running, [{"index": 0, **delta, "finish_reason": None}])
            await reply.write(event(chunk))
            if running.grant != asked_at and running.made >= running.grant - GRANT_AHEAD_TOKENS:
                if limit_of(running.received.body) > running.grant:
                    await reply.write(b": grant %d\n\n" % running.made)
                asked_at = running.grant
            if how.cut_after is not None and running.made >= how.cut_after:
                return hang_up(request)
            if how.error_after is not None and running.made >= how.error_after:
                self._record(running, how, "error")
                await reply.write(event(error_body("internal_error")))
                return reply
        self._record(running, how, finish)
        last = self._chunk(running, [{"index": 0, **({"delta": {}} if chat else {"text": ""}),
                                      "finish_reason": reason(finish)}])  # fmt: skip
        usage = self._chunk(running, []) | {"usage": usage_block(running.made, how)}
        await reply.write(event(last) + event(usage) + b"data: [DONE]\n\n")
        return reply

    async def _words(self, running: Running, how: Behaviour):
        """Words up to the end of the answer, the limit, or a grant that is not extended in time."""
        limit = limit_of(running.received.body)
        while running.made < min(limit, how.tokens):
            if running.made >= running.grant and not running.stopped:
                running.grown.clear()
                try:
                    await asyncio.wait_for(running.grown.wait(), how.park_s)
                except TimeoutError:
                    yield "", "grant_refused"
                    return
            while running.made == how.held_at:
                await asyncio.sleep(0.01)
            if running.stopped:
                yield "", "length"
                return
            if how.delay_s:
                await asyncio.sleep(how.delay_s)
            running.first_token_ms = running.first_token_ms or int(time.time() * 1000)
            running.made += 1
            yield f"w{running.made} ".ljust(how.word_bytes, "."), "stop" if running.made == how.tokens else ""

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        received = await self._receive(request)
        how = self.behaviour
        if how.cut_before_first > 0:
            how.cut_before_first -= 1
            return hang_up(request)
        if how.fail_status:
            return failure(how.fail_status, how.fail_code)
        running = self.active[received.id] = Running(received, self.records, grant=0)
        try:
            await asyncio.sleep(how.first_delay_s)
        except asyncio.CancelledError:
            self._record(running, how, "cancelled")
            raise
        finally:
            del self.active[received.id]
        self._record(running, how, "stop")
        given = received.body["input"]
        several = isinstance(given, list) and isinstance(given[0], str | list)
        data = [
            {"object": "embedding", "index": index, "embedding": [0.6, 0.8]}
            for index in range(len(given) if several else 1)
        ]
        usage = {"prompt_tokens": how.prompt_tokens, "total_tokens": how.prompt_tokens}
        return web.json_response(
            {"object": "list", "data": data, "model": received.body["model"], "usage": usage}
        )

    async def _count(self, request: web.Request) -> web.Response:
        refusal = refused(self.behaviour, (await self._receive(request)).body)
        return refusal or web.json_response({"tokens": self.behaviour.prompt_tokens})

    async def _grant(self, request: web.Request) -> web.Response:
        tokens = int((await request.json())["tokens"])
        self.grants.append((request.match_info["id"], tokens))
        running = self.active.get(request.match_info["id"])
        if running is None:
            return failure(404, "unknown_request")
        if tokens > running.grant:
            running.short.clear()
        running.grant = max(running.grant, tokens)
        running.grown.set()
        return web.json_response({"tokens": running.grant})

    async def _wait_short(self, request: web.Request) -> web.Response:
        self.looks.append(request.match_info["id"])
        running = self.active.get(request.match_info["id"])
        if running is None or self.behaviour.deaf > 0:
            self.behaviour.deaf -= 1
            return failure(404, "unknown_request")
        await running.short.wait()
        if running.recorded:
            return failure(404, "unknown_request")
        return web.json_response({"tokens": running.made, "short": True})

    async def _stop(self, request: web.Request) -> web.Response:
        running = self.active.get(request.match_info["id"])
        if running is None:
            return failure(404, "unknown_request")
        running.stopped = True
        running.grown.set()
        return web.json_response({"tokens": running.made})

    async def _usage(self, request: web.Request) -> web.Response:
        after, limit = int(request.query.get("after", 0)), int(request.query.get("limit", 500))
        records = self.records[after : after + limit]
        return web.json_response({"log": self.log_id, "records": records, "next": after + len(records)})

    async def _health(self, request: web.Request) -> web.Response:
        state = {"status": "ready", "model": "fake/words", "context_length": CONTEXT_LENGTH}
        return web.json_response(state | {"active": len(self.active), "waiting": 0})

    def _record(self, running: Running, how: Behaviour, finish: str) -> None:
        if running.recorded:
            return
        running.recorded = True
        running.short.set()
        headers = running.received.headers
        running.log.append(
            {
                "request_id": running.received.id,
                "context": headers.get("x-kindling-context", ""),
                "tenant": headers.get("x-kindling-tenant", ""),
                "adapter": headers.get("x-kindling-adapter", ""),
                "prompt_tokens": how.prompt_tokens,
                "cached_tokens": how.cached_tokens,
                "completion_tokens": running.made,
                "finish": finish,
                "started_ms": running.started_ms,
                "first_token_ms": running.first_token_ms,
                "finished_ms": int(time.time() * 1000),
                "replica": self.replica,
            }
        )

    def _reply(self, running: Running, text: str, finish: str, how: Behaviour) -> dict[str, Any]:
        chat = running.received.path.endswith("chat/completions")
        said = message(text, how.thought) if chat else {"text": text}
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": reason(finish)}
        return self._chunk(running, [choice], "") | {"usage": usage_block(running.made, how)}

    def _chunk(self, running: Running, choices: list[dict[str, Any]], kind: str = ".chunk") -> dict[str, Any]:
        chat = running.received.path.endswith("chat/completions")
        return {
            "id": f"chatcmpl-{running.received.id}",
            "object": f"chat.completion{kind}" if chat else "text_completion",
            "created": running.started_ms // 1000,
            "model": running.received.body["model"],
            "choices": choices,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    for name, default in asdict(Behaviour()).items():
        kind = float if isinstance(default, float) else str if isinstance(default, str) else int
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default)
    options = vars(parser.parse_args())
    engine = FakeEngine(port=options.pop("port"), behaviour=Behaviour(**options))

    async def run() -> None:
        server = asyncio.create_task(engine.serve())
        while not engine.port:
            await asyncio.sleep(0.01)
        print(json.dumps({"event": "ready", "port": engine.port}), flush=True)
        await server

    asyncio.run(run())


if __name__ == "__main__":
    main()
