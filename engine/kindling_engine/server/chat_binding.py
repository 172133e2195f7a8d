"""What binds a chat's answer: its format, the tools it may or must call, and how much of it may be reasoning."""

import asyncio
from dataclasses import replace

from kindling_engine.constraints.base import ConstraintError
from kindling_engine.constraints.grammar_text import grammar_text
from kindling_engine.protocol.sampling import Constraint
from kindling_engine.server.chat_family import ChatFamily
from kindling_engine.server.errors import ApiError, unsupported_field
from kindling_engine.server.harmony.grammar import harmony_grammar
from kindling_engine.server.reasoning_fields import ReasoningAsk
from kindling_engine.server.tool_fields import ToolAsk
from kindling_engine.server.tools.binding import tools_bind
from kindling_engine.server.tools.grammar import AnswerFormatError, tool_grammar

Bound = tuple[Constraint | None, tuple[str, ...]]


async def answer_bind(
    asked: ToolAsk, reasoning: ReasoningAsk, family: ChatFamily, answer: Constraint | None
) -> Bound:
    """The constraint on an answer, and which parts of tools' schemas have no effect. ``answer`` is the format wanted.

    Errors: `unsupported_field`, and those of schemas.
    """
    if asked.active and not family.calls_tools:
        raise unsupported_field(
            asked.field,
            "This model's chat template has no tools, or calls them in a form that is not supported.",
        )
    bounded = family.harmony is not None and reasoning.budget >= 0
    # A call ends a harmony answer, so that there is one without being bound to it.
    calls = asked if family.harmony is None else replace(asked, parallel=True)
    if not (calls.binds or (answer and (asked.active or family.harmony)) or bounded):
        return answer, ()
    try:
        return await asyncio.to_thread(_bind, asked, reasoning, family, answer)
    except AnswerFormatError:
        raise unsupported_field(
            "response_format",
            "Beside tools, an answer can be bound to JSON only, not to an expression or grammar.",
        ) from None
    except ConstraintError as error:
        field = asked.field if asked.active else "response_format"
        raise ApiError(400, error.code, error.message, param=field) from None


def _bind(asked: ToolAsk, reasoning: ReasoningAsk, family: ChatFamily, answer: Constraint | None) -> Bound:
    tags = family.tools.tags if family.tools else None
    bound, unkept = tools_bind(asked, tags=tags) if asked.active else ([], ())
    wanted = None if asked.demanded else answer
    if family.harmony is not None:
        constraint = harmony_grammar(
            family.harmony, bound, required=asked.demanded, answer=wanted, budget=reasoning.budget
        )
    else:
        assert family.tools
        constraint = tool_grammar(
            family.tools, bound, required=asked.demanded, parallel=asked.parallel, answer=wanted
        )
    grammar_text(constraint.kind, constraint.text)
    return constraint, unkept
