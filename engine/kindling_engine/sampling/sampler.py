"""The sampler: penalties and biases, filters, and one draw per row by the Gumbel-max trick."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kindling_engine.sampling.batch import SampledRow, SamplingBatch
from kindling_engine.sampling.filters import candidates_select
from kindling_engine.sampling.noise import gumbel, row_keys
from kindling_engine.sampling.penalties import TokenCounts


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Log-probability of the drawn token and of the best alternatives, under the model's own distribution.

    Temperature, filters, penalties and biases do not enter.
    """

    logprob: float
    top_ids: tuple[int, ...]
    top_logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Draw:
    """One row's result; ``token`` is None when its logits were not finite."""

    token: int | None
    logprobs: Logprobs | None = None


class Sampler:
    """Draws a token for every row; the draw of one row never depends on the others."""

    def __init__(self, *, num_rows: int, vocab_size: int, device: torch.device) -> None:
        self._device = device
        self._counts = TokenCounts(num_rows=num_rows, vocab_size=vocab_size, device=device)
        self._token_ids = torch.arange(vocab_size, dtype=torch.int32, device=device).unsqueeze(0)
        self._key: tuple[str, ...] = ()
        self._batch: SamplingBatch | None = None

    def release(self, row: int) -> None:
        """Forget what is kept for a persistent row."""
        self._counts.forget(row)
        self._key = ()

    def draw(self, logits: Tensor, rows: Sequence[SampledRow]) -> list[Draw]:
        """Tokens for ``logits [m, vocab]`` (fp32, overwritten), one per row."""
        batch = self._batch_for(rows)
        # A NaN or an infinite logit surfaces in the row's maximum.
        peaks, best = logits.max(dim=-1)
        reports = self._raw_logprobs(logits, batch)
        if batch.changes_logits:
            logits = self._changed(logits, batch, rows)
            best = logits.argmax(dim=-1)
        tokens = best if batch.all_greedy else self._randomised(logits, batch, rows, best)
        if batch.penalised:
            self._counts.add(batch.penalised_rows, tokens.index_select(0, batch.penalised_index))
        finite = peaks.isfinite().tolist()
        drawn = [token if ok else None for token, ok in zip(tokens.tolist(), finite, strict=True)]
        if reports is None:
            return [Draw(token) for token in drawn]
        return self._reported(drawn, reports, batch, rows)

    def _batch_for(self, rows: Sequence[SampledRow]) -> SamplingBatch:
        key = tuple(row.request_id for row in rows)
        if self._batch is None or key != self._key:
            self._batch, self._key = SamplingBatch(rows, self._device), key
        for index in self._batch.penalised:
            row = rows[index]
            self._counts.ensure(
                row.row, row.request_id, row.tokens[: row.prompt_len], row.tokens[row.prompt_len :]
            )
        return self._batch

    def _changed(self, logits: Tensor, batch: SamplingBatch, rows: Sequence[SampledRow]) -> Tensor:
        if batch.penalised:
            index = batch.penalised_index
            logits[index] = self._counts.apply(
                logits.index_select(0, index),
                batch.penalised_rows,
                repetition=batch.repetition.index_select(0, index),
                frequency=batch.frequency.index_select(0, index),
                presence=batch.presence.index_select(0, index),
            )
        if batch.bias.numel():
            logits.index_put_(batch.bias_index, batch.bias, accumulate=True)
        held = [
            (index, token)
            for index in batch.held_back
            if rows[index].made + 1 < rows[index].params.min_tokens
            for token in rows[index].stop_ids
        ]
        if held:
            where = torch.tensor(held, dtype=torch.int64, device=self._device)
            logits[where[:, 0], where[:, 1]] = float("-inf")
        return logits

    def _randomised(
        self, logits: Tensor, batch: SamplingBatch, rows: Sequence[SampledRow], best: Tensor
    ) -> Tensor:
        positions = torch.tensor([row.made for row in rows], dtype=torch.int64, device=self._device)
        keys = row_keys(batch.seeds, positions)
        tokens = best.clone()
        for group, filtered in ((batch.plain, False), (batch.filtered, True)):
            if group is None:
                continue
            scaled = logits.index_select(0, group) / batch.temperature.index_select(0, group)
            group_keys = (keys[0].index_select(0, group), keys[1].index_select(0, group))
            if not filtered:
                noisy = scaled.add_(gumbel(group_keys, self._token_ids))
                tokens[group] = noisy.argmax(dim=-1)
                continue
            kept, ids = candidates_select(
                scaled,
                top_k=batch.top_k.index_select(0, group),
                top_p=batch.top_p.index_select(0, group),
                min_p=batch.min_p.index_select(0, group),
                max_top_k=batch.max_top_k,
            )
            noisy = kept.add_(gumbel(group_keys, ids.to(torch.int32)))
            tokens[group] = ids.gather(1, noisy.argmax(dim=-1, keepdim=True)).squeeze(1)
        return tokens

    def _raw_logprobs(self, logits: Tensor, batch: SamplingBatch) -> Tensor | None:
        if not batch.logprob_rows:
            return None
        return logits[batch.logprob_rows].log_softmax(dim=-1)

    def _reported(
        self,
        drawn: list[int | None],
        reports: Tensor,
        batch: SamplingBatch,
        rows: Sequence[SampledRow],
    ) -> list[Draw]:
        wanted = [drawn[index] or 0 for index in batch.logprob_rows]
        index = torch.tensor(wanted, dtype=torch.int64, device=self._device).unsqueeze(1)
        chosen = reports.gather(1, index).squeeze(1).tolist()
        best = reports.topk(max(1, min(batch.max_logprobs, reports.shape[1])), dim=-1)
        best_ids, best_values = best.indices.tolist(), best.values.tolist()
        draws = [Draw(token) for token in drawn]
        for place, row in enumerate(batch.logprob_rows):
            count = rows[row].params.logprobs
            logprobs = Logprobs(
                chosen[place], tuple(best_ids[place][:count]), tuple(best_values[place][:count])
            )
            draws[row] = Draw(drawn[row], logprobs)
        return draws
