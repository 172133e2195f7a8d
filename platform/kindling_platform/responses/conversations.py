"""A conversation of the playground as it is shared: read from what a page sends, and checked to the last field."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from kindling_platform.common.errors import KindlingError

MOST_BYTES = 512 * 1024
MOST_LANES = 3
MOST_TURNS = 400
# Models stand in the clear in a column and in the audit log, which take no NUL.
Model = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]


class _Part(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    pass


class Numbers(_Part):
    """What the books say of an answer."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_usd: str
    finish: str
    first_token_ms: int | None = None
    tokens_per_s: float | None = None


class Turn(_Part):
    """What was asked, or answered by a model; `numbers` are never taken from a page."""

    role: Literal["user", "assistant"]
    content: str
    model: Annotated[str, Meta(max_length=200)] = ""
    thought: str = ""
    request_id: Annotated[str, Meta(max_length=64)] = ""
    numbers: Numbers | None = None


class Lane(_Part):
    """One of the models that were asked side by side, with what was said to it and by it."""

    model: Model
    turns: Annotated[list[Turn], Meta(max_length=MOST_TURNS)]


class Params(_Part):
    """How was sampled; what is left out was left to the engine."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None


class Conversation(_Part):
    """In the raw mode a turn of the user's is a text, and the answer behind it what a model added."""

    mode: Literal["chat", "raw"]
    lanes: Annotated[list[Lane], Meta(min_length=1, max_length=MOST_LANES)]
    system: str = ""
    params: Params = msgspec.field(default_factory=Params)

    def request_ids(self) -> Iterator[str]:
        """The requests whose answers it holds."""
        return (turn.request_id for lane in self.lanes for turn in lane.turns if turn.request_id)

    def model_refs(self) -> list[str]:
        """The models side by side, each once."""
        return list(dict.fromkeys(lane.model for lane in self.lanes))

    def number(self, known: Mapping[str, Numbers]) -> None:
        """Put the numbers of the books to each answer; those that are not in them have none."""
        for lane in self.lanes:
            for turn in lane.turns:
                turn.numbers = known.get(turn.request_id) if turn.role == "assistant" else None


def conversation_read(text: bytes) -> Conversation:
    """Read what a page sends. Errors: `conversation_invalid`, `conversation_too_long`, `conversation_empty`."""
    if len(text) > MOST_BYTES:
        message = f"A conversation of up to {MOST_BYTES // 1024} KiB can be shared; this one is longer."
        raise KindlingError("conversation_too_long", message, 413)
    try:
        read = msgspec.json.decode(text, type=Conversation)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        # What the parser says may quote what was said.
        message = "The page sent something that is no conversation. Reload it and share again."
        raise KindlingError("conversation_invalid", message) from error
    if not any(turn.content for lane in read.lanes for turn in lane.turns):
        raise KindlingError("conversation_empty", "There is nothing to share yet. Ask something first.")
    return read


def conversation_write(conversation: Conversation) -> bytes:
    """The text that is sealed."""
    return msgspec.json.encode(conversation)


def conversation_open(text: bytes) -> Conversation:
    """What was sealed. Errors: msgspec's, for what no version has written."""
    return msgspec.json.decode(text, type=Conversation)
