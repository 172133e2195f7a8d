"""What a kept body and its answer say to a reader: turns of a conversation, and a stream's pieces joined."""

import json
from dataclasses import dataclass
from typing import Any

EVENT_STREAM = "text/event-stream"
DATA = b"data: "
SHOWN_CHARS = 200_000


@dataclass(frozen=True, slots=True)
class Turn:
    """Who said what."""

    role: str
    text: str


def prompt_turns(body: bytes) -> list[Turn]:
    """The turns of a body of any of the routes; the body as it is where it cannot be read."""
    fields = _object(body)
    if fields is None:
        return [Turn("body", _clear(body))]
    above = [fields[name] for name in ("system", "instructions") if fields.get(name)]
    turns = [Turn("system", _content(one)) for one in above]
    turns += [Turn(str(one.get("role", "")), _message(one)) for one in _list(fields.get("messages"))]
    given = fields.get("input", fields.get("prompt"))
    if isinstance(given, list) and given and all(isinstance(one, dict) for one in given):
        turns += [Turn(str(item.get("role") or item.get("type", "")), _message(item)) for item in given]
    elif given is not None:
        turns.append(Turn("user", given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)))
    if "query" in fields:
        turns.append(Turn("query", _content(fields["query"])))
        documents = fields.get("documents") or []
        turns += [
            Turn("document", _content(one))
            for one in (documents if isinstance(documents, list) else [documents])
        ]
    return [Turn(turn.role, turn.text[:SHOWN_CHARS]) for turn in turns]


def answer_turns(answer: bytes, content_type: str) -> list[Turn]:
    """What was answered: reasoning, text, calls, or the error."""
    pieces: dict[str, list[str]] = {}
    if content_type.startswith(EVENT_STREAM):
        for event in _events(answer):
            _take(event, pieces)
    elif (reply := _object(answer)) is not None:
        _take(reply, pieces)
    else:
        return [Turn("answer", _clear(answer))] if answer else []
    turns = [Turn(role, "".join(parts)[:SHOWN_CHARS]) for role, parts in pieces.items()]
    return [turn for turn in turns if turn.text]


def _take(value: dict[str, Any], pieces: dict[str, list[str]]) -> None:
    """Add what one whole answer, or one event of a stream, says in any of the shapes."""

    def say(role: str, text: Any) -> None:
        if text:
            pieces.setdefault(role, []).append(text if isinstance(text, str) else json.dumps(text))

    if error := value.get("error"):
        say("error", error.get("message") if isinstance(error, dict) else str(error))
    for choice in _list(value.get("choices")):
        said = choice.get("message") or choice.get("delta") or {}
        role = "assistant" if not choice.get("index") else f"assistant {choice['index'] + 1}"
        say("reasoning", said.get("reasoning_content"))
        say(role, said.get("content") or choice.get("text"))
        for call in _list(said.get("tool_calls")):
            _call(call.get("function") or {}, say)
    for block in _list(value.get("content")):  # Anthropic's whole answer
        say("reasoning", block.get("thinking"))
        say("assistant", block.get("text"))
        if block.get("type") == "tool_use":
            say("calls", f"{block.get('name')} {json.dumps(block.get('input'))}\n")
    delta = value.get("delta")
    if isinstance(delta, dict):  # Anthropic's stream
        say("reasoning", delta.get("thinking"))
        say("assistant", delta.get("text"))
        say("calls", delta.get("partial_json"))
    elif isinstance(delta, str):  # the stream of Responses
        kind = str(value.get("type", ""))
        say("reasoning" if "reasoning" in kind else "calls" if "arguments" in kind else "assistant", delta)
    for item in _list(value.get("output")):  # a whole response
        for part in _list(item.get("content")):
            say("reasoning" if item.get("type") == "reasoning" else "assistant", part.get("text"))
        if item.get("type") == "function_call":
            say("calls", f"{item.get('name')} {item.get('arguments')}\n")
    if results := value.get("results"):
        say("answer", json.dumps(results, ensure_ascii=False))
    if "choices" not in value and "results" not in value and (data := value.get("data")):
        say("answer", json.dumps(data))


def _call(function: dict[str, Any], say: Any) -> None:
    name, arguments = function.get("name"), function.get("arguments") or ""
    say("calls", f"{name} {arguments}" if name else arguments)


def _events(answer: bytes) -> list[dict[str, Any]]:
    lines = (line[len(DATA) :] for line in answer.split(b"\n") if line.startswith(DATA))
    return [event for line in lines if (event := _object(line)) is not None]


def _message(message: dict[str, Any]) -> str:
    texts = [_content(message.get("content"))]
    texts += [json.dumps(call.get("function") or {}) for call in _list(message.get("tool_calls"))]
    for name in ("output", "arguments"):
        if message.get(name):
            texts.append(_content(message[name]))
    return "\n".join(text for text in texts if text)


def _content(content: Any) -> str:
    """A string, or the texts of its parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = [content]
    parts = [one if isinstance(one, str) else one.get("text", json.dumps(one)) for one in _some(content)]
    return "\n".join(map(str, parts))


def _some(value: Any) -> list[Any]:
    return [one for one in value if isinstance(one, str | dict)] if isinstance(value, list) else []


def _list(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _clear(text: bytes) -> str:
    return text.decode("utf-8", "replace")[:SHOWN_CHARS]
