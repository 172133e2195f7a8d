"""What a model's chat template tells about the model: how it reasons and calls tools, and which roles it knows."""

from dataclasses import dataclass

from tokenizers import Tokenizer

from kindling_engine.server.chat_template import ChatTemplate
from kindling_engine.server.harmony.marks import Harmony, harmony_find
from kindling_engine.server.reasoning import ReasoningFamily, reasoning_family_find
from kindling_engine.server.template_files import ChatTemplates
from kindling_engine.server.tools.family import ToolFamily, tool_family_find


@dataclass(frozen=True, slots=True)
class ChatFamily:
    """One template and what was found in it. ``shows_tools``: it has a place for the tools of a request. A family with
    ``harmony`` reasons and calls in that format.
    """

    template: ChatTemplate
    tools: ToolFamily | None
    reasoning: ReasoningFamily | None
    shows_tools: bool
    knows_developer: bool
    harmony: Harmony | None = None

    @property
    def reasons(self) -> bool:
        return self.reasoning is not None or self.harmony is not None

    @property
    def calls_tools(self) -> bool:
        return self.shows_tools and (self.tools is not None or self.harmony is not None)


@dataclass(frozen=True, slots=True)
class ChatFamilies:
    """The families of requests without and with tools; they differ only where a model has a template for each."""

    plain: ChatFamily
    with_tools: ChatFamily

    def pick(self, *, tools: bool) -> ChatFamily:
        return self.with_tools if tools else self.plain


def chat_families_find(templates: ChatTemplates, tokenizer: Tokenizer) -> ChatFamilies:
    """Look at a model's templates; nothing of them runs."""
    plain = _family(templates.pick(tools=False), tokenizer)
    if templates.tool_use is None:
        return ChatFamilies(plain, plain)
    return ChatFamilies(plain, _family(templates.tool_use, tokenizer))


def _family(template: ChatTemplate, tokenizer: Tokenizer) -> ChatFamily:
    harmony = harmony_find(template.source, tokenizer)
    return ChatFamily(
        template=template,
        harmony=harmony,
        tools=None if harmony else tool_family_find(template.source, tokenizer),
        reasoning=None if harmony else reasoning_family_find(template, tokenizer),
        shows_tools="tools" in template.names,
        # A template that prints any role would make a header that the model has never seen.
        knows_developer="developer" in template.source,
    )
