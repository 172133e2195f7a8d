"""Grammars that bind an answer, or the calls in it, to the tools that were offered (llguidance's Lark dialect)."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kindling_engine.constraints.base import ConstraintError
from kindling_engine.constraints.grammar_text import schema_settle, size_check
from kindling_engine.constraints.schema import schema_prepare
from kindling_engine.protocol.sampling import Constraint
from kindling_engine.server.tools import hermes, mistral
from kindling_engine.server.tools.family import HERMES, LLAMA, MISTRAL, MISTRAL_NAMED, TAG_FORMS, ToolFamily
from kindling_engine.server.tools.tagged import TagForm
from kindling_engine.server.tools.tagged_grammar import TaggedRules

# As templates print JSON: one way to write it leaves a model nothing to dawdle with.
_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_ANY_OBJECT: dict[str, Any] = {"type": "object"}
ANYTHING = "/(?s:.*)/"


class AnswerFormatError(ValueError):
    """The wanted format of answers cannot stand beside tools."""


@dataclass(frozen=True, slots=True)
class BoundTool:
    """A tool's name and the JSON schema that its arguments are held to; ``place`` says where the body has it.

    ``lenient``: what of the schema is not kept in the model's form of calls is left out.
    """

    name: str
    parameters: dict[str, Any]
    place: str = "parameters"
    lenient: bool = False


def tool_grammar(
    family: ToolFamily,
    tools: Sequence[BoundTool],
    *,
    required: bool,
    parallel: bool,
    answer: Constraint | None = None,
) -> Constraint:
    """A constraint on the whole answer: calls when ``required``, else text (or the wanted ``answer``) or calls.

    Raises ConstraintError for a schema that is not enforced, with its place in the body, and
    AnswerFormatError.
    """
    opening = _OPENINGS.get(family.name, "")
    first = _mark(family, opening)
    if required:
        rules = ["start: LEAD calls", "LEAD: /\\n{0,2}/"]
    elif answer is not None:
        rules = [
            "start: LEAD (calls | answer)",
            "LEAD: /\\n{0,2}/",
            f"answer: %json {_answer_schema(answer)}",
        ]
    elif not opening:
        # Nothing marks a call but that the answer begins with it.
        rules = ["start: TEXT | LEAD calls", "LEAD: /\\s{0,4}/", f"TEXT: {ANYTHING} & ~/\\s*\\{{(?s:.*)/"]
    else:
        # A call whose mark is forgotten is read as one, so there may be none in a text.
        bare = family.tags.name[0] if family.tags else ""
        unmarked = f" & ~/(?s:.*){re.escape(bare)}(?s:.*)/" if bare else ""
        rules = [f"TEXT: {ANYTHING} & ~/(?s:.*){re.escape(opening)}(?s:.*)/{unmarked}"]
        if opening in family.mark_ids:
            rules.append("start: TEXT calls?")
        else:
            # A mark of several tokens ends the text that it stands in.
            first = "head"
            rules += [
                "start: TEXT | calls",
                "head[lazy]: HEAD",
                f"HEAD: /(?s:.*){re.escape(opening)}/{unmarked}",
            ]
    rules += _CALLS[family.name](family, first, parallel)
    rules += _tagged(family.tags, tools) if family.tags is not None else _plain(family, tools)
    rules.append("call: " + " | ".join(f"call_{number}" for number in range(len(tools))))
    return Constraint("lark", "\n".join(rules))


def _hermes(family: ToolFamily, first: str, parallel: bool) -> list[str]:
    closing = _mark(family, hermes.CLOSE)
    more = f" (GAP {_mark(family, hermes.OPEN)} body)*" if parallel else ""
    return [f"calls: {first} body{more}", f"body: GAP call GAP {closing}", "GAP: /\\n?/"]


def _llama(family: ToolFamily, first: str, parallel: bool) -> list[str]:
    return ["calls: call"]  # the family makes one at a time


def _mistral(family: ToolFamily, first: str, parallel: bool) -> list[str]:
    more = ' ("," " "? call)*' if parallel else ""
    return [f'calls: {first} " "? "[" call{more} "]"']


def _mistral_named(family: ToolFamily, first: str, parallel: bool) -> list[str]:
    more = f" ({_mark(family, mistral.OPEN)} call)*" if parallel else ""
    return [f"calls: {first} call{more}"]


_OPENINGS = {
    **dict.fromkeys((HERMES, *TAG_FORMS), hermes.OPEN),
    MISTRAL: mistral.OPEN,
    MISTRAL_NAMED: mistral.OPEN,
}
_CALLS = {
    **dict.fromkeys((HERMES, *TAG_FORMS), _hermes),
    LLAMA: _llama,
    MISTRAL: _mistral,
    MISTRAL_NAMED: _mistral_named,
}


def _tagged(form: TagForm, tools: Sequence[BoundTool]) -> list[str]:
    writer, rules = TaggedRules(form, _STYLE), []
    for number, tool in enumerate(tools):
        with _placed(tool):
            schema_prepare(json.dumps(tool.parameters))  # what is no schema is none in every form
            rules.append(writer.call(tool.name, tool.parameters, number, lenient=tool.lenient))
    return rules + writer.shared()


def _plain(family: ToolFamily, tools: Sequence[BoundTool]) -> list[str]:
    return [_call(family, tool, number) for number, tool in enumerate(tools)]


def _call(family: ToolFamily, tool: BoundTool, number: int) -> str:
    arguments = arguments_rule(tool)
    if family.name != MISTRAL_NAMED:
        key = "parameters" if family.name == LLAMA else "arguments"
        before = f'{{"name": {json.dumps(tool.name)}, "{key}": '
        return f'call_{number}: {json.dumps(before)} arguments_{number} "}}"\narguments_{number}: {arguments}'
    mark = _mark(family, mistral.ARGUMENTS_MARK)
    return (
        f"call_{number}: {json.dumps(tool.name)} {mark} arguments_{number}\narguments_{number}: {arguments}"
    )


def _mark(family: ToolFamily, mark: str) -> str:
    number = family.mark_ids.get(mark)
    return json.dumps(mark) if number is None else f"<[{number}]>"


@contextmanager
def _placed(tool: BoundTool) -> Iterator[None]:
    """Tells where in the body a schema stands that is refused."""
    try:
        yield
    except ConstraintError as error:
        raise ConstraintError(error.code, f"{tool.place}: {error.message}") from None


def arguments_rule(tool: BoundTool) -> str:
    """Arguments that match the tool's schema. Raises ConstraintError with the schema's place."""
    with _placed(tool):
        # Arguments are an object, whatever else the schema leaves open.
        prepared = schema_prepare(json.dumps(tool.parameters))
        size_check(prepared)
    if prepared.get("type") != "object":
        prepared = {"allOf": [_ANY_OBJECT, prepared]}
    return f"%json {_written(prepared)}"


def _answer_schema(answer: Constraint) -> str:
    if answer.kind == "json_object":
        return _written(_ANY_OBJECT)
    if answer.kind == "json_schema":
        return _written(schema_settle(answer.text))
    raise AnswerFormatError(answer.kind)


def _written(schema: dict[str, Any]) -> str:
    return json.dumps({**schema, "x-guidance": _STYLE}, ensure_ascii=False)
