"""Grammars that bind an answer in OpenAI's harmony format: its messages, and what the last of them says."""

import json
from collections.abc import Sequence

from kindling_engine.constraints.grammar_text import (
    JSON_OBJECT,
    WHITESPACE,
    expression_lark,
    schema_settle,
)
from kindling_engine.protocol.sampling import Constraint
from kindling_engine.server.harmony.marks import CHANNEL, CONSTRAIN, END, MESSAGE, START, Harmony
from kindling_engine.server.tools.grammar import ANYTHING, BoundTool, arguments_rule

UNBOUNDED = -1


def harmony_grammar(
    harmony: Harmony,
    tools: Sequence[BoundTool],
    *,
    required: bool,
    answer: Constraint | None = None,
    budget: int = UNBOUNDED,
) -> Constraint:
    """Thoughts of at most ``budget`` tokens, then a call when ``required``, else the ``answer``, or a call of a tool.

    A call ends the answer, so there is one. What is said before it is left out where an answer is bound to a form: it
    would be content, too. Raises ConstraintError for a schema that is not enforced, with its place in the body.
    """
    says = bool(tools) and not required and answer is None
    arguments = [arguments_rule(tool) for tool in tools]
    shared = {rule: f"arguments_{number}" for number, rule in enumerate(dict.fromkeys(arguments))}
    rules = [
        f"start: {_before(says, budget)} {_last(tools, required)}",
        f"thought: {_message(harmony, 'analysis')} thinking {_next(harmony)}",
        f"thinking{f'[max_tokens={budget}]' if budget > 0 else ''}: TEXT",
        f"said: {_message(harmony, 'commentary')} TEXT {_next(harmony)}",
        f"final: {_message(harmony, 'final')} answer",
        _answer(answer),
        f"TEXT: {ANYTHING}",
        *(
            f"call_{number}: {_call(harmony, tool.name)} {shared[rule]}"
            for number, (tool, rule) in enumerate(zip(tools, arguments, strict=True))
        ),
        *(f"{name}: {rule}" for rule, name in shared.items()),
    ]
    return Constraint("lark", "\n".join(rules))


def _before(says: bool, budget: int) -> str:
    if budget == 0:
        return "said*" if says else ""
    if budget > 0:  # once, so that it is a bound on all of them
        return "said* (thought said*)?" if says else "thought?"
    return "(thought | said)*" if says else "thought*"


def _last(tools: Sequence[BoundTool], required: bool) -> str:
    calls = [f"call_{number}" for number in range(len(tools))]
    return f"({' | '.join(calls if required else ['final', *calls])})"


def _call(harmony: Harmony, tool: str) -> str:
    """The header of a call: both places of the recipient, and the ways in which the type of arguments is told."""
    to, channel = f"to=functions.{tool}", _mark(harmony, CHANNEL)
    heads = f'{channel} {json.dumps(f"commentary {to}")} | {json.dumps(f" {to}")} {channel} "commentary"'
    told = f'" "? {_mark(harmony, CONSTRAIN)} "json" | ' if CONSTRAIN in harmony.ids else ""
    return f'({heads}) ({told}" json")? {_mark(harmony, MESSAGE)}'


def _answer(answer: Constraint | None) -> str:
    match answer:
        case None:
            return "answer: TEXT"
        case Constraint("json_object" | "json_schema" as kind, text):
            schema = schema_settle(JSON_OBJECT if kind == "json_object" else text)
            style = {"x-guidance": {"whitespace_pattern": WHITESPACE}}
            return f"answer: %json {json.dumps({**schema, **style}, ensure_ascii=False)}"
        case Constraint("regex", text):
            return f"answer: %lark {{\n{expression_lark(text)}\n}}"
    return f"answer: %lark {{\n{answer.text}\n}}"


def _message(harmony: Harmony, channel: str) -> str:
    return f'{_mark(harmony, CHANNEL)} "{channel}" {_mark(harmony, MESSAGE)}'


def _next(harmony: Harmony) -> str:
    return f'{_mark(harmony, END)} {_mark(harmony, START)} "assistant"'


def _mark(harmony: Harmony, mark: str) -> str:
    return f"<[{harmony.ids[mark]}]>"
