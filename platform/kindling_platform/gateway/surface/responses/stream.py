"""A chat completion's chunks as the numbered events of a response."""

from typing import Any

from kindling_platform.gateway.surface.form import event
from kindling_platform.gateway.surface.responses.output import (
    Response,
    call_item,
    message_item,
    reasoning_item,
    text_part,
)


class ResponseStream:
    """Output items one after the other, each told when it begins, grows and ends; `output` are those that ended."""

    def __init__(self, response: Response, hex_id: str) -> None:
        self._response = response
        self._hex_id = hex_id
        self._number = -1
        self._kind = ""
        self._call: dict[str, Any] = {}
        self._parts: list[str] = []
        self._logprobs: list[dict[str, Any]] = []
        self.output: list[dict[str, Any]] = []
        self.finish = "stop"
        self.usage: dict[str, Any] = {}
        self.limited_by = ""

    def begin(self) -> bytes:
        """The two events that open every response."""
        return b"".join(
            self._event(f"response.{name}", response=self._response) for name in ("created", "in_progress")
        )

    def feed(self, chunk: dict[str, Any]) -> bytes:
        """The events of one chunk."""
        self.usage = chunk.get("usage") or self.usage
        self.limited_by = chunk.get("limited_by") or self.limited_by
        out = b""
        for choice in chunk.get("choices") or []:
            delta = choice.get("delta") or {}
            if text := delta.get("reasoning_content"):
                out += self._reason(text)
            if text := delta.get("content"):
                out += self._say(text, (choice.get("logprobs") or {}).get("content") or [])
            for call in delta.get("tool_calls") or []:
                out += self._say_call(call)
            self.finish = choice.get("finish_reason") or self.finish
        return out

    def close(self) -> bytes:
        """The events that end the item which is open; it is part of `output` then."""
        if not self._kind:
            return b""
        text, item_id = "".join(self._parts), self._item_id()
        at: dict[str, Any] = {"item_id": item_id, "output_index": len(self.output)}
        status = "incomplete" if self.finish in ("length", "content_filter") else "completed"
        out = b""
        if self._kind == "call":
            out = self._event("response.function_call_arguments.done", **at, arguments=text,
                              name=self._call["name"])  # fmt: skip
            item = call_item(item_id, self._call["id"], self._call["name"], text, status=status)
        elif self._kind == "reasoning":
            part: dict[str, Any] = {"type": "reasoning_text", "text": text}
            out = self._event("response.reasoning_text.done", **at, content_index=0, text=text)
            out += self._event("response.content_part.done", **at, content_index=0, part=part)
            item = reasoning_item(item_id, text, status=status)
        else:
            part = text_part(text, self._logprobs)
            out = self._event("response.output_text.done", **at, content_index=0, text=text,
                              logprobs=self._logprobs)  # fmt: skip
            out += self._event("response.content_part.done", **at, content_index=0, part=part)
            item = message_item(item_id, part, status=status)
        out += self._event("response.output_item.done", output_index=len(self.output), item=item)
        self.output.append(item)
        self._kind, self._parts, self._logprobs = "", [], []
        return out

    def last(self, response: Response) -> bytes:
        """The event that ends a response, and has all of it."""
        return self._event(f"response.{response['status']}", response=response)

    def fail(self, error: dict[str, Any]) -> bytes:
        """The events of a failure: the response with its error, and nothing behind it."""
        failed = {"code": "server_error", "message": str(error.get("message", ""))}
        response = self._response | {"status": "failed", "error": failed}
        return self._event("response.failed", response=response)

    def _reason(self, text: str) -> bytes:
        out = self._open("reasoning")
        self._parts.append(text)
        return out + self._delta("response.reasoning_text.delta", text)

    def _say(self, text: str, logprobs: list[dict[str, Any]]) -> bytes:
        out = self._open("message")
        self._parts.append(text)
        self._logprobs += logprobs
        return out + self._delta("response.output_text.delta", text, logprobs=logprobs)

    def _say_call(self, call: dict[str, Any]) -> bytes:
        out, function = b"", call.get("function") or {}
        if self._kind != "call" or self._call["index"] != call["index"]:
            out = self.close()
            self._call = {"index": call["index"], "id": call.get("id", ""), "name": function.get("name", "")}
            self._kind = "call"
            item = call_item(self._item_id(), self._call["id"], self._call["name"], "", status="in_progress")
            out += self._event("response.output_item.added", output_index=len(self.output), item=item)
        if arguments := function.get("arguments"):
            self._parts.append(arguments)
            out += self._event(
                "response.function_call_arguments.delta",
                item_id=self._item_id(),
                output_index=len(self.output),
                delta=arguments,
            )
        return out

    def _open(self, kind: str) -> bytes:
        if self._kind == kind:
            return b""
        out = self.close()
        self._kind = kind
        item_id, reasons = self._item_id(), kind == "reasoning"
        item = (
            reasoning_item(item_id, "", status="in_progress")
            if reasons
            else message_item(item_id, None, status="in_progress")
        )
        part = {"type": "reasoning_text", "text": ""} if reasons else text_part("", [])
        at = {"item_id": item_id, "output_index": len(self.output)}
        out += self._event("response.output_item.added", output_index=len(self.output), item=item)
        return out + self._event("response.content_part.added", **at, content_index=0, part=part)

    def _delta(self, name: str, text: str, **more: Any) -> bytes:
        at = {"item_id": self._item_id(), "output_index": len(self.output), "content_index": 0}
        return self._event(name, **at, delta=text, **more)

    def _item_id(self) -> str:
        prefix = {"message": "msg", "reasoning": "rs", "call": "fc"}[self._kind]
        return f"{prefix}_{self._hex_id}{len(self.output):02x}"

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        return event(kind, {"type": kind, "sequence_number": self._number, **fields})
