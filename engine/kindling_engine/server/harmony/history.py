"""Earlier messages in the form that harmony templates expect: one system text, one call each with its result."""

from collections.abc import Iterator, Sequence
from typing import Any

Message = dict[str, Any]
SYSTEM_ROLES = ("system", "developer")
_BETWEEN = "\n\n"


def harmony_messages(messages: Sequence[Message]) -> list[Message]:
    """The same conversation. Published templates drop system texts but the first and calls but the first of a message,
    name results by the call before them, and refuse a call with both text and thoughts in front of it.
    """
    systems = [one for one in messages if one["role"] in SYSTEM_ROLES]
    rest = [one for one in messages if one["role"] not in SYSTEM_ROLES]
    if len(systems) > 1:
        systems = [{**systems[0], "content": _BETWEEN.join(one["content"] for one in systems)}]
    return [*systems, *_one_by_one(rest)]


def harmony_tools(tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tools with a description each: templates put it into a text whether it is there or not."""
    return [{**one, "function": {"description": "", **one["function"]}} for one in tools]


def _one_by_one(messages: Sequence[Message]) -> Iterator[Message]:
    index = 0
    while index < len(messages):
        message = messages[index]
        index += 1
        if "tool_calls" not in message:
            yield message
            continue
        results = []
        while index < len(messages) and messages[index]["role"] == "tool":
            results.append(messages[index])
            index += 1
        yield from _calls(_with_one_thought(message), results)


def _calls(message: Message, results: list[Message]) -> Iterator[Message]:
    """Each call of a message with the results that name it; what names none of them stays with the last."""
    calls = message["tool_calls"]
    bare = {key: one for key, one in message.items() if key != "reasoning_content"}
    for call in calls:
        yield {**(message if call is calls[0] else bare), "tool_calls": [call]}
        if call is calls[-1]:
            yield from results
            return
        mine = [one for one in results if one.get("tool_call_id") == call.get("id", "")]
        yield from mine
        results = [one for one in results if all(one is not other for other in mine)]


def _with_one_thought(message: Message) -> Message:
    """What was said in front of a call goes behind the thoughts, where there are some."""
    said, thought = message.get("content", ""), message.get("reasoning_content", "")
    if not (said and thought):
        return message
    return {**message, "content": "", "reasoning_content": f"{thought}{_BETWEEN}{said}"}
