"""llguidance, imported on first use, and what one grammar may cost there."""

from functools import lru_cache
from typing import Any


def matcher() -> Any:
    """The library's matcher class, imported on first use."""
    from llguidance import LLMatcher

    return LLMatcher


@lru_cache(maxsize=1)
def byte_tokenizer() -> Any:
    """A vocabulary of single bytes, for checks that need one and not a particular one."""
    from llguidance import LLTokenizer

    return LLTokenizer("byte")


@lru_cache(maxsize=1)
def limits() -> Any:
    """Bounds on what one grammar may cost: about 20 ms for the first lexer, 10 ms for a mask."""
    from llguidance import LLParserLimits

    return LLParserLimits(
        initial_lexer_fuel=1_000_000,
        step_lexer_fuel=150_000,
        step_max_items=50_000,
        max_lexer_states=50_000,
        max_grammar_size=200_000,
        verbose_errors=False,
    )
