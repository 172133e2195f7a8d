"""The face that sampler and core see of a constraint, whatever stands behind it."""

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.int32]


class ConstraintError(Exception):
    """A constraint that cannot be kept; ``code`` is stable, the message is for the client."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class TokenConstraint(Protocol):
    """What one request's next token may be; it moves on by one accepted token at a time.

    It belongs to the request, not to its seat in a batch, so a preempted request goes on where it was.
    """

    @property
    def finished(self) -> bool:
        """Whether nothing but an end token may follow."""

    def fill(self, mask: Mask) -> bool:
        """Write the allowed tokens into a row ``[ceil(vocab / 32)]``, token t as bit t % 32 of word t // 32.

        False leaves the row as it was: every token is allowed. Raises ConstraintError ``constraint_dead_end``
        when no token is left.
        """

    def accept(self, token: int) -> None:
        """Move on by a committed token. Raises ConstraintError when the constraint does not allow it."""


@runtime_checkable
class ForeseeableConstraint(TokenConstraint, Protocol):
    """One that can tell of places behind tokens that are not accepted yet; none of it moves it on."""

    def forced(self) -> tuple[int, ...]:
        """Tokens, as a text is usually cut, of what has to come next whatever is drawn; none where that is open."""

    def allowed(self, tokens: Sequence[int]) -> int:
        """How many of ``tokens`` may come one after another without ending the text."""

    def fill_behind(self, tokens: Sequence[int], mask: Mask) -> bool:
        """As ``fill``, for the place behind ``tokens``, which are allowed."""


class Behind:
    """A constraint at the place behind tokens that are not accepted yet; the sampler asks for its mask alone."""

    __slots__ = ("_constraint", "_tokens")

    finished = False

    def __init__(self, constraint: ForeseeableConstraint, tokens: Sequence[int]) -> None:
        self._constraint, self._tokens = constraint, tokens

    def fill(self, mask: Mask) -> bool:
        """See TokenConstraint."""
        return self._constraint.fill_behind(self._tokens, mask)

    def accept(self, token: int) -> None:
        """Raises RuntimeError: the constraint itself is what moves on."""
        raise RuntimeError(f"token {token} was given to a place that is not reached yet")


def mask_words(vocab_size: int) -> int:
    """Length of a mask row."""
    return (vocab_size + 31) // 32


def mask_make(vocab_size: int, *, without: Iterable[int] = ()) -> Mask:
    """A row that allows every token but those."""
    mask = np.zeros(mask_words(vocab_size), dtype=np.uint32)
    mask[: vocab_size // 32] = 0xFFFFFFFF
    if vocab_size % 32:
        mask[-1] = (1 << (vocab_size % 32)) - 1
    for token in without:
        mask[token // 32] &= ~np.uint32(1 << (token % 32))
    return mask.view(np.int32)


def mask_add(mask: Mask, token: int) -> None:
    """Allow one more token."""
    mask.view(np.uint32)[token // 32] |= np.uint32(1 << (token % 32))
