"""The marks of OpenAI's harmony format, in which GPT-OSS answers: control tokens around the parts of messages.

``<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…<|return|>`` behind a prompt that
ends with ``<|start|>assistant``. Thoughts are on ``analysis``, the answer on ``final``, and a call is a message
``to=functions.name``.
"""

from dataclasses import dataclass

from tokenizers import Tokenizer

# In an answer's text each mark is half of a surrogate pair, which no tokenizer's text holds. A model that writes about
# marks does it in letters, and is not misread.
START, CHANNEL, CONSTRAIN, MESSAGE, END, RETURN, CALL = map(chr, range(0xD800, 0xD807))
MARKS = START + CHANNEL + CONSTRAIN + MESSAGE + END + RETURN + CALL
# Behind these comes a header, which is no text.
HEADER_MARKS = START + CHANNEL
_NEEDED = {"<|start|>": START, "<|channel|>": CHANNEL, "<|message|>": MESSAGE, "<|end|>": END}
_OTHERS = {"<|constrain|>": CONSTRAIN, "<|return|>": RETURN, "<|call|>": CALL}
_WRITTEN = ("<|start|>assistant", "<|channel|>", "<|message|>")


@dataclass(frozen=True, slots=True)
class Harmony:
    """The marks of one model: ``marks`` by token, ``ids`` the other way round."""

    marks: dict[int, str]
    ids: dict[str, int]

    @property
    def end_ids(self) -> frozenset[int]:
        """The tokens that end an answer."""
        return frozenset(self.ids[mark] for mark in (RETURN, CALL) if mark in self.ids)


def harmony_find(source: str, tokenizer: Tokenizer) -> Harmony | None:
    """The marks of a model whose template writes messages in this format; None for another, or without the tokens."""
    if not all(mark in source for mark in _WRITTEN):
        return None
    found = {mark: tokenizer.token_to_id(text) for text, mark in {**_NEEDED, **_OTHERS}.items()}
    ids = {mark: number for mark, number in found.items() if number is not None}
    if not all(mark in ids for mark in _NEEDED.values()):
        return None
    return Harmony({number: mark for mark, number in ids.items()}, ids)
