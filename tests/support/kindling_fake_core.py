"""An engine core without a model: says what it is told, token by token, over the real messages and socket.

`Bench` puts the real front before it, so that a test talks HTTP. Both live in the test's own event loop.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from kindling_engine.protocol.ipc import (
    AdapterChanged,
    AdapterList,
    AdapterLoaded,
    AdapterState,
    Cancel,
    CoreReady,
    FrameBuffer,
    ListAdapters,
    LoadAdapter,
    PinAdapter,
    SetGrant,
    Step,
    StepItem,
    Submit,
    ToFront,
    TokenLogprobs,
    UnloadAdapter,
    encode,
)
from kindling_engine.protocol.repeats import ToCoreReader
from kindling_engine.protocol.usage_log import UsageRecord, read_usage
from kindling_engine.server.app import create_app
from kindling_engine.server.core_link import CoreLink
from kindling_engine.server.front import Front
from kindling_engine.server.model_text import ModelText, model_text_load
from kindling_engine.server.request_common import ModelFacts
from kindling_engine.server.usage import UsageBook
from kindling_engine.starter import SPARK_PATH

EOS = 2
CONTEXT_LENGTH = 1024
VOCAB_SIZE = 2048


class FakeCore:
    """The core's end of the socket."""

    def __init__(self) -> None:
        self.answer: list[int] = []  # what every request makes; ends with EOS to stop by itself
        self.answers: list[list[int]] = []  # when set, the requests make these in turn
        self.gate: asyncio.Semaphore | None = None  # when set, each token takes one permit
        self.park_s = 0.05
        self.cached_tokens = 0
        self.together = 1  # so many tokens at a time
        self.told: dict[str, float] = {}  # figures told with every item
        self.fail_code = ""  # end every request with this error
        self.fail_after = 0  # so many tokens in
        self.submitted: list[Submit] = []
        self.cancelled: list[str] = []
        self.granted: list[tuple[str, int]] = []
        self.loads: list[LoadAdapter] = []
        self.loaded: AdapterLoaded | None = None  # the answer to LoadAdapter, but for its id
        self._grants: dict[str, int] = {}
        self._grown: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._made: dict[str, int] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def connect(self, path: Path) -> None:
        reader, self._writer = await asyncio.open_unix_connection(str(path))
        self.send(CoreReady(CONTEXT_LENGTH, VOCAB_SIZE, [EOS, 0], "cpu", "float32", 64))
        self._reading = asyncio.create_task(self._read(reader))

    def send(self, message: ToFront) -> None:
        assert self._writer
        self._writer.write(encode(message))

    def made(self, request_id: str) -> int:
        """Tokens generated for a request."""
        return self._made.get(request_id, 0)

    def die(self) -> None:
        """Hang up in the middle of everything."""
        for task in self._tasks.values():
            task.cancel()
        if self._reading:
            self._reading.cancel()
        if self._writer:
            self._writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        frames, messages = FrameBuffer(), ToCoreReader()
        while data := await reader.read(1 << 16):
            for body in frames.feed(data):
                self._handle(messages.decode(body))

    def _handle(self, message: Any) -> None:
        match message:
            case Submit():
                self.submitted.append(message)
                self._grants[message.id] = message.grant
                self._grown[message.id] = asyncio.Event()
                self._tasks[message.id] = asyncio.create_task(self._run(message))
            case SetGrant():
                self.granted.append((message.id, message.tokens))
                self._grants[message.id] = max(self._grants.get(message.id, 0), message.tokens)
                if message.id in self._grown:
                    self._grown[message.id].set()
            case Cancel():
                self.cancelled.append(message.id)
                task = self._tasks.pop(message.id, None)
                if task and not task.done():
                    task.cancel()
                    self._item(message.id, finish="cancelled")
            case LoadAdapter():
                self.loads.append(message)
                known = self.loaded or AdapterLoaded("", message.adapter, True, smoke_ids=[45])
                known.id = message.id
                self.send(known)
            case PinAdapter() | UnloadAdapter():
                self.send(AdapterChanged(message.id, message.adapter, message.adapter == "ab" * 32))
            case ListAdapters():
                self.send(AdapterList(message.id, [AdapterState("ab" * 32, "ready", "host", 8)]))

    async def _run(self, request: Submit) -> None:
        self._made[request.id] = 0
        limit = request.max_tokens
        if self.fail_code and not self.fail_after:
            self._item(request.id, finish="error", error_code=self.fail_code, error="As told.")
            return
        turn = next(place for place, one in enumerate(self.submitted) if one is request)
        answer = self.answers[turn % len(self.answers)] if self.answers else self.answer
        tokens: list[int] = []
        scored: list[TokenLogprobs] = []
        for token in answer[:limit]:
            if self._made[request.id] >= self._grants[request.id] and not await self._granted(request.id):
                self._item(request.id, finish="grant_refused")
                break
            if self.gate:
                await self.gate.acquire()
            await asyncio.sleep(0)
            self._made[request.id] += 1
            made = self._made[request.id]
            if self.fail_code and made > self.fail_after:
                self._item(request.id, finish="error", error_code=self.fail_code, error="As told.")
                break
            stops = token == EOS and not request.sampling.ignore_eos
            finish = "stop" if stops else "length" if made == min(limit, len(answer)) else ""
            tokens.append(token)
            scored += [TokenLogprobs(-0.5, [(token, -0.5), (7, -2.0)])] if request.logprobs >= 0 else []
            if not finish and len(tokens) < self.together:
                continue
            scores = [None, *([TokenLogprobs(-1.5, [(9, -0.25)])] * (len(request.prompt_ids) - 1))]
            first = made == len(tokens) and request.prompt_logprobs >= 0
            self._item(
                request.id,
                token_ids=tokens,
                logprobs=scored or None,
                finish=finish,
                prompt_logprobs=scores if first else None,
            )
            tokens, scored = [], []
            if finish:
                break
        self._tasks.pop(request.id, None)

    async def _granted(self, request_id: str) -> bool:
        self._grown[request_id].clear()
        try:
            await asyncio.wait_for(self._grown[request_id].wait(), self.park_s)
        except TimeoutError:
            return False
        return True

    def _item(self, request_id: str, **fields: Any) -> None:
        prompt = next(one for one in self.submitted if one.id == request_id).prompt_ids
        told = {"prompt_tokens": len(prompt), "cached_tokens": self.cached_tokens, **self.told}
        item = StepItem(request_id, **told, **fields)
        self.send(Step([item]))


