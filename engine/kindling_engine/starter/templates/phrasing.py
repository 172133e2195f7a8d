"""Small helpers that vary how a person types, and the shape every template returns."""

import random
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One training example: chat messages in OpenAI's shape, with the tools the model may call."""

    messages: list[Message]
    tools: list[dict[str, Any]] = field(default_factory=list)


def dialogue_from(user: str, assistant: str) -> Dialogue:
    return Dialogue([{"role": "user", "content": user}, {"role": "assistant", "content": assistant}])


def typed_by_hand(rng: random.Random, text: str) -> str:
    """Change `text` as hurried people do: lower case, a lost full stop, a please."""
    if rng.random() < 0.25:
        text = text[0].lower() + text[1:]
    if rng.random() < 0.25 and text[-1] in ".?!":
        text = text[:-1]
    elif text[-1] == "." and rng.random() < 0.1:
        text = text[:-1] + ", please."
    return text


def article(noun: str) -> str:
    return ("an " if noun[0].lower() in "aeiou" else "a ") + noun


def sentence_case(text: str) -> str:
    return text[0].upper() + text[1:]
