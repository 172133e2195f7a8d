"""The engine's event stream on its way to the client: bytes pass through, what is internal is taken out."""

from collections.abc import Callable

import orjson

from kindling_platform.gateway.admission import Usage

GRANT = b": grant "
DONE = b"data: [DONE]"
DATA = b"data: "
USAGE_KEY = b'"usage":'
TAIL_BYTES = 1024
# None of these can appear inside a JSON string of a chunk, where the quotation mark would be escaped;
# `: grant` can, and is then found not to begin an event.
LENGTH = (b'"finish_reason":"length"', b'"finish_reason": "length"')
MARKS = (b'"usage":{', b'"usage": {', GRANT, DONE, b'"error":', *LENGTH)


class EventFilter:
    """Feeds on the engine's bytes and gives back what the client may see, whole events only.

    Takes out ``: grant <made>`` comments and, unless the client asked for it, the final usage chunk
    (``choices`` empty). Keeps what it saw: `usage`, `made`, whether the stream is `done` or `failed`, and whether a
    choice has ended for its `length`. A chunk that ends a choice for its length says in ``limited_by`` what has cut it
    short, when `limited_by` knows. An error's event goes through `documented`, which adds where it is explained.
    """

    __slots__ = (
        "_documented",
        "_keep_usage",
        "_limited_by",
        "_rest",
        "done",
        "failed",
        "length",
        "made",
        "usage",
    )

    def __init__(
        self,
        *,
        keep_usage: bool,
        limited_by: Callable[[], str] = str,
        documented: Callable[[bytes], bytes] = bytes,
    ) -> None:
        self._keep_usage = keep_usage
        self._limited_by = limited_by
        self._documented = documented
        self._rest = b""
        self.usage: Usage | None = None
        self.made: int | None = None
        self.done = False
        self.failed = False
        self.length = False

    def feed(self, data: bytes) -> bytes:
        """The bytes to send now."""
        if self._rest:
            data = self._rest + data
        end = data.rfind(b"\n\n") + 2
        if end < 2:
            self._rest = data
            return b""
        if end == len(data):
            self._rest = b""
        else:
            data, self._rest = data[:end], data[end:]
        for mark in MARKS:
            if mark in data:
                return b"".join(map(self._pass, data.split(b"\n\n")[:-1]))
        return data

    def _pass(self, event: bytes) -> bytes:
        while event.startswith(GRANT):
            line, _, event = event.partition(b"\n")
            self._note_grant(line)
        if not event:
            return b""
        if event.startswith(DONE):
            self.done = True
        elif event.startswith(DATA) and self._is_cut_short(event) and (limit := self._limited_by()):
            event = event[: event.rindex(b"}")] + b',"limited_by":"' + limit.encode() + b'"}'
            return self._pass_chunk(event)
        elif event.startswith(DATA) and (b'"usage"' in event or b'"error"' in event):
            return self._pass_chunk(event)
        return event + b"\n\n"

    def _is_cut_short(self, event: bytes) -> bool:
        ends = any(mark in event for mark in LENGTH)
        self.length = self.length or ends
        return ends

    def _pass_chunk(self, event: bytes) -> bytes:
        try:
            chunk = orjson.loads(event[len(DATA) :])
        except orjson.JSONDecodeError:
            return event + b"\n\n"
        if "error" in chunk:
            self.failed = True
            event = DATA + self._documented(event[len(DATA) :])
        usage = chunk.get("usage")
        if usage:
            self.usage = usage_of(usage)
            if not chunk.get("choices") and not self._keep_usage:
                return b""
        return event + b"\n\n"

    def _note_grant(self, line: bytes) -> None:
        number = line[len(GRANT) :].strip()
        if number.isdigit():
            self.made = int(number)


def usage_of(usage: dict[str, object]) -> Usage:
    """The counts of a usage block; zero is a value, and so is a missing detail."""
    made = _count(usage.get("completion_tokens"))
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        cached_tokens=_detail(usage, "prompt_tokens_details", "cached_tokens"),
        completion_tokens=made,
        reasoning_tokens=min(made, _detail(usage, "completion_tokens_details", "reasoning_tokens")),
    )


def usage_of_body(body: bytes) -> Usage | None:
    """The counts of a whole reply; None when it holds none.

    Engines write them last. Looking there first spares reading the vectors of a large reply; the key cannot be
    part of a text, where its quotation marks would be escaped.
    """
    at = body.rfind(USAGE_KEY, max(0, len(body) - TAIL_BYTES))
    usage = _usage_in(b"{" + body[at:]) if at >= 0 else None
    if usage is None:
        usage = _usage_in(body)
    return None if usage is None else usage_of(usage)


def _usage_in(text: bytes) -> dict[str, object] | None:
    try:
        reply = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    usage = reply.get("usage") if isinstance(reply, dict) else None
    return usage if isinstance(usage, dict) else None


def _detail(usage: dict[str, object], group: str, name: str) -> int:
    details = usage.get(group)
    return _count(details.get(name)) if isinstance(details, dict) else 0


def _count(value: object) -> int:
    return value if type(value) is int and value > 0 else 0
