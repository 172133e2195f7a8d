"""Tokenizer and chat template: the text and token ids that a model gets here, against transformers'."""

from pathlib import Path
from typing import Any

from kindling_engine.server.errors import ApiError
from kindling_engine.server.messages import messages_read
from kindling_engine.server.model_text import ModelText
from kindling_engine.verify.result import Check
from kindling_engine.verify.texts import CONVERSATIONS, TEXTS


def tokenizer_load(folder: Path) -> Any:
    """transformers' tokenizer of the folder; no code of the checkpoint runs."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def tokens_check(ours: ModelText, theirs: Any) -> Check:
    """Equal ids for every text, with and without special tokens, and equal text back."""
    for special in (True, False):
        for text in TEXTS:
            wanted = theirs(text, add_special_tokens=special)["input_ids"]
            got = ours.tokenizer.encode(text, add_special_tokens=special).ids
            if list(got) != list(wanted):
                return Check("tokens", False, f"{text[:40]!r} becomes other tokens than in transformers")
            back = theirs.decode(wanted, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            if ours.decode(wanted) != back:
                return Check("tokens", False, f"the tokens of {text[:40]!r} become another text")
    return Check("tokens", True, f"{len(TEXTS)} texts, both ways", {"texts": len(TEXTS)})


def template_check(ours: ModelText, theirs: Any) -> Check:
    """Equal prompts for every conversation; what one side's template refuses, the other's must refuse, too."""
    if ours.templates is None:
        passed = not getattr(theirs, "chat_template", None)
        said = "no chat template" if passed else "transformers finds a chat template, we find none"
        return Check("template", passed, said)
    template = ours.templates.pick(tools=False)
    compared = 0
    for conversation in CONVERSATIONS:
        try:
            wanted = theirs.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        except Exception:  # a template may refuse a role in any way it likes
            wanted = None
        try:
            got = template.render(messages_read([dict(message) for message in conversation]))
        except ApiError:
            got = None
        if wanted != got:
            return Check(
                "template", False, f"a conversation of {len(conversation)} messages becomes another text"
            )
        compared += wanted is not None
    return Check("template", compared > 0, f"{compared} conversations", {"conversations": compared})
