"""What an engine refuses of a translated body, under the names that the client gave it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from kindling_platform.gateway.surface.form import error_of

INDEXED = re.compile(r"(messages|tools)\[(\d+)\]")
# A name as engines write it in a sentence: one that nobody takes for a word, and what follows of its path.
WRITTEN = re.compile(r"\b(?:(?:messages|tools)\[\d+\]|[a-z]+(?:_[a-z]+)+)(?:\.\w+|\[\d+\])*")
# A chat can be cut to the context by a field that these routes do not have.
ADVICE = re.compile(r",? ([^,.]+),? or set context_length_exceeded_behavior to truncate")


@dataclass(frozen=True, slots=True)
class Naming:
    """`names` has the client's name for the beginning of a chat's path, those inside of a tool with a dot in front.

    `messages` and `tools` are the client's places of a chat's messages and tools, where they are not its own.
    """

    names: Mapping[str, str]
    messages: Sequence[str] = field(default=())
    tools: Sequence[str] = field(default=())

    def rename(self, body: bytes) -> bytes:
        """An error's body in OpenAI's shape, in the client's words."""
        error = error_of(body)
        param, message = error.get("param"), str(error.get("message") or "")
        if not isinstance(param, str):
            return body
        if message.startswith(f"{param} ") and not WRITTEN.match(message):
            message = self.name(param) + message[len(param) :]
        message = WRITTEN.sub(lambda found: self.name(found[0]), ADVICE.sub(r" or \1", message))
        return orjson.dumps({"error": error | {"message": message, "param": self.name(param)}})

    def name(self, path: str) -> str:
        """The client's name for a field of the chat."""
        found = INDEXED.match(path)
        if found is None:
            return self._begun(path)
        kind, index = found[1], int(found[2])
        places = self.messages if kind == "messages" else self.tools
        place = places[index] if index < len(places) else self.names.get(kind, found[0])
        if kind == "messages":  # one of them may stand for several blocks
            return place
        return place + self._begun(path[found.end() :].removeprefix(".function"))

    def _begun(self, path: str) -> str:
        for ours, theirs in self.names.items():
            rest = path.removeprefix(ours)
            if path.startswith(ours) and rest[:1] in ("", ".", "["):
                return theirs + rest
        return path
