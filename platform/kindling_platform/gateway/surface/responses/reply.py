"""A chat completion's answer as a response: whole, or as its events."""

import time
from collections.abc import Mapping
from typing import Any

import orjson

from kindling_platform.gateway.surface.form import Chunks
from kindling_platform.gateway.surface.naming import Naming
from kindling_platform.gateway.surface.responses.items import Item
from kindling_platform.gateway.surface.responses.output import Response, response_end, response_object
from kindling_platform.gateway.surface.responses.stream import ResponseStream


class ResponseForm:
    """One answer in the shape of the Responses API. `result` is the whole response once it is complete.

    `store` tells whether it is kept; whoever fails to keep it says so before `end`, and the answer then says it too.
    """

    def __init__(
        self,
        echo: dict[str, Any],
        items: list[Item] | None = None,
        *,
        model: str = "",
        naming: Naming | None = None,
    ) -> None:
        self._echo = echo
        self._naming = naming
        self._model = model
        self._hex_id = ""
        self._is_fixed = False
        self.items = items or []
        self._chunks = Chunks()
        self._stream: ResponseStream | None = None
        self._streams = False
        self._failed = False
        self._begun: Response = {}
        self.result: Response | None = None
        self.store = bool(echo["store"])

    def begin(self, request_id: str, headers: Mapping[bytes, bytes]) -> None:
        if not self._is_fixed:
            self._hex_id = request_id.replace("-", "")

    def queue(self, request_id: str) -> Response:
        """The response before anything of it is made; it keeps its id whatever becomes of the request's."""
        self.begin(request_id, {})
        self._is_fixed = True
        begun = response_object(
            self._echo, hex_id=self._hex_id, model=self._model, created_s=int(time.time())
        )
        return begun | {"status": "queued"}

    def headers(self) -> list[tuple[bytes, bytes]]:
        return []

    def whole(self, body: bytes) -> None:
        """A whole answer is a stream of one chunk whose events nobody reads."""
        reply = orjson.loads(body)
        choice = reply["choices"][0]
        said = choice["message"]
        calls = [call | {"index": index} for index, call in enumerate(said.get("tool_calls") or [])]
        delta = {**said, "tool_calls": calls}
        self._pass({**reply, "choices": [{**choice, "delta": delta}]})
        self._finish()

    def feed(self, events: bytes) -> bytes:
        self._streams = True
        out = b"".join(map(self._pass, self._chunks.feed(events)))
        return out + self._finish() if self._chunks.done and self.result is None else out

    def end(self) -> bytes:
        if self.result is None or self._stream is None:
            return b""
        result = self.result | {"store": self.store}
        return self._stream.last(result) if self._streams else orjson.dumps(result)

    def refusal(self, status: int, body: bytes) -> bytes:
        return self._naming.rename(body) if self._naming else body

    def _pass(self, chunk: dict[str, Any]) -> bytes:
        out = b""
        if self._stream is None:
            created_s = chunk.get("created") or int(time.time())
            self._begun = response_object(
                self._echo, hex_id=self._hex_id, model=chunk.get("model", ""), created_s=created_s
            )
            self._stream = ResponseStream(self._begun, self._hex_id)
            out = self._stream.begin()
        if error := chunk.get("error"):
            self._failed = True
            return out + self._stream.fail(error)
        return out + self._stream.feed(chunk)

    def _finish(self) -> bytes:
        if self._stream is None or self._failed:
            return b""
        out = self._stream.close()
        self.result = response_end(
            self._begun,
            self._stream.output,
            finish=self._stream.finish,
            usage=self._stream.usage,
            now_s=int(time.time()),
            limited_by=self._stream.limited_by,
        )
        return out
