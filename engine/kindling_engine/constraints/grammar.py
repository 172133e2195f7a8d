"""Grammars over tokens, by llguidance: compiled once per text, followed by each request on its own."""

import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kindling_engine.constraints.base import ConstraintError, Mask, mask_make, mask_words
from kindling_engine.constraints.grammar_text import grammar_text
from kindling_engine.constraints.library import limits, matcher
from kindling_engine.constraints.tokenizer import grammar_tokenizer_load

DEAD_END = "constraint_dead_end"
# Observed sizes of compiled grammars lie around it, whatever their text.
_BASE_BYTES = 100_000
_BYTES_PER_CHAR = 100
_TOKENS_BY_ID = re.compile(r"<\[([^<>\s]*)\]>")


class GrammarCompiler:
    """Compiles for one model; may be called from any thread. The tokenizer is read on first use."""

    def __init__(self, folder: Path, *, vocab_size: int, eos_ids: Sequence[int]) -> None:
        self._folder = folder
        self._vocab_size = vocab_size
        self._eos_ids = tuple(eos_ids)
        self._tokenizer: Any = None
        self._lock = threading.Lock()

    def compile(self, kind: str, text: str) -> "CompiledGrammar":
        """Raises ConstraintError: ``invalid_schema``, ``unsupported_schema`` or ``constraint_unavailable``."""
        built = grammar_text(kind, text)
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = grammar_tokenizer_load(
                    self._folder, vocab_size=self._vocab_size, eos_ids=self._eos_ids
                )
        return CompiledGrammar(
            built, self._tokenizer, vocab_size=self._vocab_size, eos_ids=self._eos_ids, text_chars=len(text)
        )


class _WornError(Exception):
    """The library gives no mask any more."""


class CompiledGrammar:
    """A grammar for one vocabulary. ``size_bytes`` is an estimate."""

    def __init__(
        self, built: str, tokenizer: Any, *, vocab_size: int, eos_ids: Sequence[int], text_chars: int = 0
    ) -> None:
        self._built, self._tokenizer = built, tokenizer
        self._generation = 0
        self._matcher = self._compile()
        if self._matcher.is_error():
            raise ConstraintError("invalid_schema", f"The grammar is not valid: {_first_line(self._matcher)}")
        self._vocab_size = vocab_size
        self._words = mask_words(int(tokenizer.vocab_size))
        self._eos_ids = frozenset(eos_ids)
        self.size_bytes = _BASE_BYTES + _BYTES_PER_CHAR * text_chars
        # Builds what the first mask needs here rather than in a step, and finds a grammar that cannot begin.
        first = np.zeros(mask_words(vocab_size), dtype=np.int32)
        self._foreseeable = False
        try:
            self.start().fill(first)
        except ConstraintError as error:
            raise ConstraintError(
                "invalid_schema", f"No text can match the grammar. {error.message}"
            ) from None
        self._foreseeable = _knows_way_back(built, tokenizer) and self._goes_back(first)

    def start(self, *, ends: bool = True) -> "GrammarConstraint":
        """A fresh text of this grammar. Without ``ends`` no end token is offered while anything else is."""
        return GrammarConstraint(
            self._matcher.deep_copy(),
            renew=self.renew,
            generation=self._generation,
            vocab_size=self._vocab_size,
            words=self._words,
            eos_ids=self._eos_ids,
            ends=ends,
            foreseeable=self._foreseeable,
        )

    def renew(self, generation: int) -> tuple[Any, int]:
        """A matcher at the beginning, and its generation, for a text whose own, of ``generation``, gives nothing more.

        What texts have met adds up in the library, whose copies share it, up to a bound; behind that they all fail, and
        the grammar is compiled anew, once for all of them.
        """
        if generation == self._generation:
            self._matcher = self._compile()
            self._generation += 1
        return self._matcher.deep_copy(), self._generation

    def _compile(self) -> Any:
        return matcher()(self._tokenizer, self._built, log_level=0, limits=limits())

    def _goes_back(self, first: Mask) -> bool:
        """Whether the library takes a token of the ``first`` mask back: it refuses where lexemes have ``max_tokens`` or
        ``stop``, and is of no use any more once it was asked.
        """
        tokens = np.flatnonzero(np.unpackbits(first.view(np.uint8), bitorder="little"))
        token = next((one for one in tokens.tolist() if one not in self._eos_ids), None)
        matcher = self._matcher.deep_copy()
        return token is not None and bool(matcher.consume_token(token) and matcher.rollback(1))


