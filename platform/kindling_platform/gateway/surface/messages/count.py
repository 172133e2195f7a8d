"""The answer of `POST /v1/messages/count_tokens`."""

import orjson

from kindling_platform.gateway.surface.messages.reply import MessageForm


class CountForm(MessageForm):
    """The number of tokens in Anthropic's shape."""

    def whole(self, body: bytes) -> None:
        self._answer = orjson.dumps({"input_tokens": orjson.loads(body)["tokens"]})
