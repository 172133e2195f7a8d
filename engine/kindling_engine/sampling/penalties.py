"""Repetition, frequency and presence penalties over per-row token counts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kindling_engine.runner.transfer import upload_one


class TokenCounts:
    """Which tokens each row's prompt holds and how often each was generated; memory is taken on first use."""

    def __init__(self, *, num_rows: int, vocab_size: int, device: torch.device) -> None:
        self._shape = (num_rows, vocab_size)
        self._device = device
        self._made: Tensor | None = None
        self._in_prompt: Tensor | None = None
        self._owner: dict[int, str] = {}

    def ensure(self, row: int, request_id: str, tokens: Sequence[int], prompt_len: int) -> None:
        """Count a request's tokens when it first appears in a row."""
        if self._owner.get(row) == request_id:
            return
        prompt, output = tokens[:prompt_len], tokens[prompt_len:]
        made, in_prompt = self._tables()
        made[row].zero_()
        in_prompt[row].zero_()
        in_prompt[row, self._index(prompt)] = True
        if output:
            index = self._index(output)
            made[row].index_add_(0, index, torch.ones_like(index, dtype=torch.int32))
        self._owner[row] = request_id

    def forget(self, row: int) -> None:
        self._owner.pop(row, None)

    def add(self, rows: Tensor, tokens: Tensor) -> None:
        """Count one drawn token per row."""
        made, _ = self._tables()
        made[rows, tokens] += 1

    def apply(
        self, logits: Tensor, rows: Tensor, *, repetition: Tensor, frequency: Tensor, presence: Tensor
    ) -> Tensor:
        """Penalise ``logits [m, vocab]``; parameters are ``[m, 1]``.

        Repetition (Keskar et al., 2019) divides positive and multiplies negative logits of tokens seen in
        prompt or output; frequency and presence subtract, as OpenAI defines them, for generated tokens only.
        """
        made, in_prompt = self._tables()
        counts = made.index_select(0, rows)
        seen = in_prompt.index_select(0, rows) | (counts > 0)
        repeated = torch.where(logits > 0, logits / repetition, logits * repetition)
        logits = torch.where(seen, repeated, logits)
        return logits - frequency * counts - presence * (counts > 0)

    def _tables(self) -> tuple[Tensor, Tensor]:
        if self._made is None or self._in_prompt is None:
            self._made = torch.zeros(self._shape, dtype=torch.int32, device=self._device)
            self._in_prompt = torch.zeros(self._shape, dtype=torch.bool, device=self._device)
        return self._made, self._in_prompt

    def _index(self, tokens: Sequence[int]) -> Tensor:
        return upload_one(tokens, torch.int64, self._device)
