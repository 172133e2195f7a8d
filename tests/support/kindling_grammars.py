"""Grammars over the starter model's vocabulary, followed by their masks alone."""

from functools import lru_cache

import numpy as np
from tokenizers import Tokenizer

from kindling_engine.constraints.base import TokenConstraint, mask_words
from kindling_engine.constraints.grammar import CompiledGrammar, GrammarCompiler
from kindling_engine.starter import SPARK_PATH

VOCAB = 2048
EOS = 0


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(SPARK_PATH / "tokenizer.json"))


@lru_cache(maxsize=1)
def compiler() -> GrammarCompiler:
    return GrammarCompiler(SPARK_PATH, vocab_size=VOCAB, eos_ids=[EOS])


def encode(text: str) -> list[int]:
    return tokenizer().encode(text, add_special_tokens=False).ids


def decode(ids: list[int]) -> str:
    return tokenizer().decode(ids, skip_special_tokens=True)


def allowed(constraint: TokenConstraint, vocab: int = VOCAB) -> set[int]:
    """Tokens that the mask allows; all of them when it is left alone."""
    mask = np.zeros(mask_words(vocab), dtype=np.int32)
    if not constraint.fill(mask):
        return set(range(vocab))
    return set(np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist())


def accepts(grammar: CompiledGrammar, text: str) -> bool:
    """Whether the mask allows every token of a text, and an end behind it."""
    constraint = grammar.start()
    for token in encode(text):
        if constraint.finished or token not in allowed(constraint):
            return False
        constraint.accept(token)
    return constraint.finished or EOS in allowed(constraint)


@lru_cache(maxsize=1)
def _weights() -> tuple[np.ndarray, np.ndarray]:
    texts = [tokenizer().decode([token], skip_special_tokens=False) for token in range(VOCAB)]
    closing = np.array([any(mark in text for mark in '"]},:') for text in texts])
    blank = np.array([not text.strip() for text in texts])
    return closing, blank


def random_text(grammar: CompiledGrammar, rng: np.random.Generator, *, max_tokens: int = 400) -> str | None:
    """A text drawn from the masks, with a bent towards an end; None when there is none in time."""
    closing, blank = _weights()
    constraint, ids = grammar.start(), []
    while not constraint.finished:
        if len(ids) == max_tokens:
            return None
        tokens = np.array(sorted(allowed(constraint)))
        weights = np.where(closing[tokens], 8.0 if len(ids) < 60 else 400.0, 1.0) * np.where(
            blank[tokens], 0.05, 1.0
        )
        weights[tokens == EOS] = 50.0
        token = int(rng.choice(tokens, p=weights / weights.sum()))
        constraint.accept(token)
        ids.append(token)
    return decode([token for token in ids if token != EOS])
