"""Which form a model writes its tool calls in, found out from its chat template."""

from collections.abc import Collection
from dataclasses import dataclass

from tokenizers import Tokenizer

from kindling_engine.server.tools import hermes, llama, mistral
from kindling_engine.server.tools.hermes import HermesParser
from kindling_engine.server.tools.llama import LlamaParser
from kindling_engine.server.tools.mistral import MistralParser
from kindling_engine.server.tools.parser import ToolParser

HERMES, LLAMA, MISTRAL, MISTRAL_NAMED = "hermes", "llama", "mistral", "mistral-named"
_MARKS = {
    HERMES: (hermes.OPEN, hermes.CLOSE),
    LLAMA: (llama.TAG,),
    MISTRAL: (mistral.OPEN,),
    MISTRAL_NAMED: (mistral.OPEN, mistral.ARGUMENTS_MARK),
}
# Forms that share a mark with one of ours and are XML inside.
_FOREIGN = ("<function=", "<arg_key>")


@dataclass(frozen=True, slots=True)
class ToolFamily:
    """A form of calls. ``mark_ids`` has the marks that are single tokens.

    ``shows_special`` says that some of them are special tokens, which an answer's text usually leaves out.
    """

    name: str
    mark_ids: dict[str, int]
    shows_special: bool

    def parser(self, names: Collection[str]) -> ToolParser:
        """A new parser for one answer; ``names`` are those of the tools that were offered."""
        match self.name:
            case "hermes":
                return HermesParser(names)
            case "llama":
                return LlamaParser(names)
        return MistralParser(names)


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
        return None if any(mark in source for mark in _FOREIGN) else HERMES
    if llama.TAG in source or "ipython" in source:
        return LLAMA
    return None
