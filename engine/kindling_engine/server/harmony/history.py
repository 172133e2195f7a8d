"""Earlier messages in the form that harmony templates expect: one system text, one call each with its result."""

from collections import defaultdict, deque
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
        yield from _calls(message, results)


def _calls(message: Message, results: Sequence[Message]) -> Iterator[Message]:
    """Each call of a message with its results. What was said and thought stands in front of the first."""
    calls = message["tool_calls"]
    said = _with_one_thought(message)
    bare = {
        key: "" if key == "content" else one for key, one in message.items() if key != "reasoning_content"
    }
    for call, answers in zip(calls, _paired(calls, results), strict=True):
        yield {**said, "tool_calls": [call]}
        yield from answers
        said = bare


def _paired(calls: Sequence[dict[str, Any]], results: Sequence[Message]) -> list[list[Message]]:
    """The results of each call: those that name it. Calls of one id, or of none, have theirs in order, and so have
    calls that no result names; the last has what is left.
    """
    found: list[list[Message]] = [[] for _ in calls]
    named: defaultdict[str, deque[int]] = defaultdict(deque)
    for index, call in enumerate(calls):
        named[call.get("id", "")].append(index)
    others = []
    for result in results:
        if not (waiting := named.get(result.get("tool_call_id", ""))):
            others.append(result)
            continue
        found[waiting[0]].append(result)
        if len(waiting) > 1:
            waiting.popleft()
    free = iter([index for index, answers in enumerate(found) if not answers])
    for result in others:
        found[next(free, -1)].append(result)
    return found


def _with_one_thought(message: Message) -> Message:
    """What was said in front of a call goes behind the thoughts, where there are some."""
    said, thought = message.get("content", ""), message.get("reasoning_content", "")
    if not (said and thought):
        return message
    return {**message, "content": "", "reasoning_content": f"{thought}{_BETWEEN}{said}"}
