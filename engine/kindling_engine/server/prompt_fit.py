"""Shortens a chat to a wanted number of tokens by leaving out its oldest turns."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from kindling_engine.server.errors import ApiError, invalid_value

Message = dict[str, Any]
SYSTEM_ROLES = ("system", "developer")


class Encoded(Protocol):
    """A prompt made from messages."""

    @property
    def ids(self) -> list[int]: ...


Made = TypeVar("Made", bound=Encoded)


async def chat_fit(
    messages: list[Message], limit: int | None, make: Callable[[list[Message]], Awaitable[Made]]
) -> Made:
    """The prompt of the longest end of a chat, its system messages kept, that has at most ``limit`` tokens.

    A chat is cut in front of a user message, so that no answer or tool result stands without its question; None is no
    limit. Errors: `invalid_value` when even the last turn is too long.
    """
    if limit is None:
        return await make(messages)
    if best := await _within(limit, messages, make):
        return best
    cuts = [index for index, message in enumerate(messages) if message["role"] == "user"][1:]
    low, high = 0, len(cuts)
    while low < high:  # a later cut is never longer
        middle = (low + high) // 2
        made = await _within(limit, _cut(messages, cuts[middle]), make)
        if made is None:
            low = middle + 1
        else:
            best, high = made, middle
    if best is None:
        raise invalid_value(
            "prompt_truncate_len",
            f"The last turn and the system messages alone have more than the {limit} tokens of prompt_truncate_len.",
        )
    return best


async def _within(
    limit: int, messages: list[Message], make: Callable[[list[Message]], Awaitable[Made]]
) -> Made | None:
    """The prompt of these messages, None when it is longer than the limit."""
    try:
        made = await make(messages)
    except ApiError as error:
        if error.code != "context_length_exceeded":
            raise
        return None
    return made if len(made.ids) <= limit else None


def _cut(messages: list[Message], start: int) -> list[Message]:
    kept = [message for message in messages[:start] if message["role"] in SYSTEM_ROLES]
    return kept + messages[start:]
