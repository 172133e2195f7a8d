"""Which of a model's tokens are control tokens: those that only the chat template may write."""

import re

from tokenizers import Tokenizer

from kindling_engine.server.chat_family import ChatFamilies
from kindling_engine.server.template_files import ChatTemplates

# Added tokens that are words, blanks or punctuation mark nothing, and cutting them would change how texts are read.
_LETTER, _SIGN = re.compile(r"[^\W\d_]"), re.compile(r"[^\w\s]")
# Tags that people write on purpose, into system prompts and examples.
_TAG = re.compile(r"</?[a-z][a-z0-9_.:-]*>")
_TAG_SUBJECTS = ("answer", "arg", "call", "func", "invoke", "param", "reason", "think", "thought", "tool")
_ROLES = ("system", "developer", "user", "assistant")


def control_tokens_find(
    tokenizer: Tokenizer, templates: ChatTemplates | None, families: ChatFamilies | None
) -> frozenset[str]:
    """The special tokens, and those that the templates write though the tokenizer does not call them special.

    Left out are the marks of tools and reasoning that messages may hold.
    """
    both = (templates.default, templates.tool_use) if templates else ()
    source = "\n".join(one.source for one in both if one)
    kept: set[str] = set()
    tool_marks: set[str] = set()
    for family in (families.plain, families.with_tools) if families else ():
        # Templates look for the marks of reasoning in earlier answers.
        kept |= {family.reasoning.start, family.reasoning.end} if family.reasoning else set()
        tool_marks |= set(family.tools.mark_ids) if family.tools else set()
    added = tokenizer.get_added_tokens_decoder().values()
    special = {token.content for token in added if token.special}
    other = {token.content for token in added if not token.special} - tool_marks
    return frozenset((special | {one for one in other if _is_marker(one, source)}) - kept)


def _is_marker(token: str, source: str) -> bool:
    """Whether a token that is not called special marks who speaks, or where a turn begins or ends."""
    if not (_LETTER.search(token) and _SIGN.search(token)):
        return False
    if _TAG.fullmatch(token) and any(subject in token for subject in _TAG_SUBJECTS):
        return False
    # Some templates put their marks together from a role's name.
    return token in source or re.sub(r"[\W\d_]", "", token).lower() in _ROLES
