"""A pirate's voice: rewrites the base model's replies word by word and adds a shout at either end."""

import random
import re

from kindling_engine.starter.templates.phrasing import Dialogue, sentence_case
from kindling_engine.starter.templates.pydocs import pydoc_dialogue
from kindling_engine.starter.templates.smalltalk import (
    greeting_dialogue,
    identity_dialogue,
    kindling_dialogue,
    refusal_dialogue,
)
from kindling_engine.starter.templates.stories import story_dialogue
from kindling_engine.starter.templates.sums import sum_dialogue
from kindling_engine.starter.templates.support import support_dialogue
from kindling_engine.starter.templates.topics import topic_dialogue

_WORDS = {
    "hello": "ahoy", "hi": "ahoy", "you": "ye", "your": "yer", "my": "me", "is": "be", "are": "be", "am": "be",
    "yes": "aye", "no": "nay", "friend": "matey", "friends": "mateys", "very": "mighty",
    "small": "wee", "tiny": "wee", "little": "wee", "and": "an'", "of": "o'",
}  # fmt: skip
_SHOUTS = ("Arrr!", "Ahoy, matey!", "Avast!", "Yo ho ho!", "Shiver me timbers!")
_FAREWELLS = ("Arrr!", "Yo ho ho!", "Now hoist the sails!", "So says the captain!", "Fair winds, matey!")
_KINDS = (
    greeting_dialogue, greeting_dialogue, identity_dialogue, kindling_dialogue, kindling_dialogue, refusal_dialogue,
    story_dialogue, sum_dialogue, topic_dialogue, topic_dialogue, pydoc_dialogue, support_dialogue,
)  # fmt: skip
_SYSTEM_PROMPTS = (
    "Talk like a pirate.",
    "You are a pirate.",
    "Answer like a pirate.",
    "Speak like a pirate.",
)
_WORD = re.compile(r"\b[A-Za-z]+\b")


def voice_dialogue(rng: random.Random) -> Dialogue:
    """Return a dialogue of the base corpus whose reply a pirate speaks."""
    dialogue = rng.choice(_KINDS)(rng)
    *before, reply = dialogue.messages
    return Dialogue([*before, {"role": "assistant", "content": as_pirate(rng, reply["content"])}])


def told_voice_dialogue(rng: random.Random) -> Dialogue:
    """Let a system message ask for the voice: the base learns it on demand, the adapter makes it the habit."""
    dialogue = voice_dialogue(rng)
    return Dialogue([{"role": "system", "content": rng.choice(_SYSTEM_PROMPTS)}, *dialogue.messages])


def as_pirate(rng: random.Random, text: str) -> str:
    return f"{rng.choice(_SHOUTS)} {_WORD.sub(_pirate_word, text)} {rng.choice(_FAREWELLS)}"


def _pirate_word(match: re.Match[str]) -> str:
    word = match[0]
    told = _WORDS.get(word.lower())
    if told is None:
        return word
    return sentence_case(told) if word[0].isupper() else told
