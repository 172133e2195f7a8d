"""The starter's tokenizer with other templates and marks, so that a fake core can speak for other model families."""

from tokenizers import AddedToken, Tokenizer

from kindling_engine.server.chat_template import ChatTemplate
from kindling_engine.server.model_text import ModelText
from kindling_engine.server.template_files import ChatTemplates
from kindling_engine.starter import SPARK_PATH

TOKENS = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}


def family_text(source: str, *, marks: tuple[str, ...] = (), special: bool = False) -> ModelText:
    """Tokenizer and template of a made-up model whose ``marks`` are single tokens."""
    tokenizer = Tokenizer.from_file(str(SPARK_PATH / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken(mark, special=special, normalized=False) for mark in marks])
    return ModelText(tokenizer, ChatTemplates(ChatTemplate(source, TOKENS)))