class GrammarConstraint:
    """One request's way through a grammar."""

    def __init__(
        self,
        matcher: Any,
        *,
        renew: Callable[[int], tuple[Any, int]],
        generation: int,
        vocab_size: int,
        words: int,
        eos_ids: frozenset[int],
        ends: bool,
        foreseeable: bool,
    ) -> None:
        """``words`` is the length of a mask in the library, which may know more tokens than the model. ``foreseeable``:
        places ahead can be looked at by going there and back; without it nothing is told of them. ``renew`` is
        ``CompiledGrammar.renew``.
        """
        self._matcher = matcher
        self._renew = renew
        self._generation = generation
        self._taken: list[int] = []
        self._foreseeable = foreseeable
        self._words = words
        self._eos_ids = eos_ids
        self._known = mask_make(vocab_size)
        self._wanted = self._known if ends else mask_make(vocab_size, without=eos_ids)
        self._finished = self._is_dead = False

    @property
    def finished(self) -> bool:
        return self._finished

    def fill(self, mask: Mask) -> bool:
        """See TokenConstraint; always restricts."""
        return self._twice(lambda: self._filled(mask))

    def accept(self, token: int) -> None:
        """See TokenConstraint."""
        if self._finished:
            return
        if not self._matcher.consume_token(token):
            self._again()
            if not self._matcher.consume_token(token):
                raise self._dead_end("The grammar does not allow the token drawn")
        self._taken.append(token)
        self._finished = token in self._eos_ids or self._matcher.is_stopped()

    def forced(self) -> tuple[int, ...]:
        """See ForeseeableConstraint."""
        return tuple(self._matcher.compute_ff_tokens()) if self._foreseeable and not self._finished else ()

    def allowed(self, tokens: Sequence[int]) -> int:
        """See ForeseeableConstraint. Raises ConstraintError where it cannot go back."""
        if not self._foreseeable:
            return 0
        passed = 0
        for token in tokens:
            if token in self._eos_ids or not self._matcher.try_consume_tokens([token]):
                break
            passed += 1
            if self._matcher.is_stopped():
                self._back(1)
                passed -= 1
                break
        if self._matcher.is_error():
            self._again()
            return 0
        self._back(passed)
        return passed

    def fill_behind(self, tokens: Sequence[int], mask: Mask) -> bool:
        """See ForeseeableConstraint."""
        return self._twice(lambda: self._filled_behind(tokens, mask))

    def _twice(self, fill: Callable[[], bool]) -> bool:
        """With a matcher anew where the library gave out, which may be other texts' doing."""
        try:
            return fill()
        except _WornError:
            self._again()
        try:
            return fill()
        except _WornError:
            raise self._dead_end("The grammar cannot go on") from None

    def _again(self) -> None:
        """Walk to the same place with a matcher that no other text has worn out. Raises ConstraintError."""
        if self._is_dead:
            raise self._dead_end("The grammar cannot go on")
        self._matcher, self._generation = self._renew(self._generation)
        if not all(map(self._matcher.consume_token, self._taken)):
            raise self._dead_end("The grammar cannot go on")

    def _dead_end(self, what: str) -> ConstraintError:
        self._is_dead = True
        return ConstraintError(DEAD_END, f"{what}: {_first_line(self._matcher)}")

    def _filled_behind(self, tokens: Sequence[int], mask: Mask) -> bool:
        passed = self._matcher.try_consume_tokens(list(tokens))
        if self._matcher.is_error():
            raise _WornError
        try:
            if passed < len(tokens):
                raise ConstraintError(DEAD_END, "The grammar does not allow a token that was guessed.")
            return self._filled(mask)
        finally:
            if not self._matcher.is_error():
                self._back(passed)

    def _filled(self, mask: Mask) -> bool:
        if self._fill(mask, self._wanted) or (
            self._wanted is not self._known and self._fill(mask, self._known)
        ):
            return True
        # Not even an end is left.
        raise ConstraintError(DEAD_END, "No token of this model can continue the text as the grammar asks.")

    def _back(self, tokens: int) -> None:
        """Raises ConstraintError where the library does not go back; it gives no masks any more then."""
        if not self._matcher.rollback(tokens):
            raise self._dead_end("The grammar cannot go back")

    def _fill(self, mask: Mask, among: Mask) -> bool:
        """Whether any of those tokens is left."""
        raw = mask if self._words == mask.size else np.zeros(self._words, dtype=np.int32)
        self._matcher.unsafe_compute_mask_ptr(raw.ctypes.data, raw.nbytes)
        if self._matcher.is_error():
            raise _WornError
        np.bitwise_and(raw[: mask.size], among, out=mask)
        return bool(mask.any())


def _knows_way_back(built: str, tokenizer: Any) -> bool:
    """Whether every token that a Lark text names by its id is a special one. The library takes back as many bytes as a
    token has, but a token of the text that was named has as many as its name.
    """
    ids = [one for found in _TOKENS_BY_ID.findall(built) for one in found.split(",") if one]
    return all(
        re.fullmatch("[0-9]{1,9}", one)
        and int(one) < tokenizer.vocab_size
        and tokenizer.is_special_token(int(one))
        for one in ids
    )


def _first_line(matcher: Any) -> str:
    lines = str(matcher.get_error()).strip().splitlines()
    return lines[0][:300] if lines else str(matcher.stop_reason())
