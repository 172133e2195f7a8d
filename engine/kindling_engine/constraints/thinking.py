"""A bound on reasoning in tokens, and a constraint on the answer that does not bind the reasoning."""

from collections.abc import Sequence

from kindling_engine.constraints.base import ForeseeableConstraint, Mask, TokenConstraint, mask_add, mask_make

UNBOUNDED = -1


class ThinkingConstraint:
    """Reasoning up to ``end_ids``, then the answer, to which ``answer`` applies.

    At most ``budget`` tokens of reasoning come before the end sequence; then it is forced, token by token, from
    where the tokens so far have already begun it. Unless ``is_open``, reasoning begins only if the first tokens
    are ``start_ids``; anything else is the answer at once. Where an answer is constrained, a text cannot end
    inside its reasoning.
    """

    def __init__(
        self,
        *,
        start_ids: Sequence[int],
        end_ids: Sequence[int],
        budget: int,
        is_open: bool,
        vocab_size: int,
        eos_ids: Sequence[int] = (),
        answer: TokenConstraint | None = None,
    ) -> None:
        """Raises ValueError without an end sequence, or for tokens that the model does not have."""
        if not end_ids or not all(0 <= token < vocab_size for token in (*start_ids, *end_ids)):
            raise ValueError("thinking needs an end sequence, and tokens that the model has.")
        if budget < UNBOUNDED:
            raise ValueError("thinking's budget must be −1, for none, or a number of tokens.")
        self._start = tuple(start_ids)
        self._end = tuple(end_ids)
        self._fallback = _borders(self._end)
        self._budget = budget
        self._answer = answer
        self._barred = frozenset[int]() if answer is None else frozenset(eos_ids)
        self._all = mask_make(vocab_size, without=() if answer is None else eos_ids)
        self._made = 0
        """Tokens since the start sequence, those of a begun end sequence among them."""
        self._matched = 0
        """How many tokens of the start or the end sequence stand last."""
        self._phase = "reasoning" if is_open else ("start" if self._start else "answer")

    @property
    def finished(self) -> bool:
        return self._phase == "answer" and self._answer is not None and self._answer.finished

    @property
    def reasoning(self) -> bool:
        """Whether the next token is not the answer's yet."""
        return self._phase == "reasoning"

    def fill(self, mask: Mask) -> bool:
        """See TokenConstraint."""
        if self._phase == "answer":
            return self._answer is not None and self._answer.fill(mask)
        if self._phase == "start":
            return self._fill_start(mask)
        if self._spent:
            _only(mask, self._end[self._matched])
            return True
        if self._answer is None:
            return False
        mask[:] = self._all
        return True

    def accept(self, token: int) -> None:
        """See TokenConstraint."""
        if self._phase == "answer":
            if self._answer is not None:
                self._answer.accept(token)
        elif self._phase == "start":
            self._accept_start(token)
        else:
            self._made += 1
            self._matched = self._advance(token)
            if self._matched == len(self._end):
                self._phase = "answer"

    def forced(self) -> tuple[int, ...]:
        """See ForeseeableConstraint: what closes reasoning that has used up its budget, too."""
        if self._phase == "answer":
            return self._answer.forced() if isinstance(self._answer, ForeseeableConstraint) else ()
        return self._end[self._matched :] if self._phase == "reasoning" and self._spent else ()

    def allowed(self, tokens: Sequence[int]) -> int:
        """See ForeseeableConstraint: up to the end of the reasoning, or of the answer, at once."""
        if self._phase == "answer" and self._answer is not None:
            return self._answer.allowed(tokens) if isinstance(self._answer, ForeseeableConstraint) else 0
        if self._phase != "reasoning":
            return len(tokens) if self._phase == "answer" else 0
        before, passed = (self._made, self._matched), 0
        for token in tokens:
            closes = token == self._end[self._matched]
            if token in self._barred or (self._spent and not closes):
                break
            self.accept(token)
            passed += 1
            if self._phase == "answer":
                break
        (self._made, self._matched), self._phase = before, "reasoning"
        return passed

    def fill_behind(self, tokens: Sequence[int], mask: Mask) -> bool:
        """See ForeseeableConstraint."""
        if self._phase == "answer":
            return isinstance(self._answer, ForeseeableConstraint) and self._answer.fill_behind(tokens, mask)
        before = self._phase, self._made, self._matched
        for token in tokens:
            self.accept(token)
        try:
            return self.fill(mask)
        finally:
            self._phase, self._made, self._matched = before

    @property
    def _spent(self) -> bool:
        return self._budget != UNBOUNDED and self._made >= self._budget

    def _fill_start(self, mask: Mask) -> bool:
        if self._answer is None:
            return False
        if self._matched:
            # The tokens so far would not have been allowed in the answer.
            _only(mask, self._start[self._matched])
        else:
            self._answer.fill(mask)
            mask_add(mask, self._start[0])
        return True

    def _accept_start(self, token: int) -> None:
        if token == self._start[self._matched]:
            self._matched += 1
            if self._matched == len(self._start):
                self._phase, self._matched = "reasoning", 0
            return
        self._phase = "answer"
        if self._answer is not None:
            self._answer.accept(token)

    def _advance(self, token: int) -> int:
        """Length of the longest beginning of the end sequence that the tokens end with (Knuth, Morris, Pratt)."""
        matched = self._matched
        while matched and self._end[matched] != token:
            matched = self._fallback[matched - 1]
        return matched + (self._end[matched] == token)


def _borders(sequence: tuple[int, ...]) -> list[int]:
    """For every beginning of a sequence, the longest shorter beginning that it ends with."""
    found = [0] * len(sequence)
    for index in range(1, len(sequence)):
        length = found[index - 1]
        while length and sequence[length] != sequence[index]:
            length = found[length - 1]
        found[index] = length + (sequence[length] == sequence[index])
    return found


def _only(mask: Mask, token: int) -> None:
    mask[:] = 0
    mask_add(mask, token)
