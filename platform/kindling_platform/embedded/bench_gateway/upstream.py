"""An engine that costs nothing: answers at once, word by word, in the wire of a real one.

As a process of its own: ``python -m kindling_platform.embedded.bench_gateway.upstream --port 8100``. How many words
an answer has is what the client asks for with `max_tokens`; each word of a stream leaves in a write of its own.
"""

import argparse
import asyncio

import orjson

PROMPT_TOKENS = 7
GRANT_AHEAD_TOKENS = 64
GRANT_WAIT_S = 5.0
NO_GRANT = 1 << 30
JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


class Upstream:
    """Answers chats and takes grants."""

    def __init__(self) -> None:
        self._grants: dict[str, int] = {}
        self._count = 0
        self._grown = asyncio.Condition()

    async def serve(self, port: int) -> None:
        """Serve on the loopback until cancelled."""
        server = await asyncio.start_server(self._talk, "127.0.0.1", port, limit=1 << 24)
        await server.serve_forever()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                path, headers, body = await request_read(reader)
                await self._answer(path, headers, body, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def _answer(
        self, path: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        if path.startswith("/requests/"):
            await self._grant(path.split("/")[2], orjson.loads(body or b"{}"))
            writer.write(whole({"ok": True}))
            return
        asked = orjson.loads(body or b"{}")
        self._count += 1
        request_id = headers.get("x-kindling-request", str(self._count))
        words = int(asked.get("max_tokens") or asked.get("max_completion_tokens") or 8)
        self._grants[request_id] = int(headers.get("x-kindling-grant", NO_GRANT))
        try:
            if asked.get("stream"):
                await self._stream(request_id, words, writer)
            else:
                writer.write(whole(completion(request_id, words)))
        finally:
            self._grants.pop(request_id, None)

    async def _grant(self, request_id: str, asked: dict[str, int]) -> None:
        async with self._grown:
            if request_id in self._grants and "tokens" in asked:
                self._grants[request_id] = asked["tokens"]
                self._grown.notify_all()

    async def _stream(self, request_id: str, words: int, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        asked_at = 0
        for made in range(1, words + 1):
            grant = self._grants[request_id]
            if made > grant and not await self._wait(request_id, made):
                break
            writer.write(chunk(event(delta(request_id, {"content": f"word {made} "}))))
            if grant != asked_at and words > grant and made >= grant - GRANT_AHEAD_TOKENS:
                writer.write(chunk(b": grant %d\n\n" % made))
                asked_at = grant
            # A write of its own for each word, and a turn for the others, as from an engine that steps.
            await writer.drain()
            await asyncio.sleep(0)
        last = delta(request_id, {}, finish="stop")
        usage = {**last, "choices": [], "usage": usage_of(words)}
        writer.write(chunk(event(last) + event(usage) + b"data: [DONE]\n\n") + END)

    async def _wait(self, request_id: str, made: int) -> bool:
        try:
            async with asyncio.timeout(GRANT_WAIT_S), self._grown:
                await self._grown.wait_for(lambda: self._grants[request_id] >= made)
        except TimeoutError:
            return False
        return True


async def request_read(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """Path, headers and body of the next request. Errors: IncompleteReadError when there is none."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return head[0].split(" ")[1], headers, body


def whole(reply: dict[str, object]) -> bytes:
    body = orjson.dumps(reply)
    return JSON_HEAD % len(body) + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(data: dict[str, object]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


def usage_of(words: int) -> dict[str, object]:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": words,
        "total_tokens": PROMPT_TOKENS + words,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def completion(request_id: str, words: int) -> dict[str, object]:
    message = {"role": "assistant", "content": "word " * words}
    return {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion",
        "created": 1,
        "model": "bench",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage_of(words),
    }


def delta(request_id: str, part: dict[str, str], *, finish: str | None = None) -> dict[str, object]:
    return {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "bench",
        "choices": [{"index": 0, "delta": part, "finish_reason": finish}],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(Upstream().serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
