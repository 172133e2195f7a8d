"""How much a harmony model is to think: its prompt says it in one of three words."""

from collections.abc import Collection
from dataclasses import replace

from kindling_engine.server.reasoning_fields import EFFORTS, ReasoningAsk

_VARIABLE = "reasoning_effort"
_WORDS = ("low", "medium", "high")


def harmony_effort(ask: ReasoningAsk, names: Collection[str]) -> ReasoningAsk:
    """The same in the words of a template that reads ``names``. The model keeps to a word by itself, so it sets no
    bound; a number does, and is told as the nearest word.
    """
    if _VARIABLE not in names or (ask.budget < 0 and not ask.effort):
        return ask
    word = next((one for one in _WORDS if 0 <= ask.budget <= EFFORTS[one]), _WORDS[-1])
    return replace(ask, effort=word, budget=-1 if ask.effort and ask.budget else ask.budget)
