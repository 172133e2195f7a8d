"""Which form a model writes its tool calls in, found out from its chat template."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from kindling_engine.server.tools import hermes, llama, mistral
from kindling_engine.server.tools.hermes import HermesParser
from kindling_engine.server.tools.llama import LlamaParser
from kindling_engine.server.tools.mistral import MistralParser
from kindling_engine.server.tools.parser import ToolParser
from kindling_engine.server.tools.tagged import ARGUMENT_TAGS, FUNCTION_TAGS, TagForm, TaggedParser

HERMES, LLAMA, MISTRAL, MISTRAL_NAMED = "hermes", "llama", "mistral", "mistral-named"
FUNCTION_TAGGED, ARGUMENT_TAGGED = "function-tags", "argument-tags"
TAG_FORMS: dict[str, TagForm] = {FUNCTION_TAGGED: FUNCTION_TAGS, ARGUMENT_TAGGED: ARGUMENT_TAGS}
_MARKS = {
    HERMES: (hermes.OPEN, hermes.CLOSE),
    FUNCTION_TAGGED: (hermes.OPEN, hermes.CLOSE),
    ARGUMENT_TAGGED: (hermes.OPEN, hermes.CLOSE),
    LLAMA: (llama.TAG,),
    MISTRAL: (mistral.OPEN,),
    MISTRAL_NAMED: (mistral.OPEN, mistral.ARGUMENTS_MARK),
}


@dataclass(frozen=True, slots=True)
class ToolFamily:
    """A form of calls. ``mark_ids`` has the marks that are single tokens.

    ``shows_special`` says that some of them are special tokens, which an answer's text usually leaves out.
    """

    name: str
    mark_ids: dict[str, int]
    shows_special: bool

    @property
    def tags(self) -> TagForm | None:
        """How arguments are told apart, where each stands between tags of its own."""
        return TAG_FORMS.get(self.name)

    def parser(self, tools: Mapping[str, Mapping[str, Any]]) -> ToolParser:
        """A new parser for one answer; ``tools`` are the parameters of those that were offered, by name."""
        if self.tags is not None:
            return TaggedParser(tools, self.tags)
        match self.name:
            case "hermes":
                return HermesParser(tools)
            case "llama":
                return LlamaParser(tools)
        return MistralParser(tools)


def tool_family_find(source: str, tokenizer: Tokenizer) -> ToolFamily | None:
    """The family whose form the template writes earlier calls in; None for a form that we do not know."""
    name = _name(source)
    if name is None:
        return None
    ids = {mark: tokenizer.token_to_id(mark) for mark in _MARKS[name]}
    known = {mark: number for mark, number in ids.items() if number is not None}
    added = tokenizer.get_added_tokens_decoder()
    special = any(number in added and added[number].special for number in known.values())
    return ToolFamily(name, known, special)


def _name(source: str) -> str | None:
    if mistral.OPEN in source:
        return MISTRAL_NAMED if mistral.ARGUMENTS_MARK in source else MISTRAL
    if hermes.OPEN in source:
        tagged = (name for name, form in TAG_FORMS.items() if (form.name[0] or form.key[0]) in source)
        return next(tagged, HERMES)
    if llama.TAG in source or "ipython" in source:
        return LLAMA
    return None
