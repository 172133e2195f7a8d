"""The synthetic corpus: about 30,000 seeded dialogues and some plain documentation text.

Sources: templates written for this project (Apache-2.0) and the docstrings of the running Python's standard
library (PSF licence). The docstrings differ between Python versions, and so does the corpus.
"""

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator

from kindling_engine.starter.chat import END_OF_TEXT, chat_render
from kindling_engine.starter.templates.extraction import extraction_dialogue
from kindling_engine.starter.templates.phrasing import Dialogue
from kindling_engine.starter.templates.pydocs import pydoc_dialogue, pydoc_passage
from kindling_engine.starter.templates.smalltalk import (
    SYSTEM_PROMPTS,
    greeting_dialogue,
    identity_dialogue,
    kindling_dialogue,
    refusal_dialogue,
    unknown_topic_dialogue,
)
from kindling_engine.starter.templates.stories import story_dialogue
from kindling_engine.starter.templates.sums import sum_dialogue
from kindling_engine.starter.templates.support import labelled_dialogue, support_dialogue
from kindling_engine.starter.templates.toolcalls import toolcall_dialogue
from kindling_engine.starter.templates.topics import topic_dialogue
from kindling_engine.starter.templates.voice import told_voice_dialogue

DOCUMENTS = 30_000

MIX: dict[Callable[[random.Random], Dialogue], float] = {
    story_dialogue: 0.14,
    extraction_dialogue: 0.26,
    toolcall_dialogue: 0.15,
    sum_dialogue: 0.20,
    topic_dialogue: 0.09,
    pydoc_dialogue: 0.08,
    greeting_dialogue: 0.045,
    identity_dialogue: 0.035,
    kindling_dialogue: 0.04,
    support_dialogue: 0.03,
    labelled_dialogue: 0.06,
    told_voice_dialogue: 0.04,
    refusal_dialogue: 0.02,
    unknown_topic_dialogue: 0.01,
}
_SHARE_OF_PASSAGES = 0.02
_CHANCE_OF_SECOND_TURN = 0.2


def corpus_documents(seed: int = 0, count: int = DOCUMENTS) -> Iterator[str]:
    """Yield `count` documents: rendered chats and some plain passages, each closed by its end mark."""
    rng = random.Random(seed)
    kinds, weights = list(MIX), list(MIX.values())
    for _ in range(count):
        if rng.random() < _SHARE_OF_PASSAGES:
            yield pydoc_passage(rng) + END_OF_TEXT
            continue
        dialogue = rng.choices(kinds, weights)[0](rng)
        if not dialogue.tools and dialogue.messages[0]["role"] != "system":
            dialogue = _with_context(rng, dialogue, kinds, weights)
        yield chat_render(dialogue.messages, tools=dialogue.tools) + END_OF_TEXT


def corpus_hash(documents: Iterable[str]) -> str:
    """Return the SHA-256 of a corpus, which is the same for the same seed and Python version."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(document.encode())
    return digest.hexdigest()


def _with_context(
    rng: random.Random,
    dialogue: Dialogue,
    kinds: list[Callable[[random.Random], Dialogue]],
    weights: list[float],
) -> Dialogue:
    """Add a system message or an earlier turn, as a chat in a console has them."""
    messages = dialogue.messages
    while rng.random() < _CHANCE_OF_SECOND_TURN:
        earlier = rng.choices(kinds, weights)[0](rng)
        if not earlier.tools and earlier.messages[0]["role"] != "system":
            messages = earlier.messages + messages
    if rng.random() < 0.2:
        messages = [{"role": "system", "content": rng.choice(SYSTEM_PROMPTS)}, *messages]
    return Dialogue(messages)


if __name__ == "__main__":
    for text in corpus_documents(seed=1, count=20):
        print(text)
    print(corpus_hash(corpus_documents()))
