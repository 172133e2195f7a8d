"""Calls whose arguments stand between tags of their own: those of Qwen 3 Coder, Qwen 3.5, Nemotron 3 and GLM 4.5."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kindling_engine.server.tools.hermes import CLOSE, OPEN
from kindling_engine.server.tools.parser import MarkedParser, call_id_make, partial_end
from kindling_engine.server.tools.tagged_values import (
    FREE,
    Argument,
    argument_of,
    arguments_of,
    value_text,
)

_LONGEST_NAME = 256


@dataclass(frozen=True, slots=True)
class TagForm:
    """What stands around the parts of a call. White space between tags does not count; ``padded`` values begin and end
    with a line break that is not theirs. An empty ``end`` leaves the end to the closing mark.
    """

    name: tuple[str, str]
    key: tuple[str, str]
    value: tuple[str, str]
    end: str
    padded: bool


FUNCTION_TAGS = TagForm(
    ("<function=", ">"), ("<parameter=", ">"), ("", "</parameter>"), "</function>", padded=True
)
"""``<tool_call><function=f><parameter=x>1</parameter></function></tool_call>``, with line breaks between them."""
ARGUMENT_TAGS = TagForm(
    ("", "\n"), ("<arg_key>", "</arg_key>"), ("<arg_value>", "</arg_value>"), "", padded=False
)
"""``<tool_call>f``, ``<arg_key>x</arg_key><arg_value>1</arg_value></tool_call>``, with line breaks between them."""


class TaggedParser(MarkedParser):
    """Finds marked calls anywhere in an answer, and writes their arguments as JSON.

    Texts flow as they arrive, other values when they are whole. What stands between tags and belongs to no argument
    goes into the arguments as it is, which are no JSON then.
    """

    opening = OPEN
    closing = CLOSE

    def __init__(
        self,
        tools: Mapping[str, Mapping[str, Any]],
        form: TagForm,
        make_id: Callable[[], str] = call_id_make,
    ) -> None:
        """``tools``: the parameters of those that were offered, by name."""
        super().__init__(tools, make_id)
        self._tools = tools
        self._form = form
        self._known: dict[str, Argument] = {}
        self._others = FREE
        self._argument = FREE
        self._open = False
        self._arguments_made = 0
        self._begun = False  # of the value that is being read, something has been given out

    @property
    def unfinished(self) -> bool:
        return self._open

    @property
    def _without_mark(self) -> str:
        # Some of these models forget the mark in front of a call, but not its function's tag.
        return self._form.name[0]

    def _behind_mark(self) -> bool:
        """The function's name, behind which nothing is content any more."""
        opening, closing = self._form.name
        rest = self._pending[self._cursor :]
        said = rest.lstrip()
        if not said.startswith(opening):
            return self._half_call() if self._final else not opening.startswith(said) and self._not_a_call()
        name, found = _until(said[len(opening) :], closing, self._form.key[0], CLOSE)
        if found < 0:
            too_long = len(said) > _LONGEST_NAME
            return self._half_call() if self._final else too_long and self._not_a_call()
        if name.strip() not in self._names:
            return self._not_a_call()
        behind = said[len(opening) + found :]
        self._cursor = len(self._pending) - len(behind.removeprefix(closing))
        self._begin(name.strip())
        return True

    def _begin(self, name: str) -> None:
        self._start_call(name)
        self._cursor = 0
        parameters = self._tools[name]
        self._known = arguments_of(parameters)
        self._others = argument_of(parameters.get("additionalProperties", True), parameters)
        self._arguments("{")
        self._open, self._arguments_made = True, 0
        self._step = self._between

    def _between(self) -> bool:
        """In front of an argument, or of the end."""
        self._drop(len(self._pending) - len(self._pending.lstrip()))
        opening, closing = self._form.key
        for end in (self._form.end, CLOSE):
            if end and self._pending.startswith(end):
                self._drop(0 if end == CLOSE else len(end))
                return self._end()
        if self._pending.startswith(opening):
            key, found = _until(self._pending[len(opening) :], closing)
            if max(found, len(self._pending) * (found < 0)) > _LONGEST_NAME:
                return self._break()
            if found < 0:
                return False
            behind, mark = self._pending[len(opening) + found + len(closing) :], self._form.value[0]
            behind = behind.lstrip() if mark else behind
            if not behind.startswith(mark):
                return not mark.startswith(behind) and self._break()
            self._begin_value(
                key if key in self._known else key.strip(), len(self._pending) - len(behind) + len(mark)
            )
            return True
        if self._final and not self._cut and not self._pending and not self._form.end:
            return self._end()  # nothing but the mark is left to come
        ends = (opening, self._form.end, CLOSE)
        return not any(one.startswith(self._pending) for one in ends) and self._break()

    def _begin_value(self, key: str, behind: int) -> None:
        self._drop(behind)
        comma = ", " if self._arguments_made else ""
        self._arguments(f"{comma}{json.dumps(key, ensure_ascii=False)}: ")
        self._arguments_made += 1
        self._argument = self._known.get(key, self._others)
        self._begun = False
        self._step = self._in_value

    def _in_value(self) -> bool:
        closing = self._form.value[1]
        found = self._pending.find(closing)
        flows = not self._argument.types
        if found < 0 and not (flows and self._pending):
            return False
        pad = "\n" if self._form.padded else ""
        if found < 0:
            # What may begin the end of the value waits.
            read = len(self._pending) - (
                partial_end(self._pending, pad + closing) or partial_end(self._pending, closing)
            )
            if not read:
                return False
            value = self._pending[:read]
        else:
            read = found + len(closing)
            value = self._pending[:found].removesuffix(pad)
        value = value if self._begun else value.removeprefix(pad)
        if flows:
            self._flow(value, first=not self._begun, last=found >= 0)
        else:
            self._arguments(value_text(value, self._argument))
        self._drop(read)
        self._begun = True
        if found >= 0:
            self._step = self._between
        return found >= 0

    def _flow(self, text: str, *, first: bool, last: bool) -> None:
        self._arguments('"' * first + json.dumps(text, ensure_ascii=False)[1:-1] + '"' * last)

    def _end(self) -> bool:
        self._arguments("}")
        self._open = False
        self._step = self._behind_call
        return True

    def _behind_call(self) -> bool:
        """The closing mark is not missed when it is missing."""
        rest = self._pending.lstrip()
        another = self._form.name[0]
        if rest.startswith(CLOSE):
            self._drop(len(self._pending) - len(rest) + len(CLOSE))
        elif another and rest.startswith(another):
            self._cursor = self._head = 0
            self._step = self._behind_mark
            return True
        elif CLOSE.startswith(rest) or another.startswith(rest):
            if self._final:
                self._drop(len(self._pending))
            return False
        self._step = self._in_text
        return True

    def _break(self) -> bool:
        self._step = self._in_broken
        return True

    def _in_broken(self) -> bool:
        has_ended = super()._in_broken()
        self._open = self._open and not has_ended
        return has_ended


def _until(text: str, *ends: str) -> tuple[str, int]:
    """What stands in front of the first of some ends, and how long it is; −1 where none is there yet."""
    places = [place for end in ends if (place := text.find(end)) >= 0]
    return (text[: min(places)], min(places)) if places else ("", -1)
