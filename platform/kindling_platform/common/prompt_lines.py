"""Plain prompts, one in each line, as the requests of a batch."""

import io
import json
from collections.abc import Iterator

CHAT = "/v1/chat/completions"
DEFAULT_MAX_TOKENS = 512


def requests_of(text: str, *, model: str, max_tokens: int) -> bytes:
    """A request for each line that is not empty; its `custom_id` is the number of the line."""
    return b"\n".join(requests_each(text, model=model, max_tokens=max_tokens))


def requests_each(text: str, *, model: str, max_tokens: int) -> Iterator[bytes]:
    """The same one by one, as each is many times as long as a short line.

    Lines end as they do in a file; what else may part lines, such as U+2028, is of a prompt.
    """
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if line.strip():
            request = {
                "custom_id": str(number),
                "method": "POST",
                "url": CHAT,
                "body": {
                    "model": model,
                    "max_tokens": max_tokens,
                    "messages": [{"role": "user", "content": line.removesuffix("\n")}],
                },
            }
            yield json.dumps(request).encode()