class FakeFront(Front):
    """The real one; the model has a row for each token of whatever text it is given."""

    @property
    def text(self) -> ModelText:
        return self._text

    @text.setter
    def text(self, text: ModelText) -> None:
        if hasattr(self, "_text"):
            self.facts = replace(self.facts, vocab_size=text.tokenizer.get_vocab_size())
        self._text = text


class Bench:
    """The real front over a fake core, and a client."""

    def __init__(self, core: FakeCore, front: Front, url: str, http: aiohttp.ClientSession) -> None:
        self.core = core
        self.front = front
        self.url = url
        self.http = http

    @property
    def text(self) -> ModelText:
        return self.front.text

    def say(self, text: str, *, end: bool = True) -> list[int]:
        """Have the core answer with this text; gives the tokens."""
        self.core.answer = self.text.tokenizer.encode(text, add_special_tokens=False).ids + [EOS] * end
        return self.core.answer

    def say_each(self, *texts: str) -> None:
        """Have the core answer the requests with these texts in turn."""
        self.core.answers = [self.say(text)[:] for text in texts]

    def post(self, path: str, body: Any, **headers: str) -> Any:
        """A request under a new id; underscores in header names stand for dashes."""
        named = {"x-kindling-request": str(uuid.uuid4())}
        named |= {f"x-kindling-{name}": value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.post(f"{self.url}{path}", data=data, headers=named)

    def chat(self, **fields: Any) -> Any:
        headers = fields.pop("headers", {})
        body = {"model": "kindling/spark", "messages": [{"role": "user", "content": "Hi"}], **fields}
        return self.post("/v1/chat/completions", body, **headers)

    async def chat_whole(self, **fields: Any) -> dict[str, Any]:
        async with self.chat(**fields) as reply:
            assert reply.status == 200, await reply.text()
            return dict(await reply.json())

    async def chat_events(self, **fields: Any) -> list[Any]:
        """A stream's events: chunks as objects, comments and [DONE] as text."""
        async with self.chat(stream=True, **fields) as reply:
            assert reply.status == 200, await reply.text()
            return events(await reply.read())

    async def records(self) -> list[UsageRecord]:
        return read_usage(self.front.book.path, 0, 1000)[1]

    async def record_when_there(self, count: int = 1) -> UsageRecord:
        """The last of `count` records, waited for shortly: those of clients that left come a moment later."""
        for _ in range(2000):
            if len(found := await self.records()) >= count:
                return found[-1]
            await asyncio.sleep(0.01)
        raise AssertionError("no usage record was written")


def events(raw: bytes) -> list[Any]:
    """The events of a stream's bytes."""
    assert raw.endswith(b"\n\n"), raw[-80:]
    return [event(one) for one in raw.decode().removesuffix("\n\n").split("\n\n")]


def event(text: str) -> Any:
    data = text.removeprefix("data: ")
    return json.loads(data) if data.startswith("{") else data


def text_of(chunks: list[Any]) -> str:
    """What a stream says, all deltas together."""
    choices = [choice for chunk in chunks if isinstance(chunk, dict) for choice in chunk.get("choices", [])]
    return "".join(
        choice["delta"].get("content", "") if "delta" in choice else choice["text"] for choice in choices
    )


@cache
def _spark_text() -> ModelText:
    """Read once: reading it takes longer than most of what is asked of a bench."""
    return model_text_load(SPARK_PATH)


@asynccontextmanager
async def fake_bench(folder: Path) -> AsyncIterator[Bench]:
    loop = asyncio.get_running_loop()
    link, core = CoreLink(), FakeCore()
    socket = folder / "core.sock"
    server = await loop.create_unix_server(lambda: link, str(socket))
    await core.connect(socket)
    ready = await link.ready
    front = FakeFront(
        core=link,
        text=copy(_spark_text()),  # a test may give it other templates
        facts=ModelFacts("kindling/spark", ready.context_length, ready.vocab_size, frozenset(ready.eos_ids)),
        book=UsageBook(folder / "usage.log", "replica-0"),
        blobs=folder / "blobs",
    )
    runner = web.AppRunner(
        create_app(front), handler_cancellation=True, access_log=None, shutdown_timeout=0.1
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as http:
        yield Bench(core, front, f"http://127.0.0.1:{runner.addresses[0][1]}", http)
    await runner.cleanup()
    core.die()
    server.close()
    front.book.close()
