"""`POST /v1/responses/input_tokens`: how many tokens a response's prompt would have."""

from collections.abc import Mapping

import orjson

from kindling_platform.gateway.surface.naming import Naming


class InputTokensForm:
    """The number of tokens in the shape of the Responses API."""

    def __init__(self, naming: Naming) -> None:
        self._naming = naming
        self._answer = b""

    def begin(self, request_id: str, headers: Mapping[bytes, bytes]) -> None:
        return

    def headers(self) -> list[tuple[bytes, bytes]]:
        return []

    def whole(self, body: bytes) -> None:
        tokens = orjson.loads(body)["tokens"]
        self._answer = orjson.dumps({"object": "response.input_tokens", "input_tokens": tokens})

    def feed(self, events: bytes) -> bytes:
        return b""

    def end(self) -> bytes:
        return self._answer

    def refusal(self, status: int, body: bytes) -> bytes:
        return self._naming.rename(body)
