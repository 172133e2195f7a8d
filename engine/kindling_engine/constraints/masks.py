"""The masks of a batch: filled row by row into one table, applied to the logits in one operation."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kindling_engine.constraints.base import ConstraintError, TokenConstraint, mask_words

_NEVER = float("-inf")


class MaskTable:
    """Memory for the masks of a batch; grows with it."""

    def __init__(self, *, vocab_size: int, device: torch.device) -> None:
        self._vocab_size = vocab_size
        self._device = device
        self._table = np.zeros((0, mask_words(vocab_size)), dtype=np.int32)
        self._shifts = torch.arange(32, dtype=torch.int32, device=device)

    def fill(self, constraints: Sequence[TokenConstraint | None]) -> "BatchMask | None":
        """Ask every constraint for its mask; None when no row is restricted. A constraint that fails leaves its
        row free and its error in the result.
        """
        if not any(constraints):
            return None
        if len(constraints) > len(self._table):
            self._table = np.zeros((len(constraints), self._table.shape[1]), dtype=np.int32)
        rows: list[int] = []
        errors: dict[int, ConstraintError] = {}
        for index, constraint in enumerate(constraints):
            if constraint is None:
                continue
            try:
                if constraint.fill(self._table[len(rows)]):
                    rows.append(index)
            except ConstraintError as error:
                errors[index] = error
        if not rows:
            return BatchMask(None, None, errors)
        index_all = len(rows) == len(constraints)
        where = None if index_all else torch.tensor(rows, dtype=torch.int64, device=self._device)
        return BatchMask(self._blocked(self._table[: len(rows)]), where, errors)

    def _blocked(self, masks: np.ndarray) -> Tensor:
        """True for every token that is not allowed, ``[k, vocab]``."""
        if self._device.type == "cpu":
            bits = np.unpackbits((~masks).view(np.uint8), axis=1, count=self._vocab_size, bitorder="little")
            return torch.from_numpy(bits).view(torch.bool)
        words = torch.from_numpy(masks).to(self._device)
        allowed = ((words.unsqueeze(-1) >> self._shifts) & 1).flatten(1)
        return allowed[:, : self._vocab_size] == 0


class BatchMask:
    """What a batch may not draw. ``errors`` are the rows whose constraint failed."""

    def __init__(
        self, blocked: Tensor | None, rows: Tensor | None, errors: dict[int, ConstraintError]
    ) -> None:
        """``blocked [k, vocab]`` belongs to ``rows [k]``, None being all rows in order."""
        self._blocked = blocked
        self._rows = rows
        self.errors = errors

    def apply(self, logits: Tensor) -> None:
        """Put ``logits [m, vocab]`` of blocked tokens at −∞, in place."""
        if self._blocked is None:
            return
        if self._rows is None:
            logits.masked_fill_(self._blocked, _NEVER)
            return
        logits.index_copy_(
            0, self._rows, logits.index_select(0, self._rows).masked_fill_(self._blocked, _NEVER)
        )
