"""The sampler: penalties and biases, filters, and one draw per row by the Gumbel-max trick."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kindling_engine.constraints.base import ConstraintError
from kindling_engine.constraints.masks import MaskTable
from kindling_engine.runner.transfer import Arrival, download
from kindling_engine.sampling.batch import SampledRow, SamplingBatch
from kindling_engine.sampling.filters import Candidates, candidates_select
from kindling_engine.sampling.logprobs import LogprobReport, Logprobs, table_make
from kindling_engine.sampling.noise import gumbel, row_keys
from kindling_engine.sampling.penalties import TokenCounts

__all__ = ["Draw", "Logprobs", "Sampler"]

# Lower than any logit, and still finite: where a constraint leaves nothing but stop tokens, they are drawn.
_HELD_BACK = -1e30
NO_TOKEN = -1


@dataclass(frozen=True, slots=True)
class Draw:
    """One row's result; ``token`` is None when its logits were not finite.

    ``error`` is set when the row's constraint could not be kept; the token means nothing then.
    """

    token: int | None
    logprobs: Logprobs | None = None
    error: ConstraintError | None = None


@dataclass(frozen=True, slots=True)
class LaunchedDraws:
    """Draws that a device may still be making.

    ``tokens [m]`` stay there; ``found [m]`` are on their way to the host, NO_TOKEN for a row whose logits were not
    finite, and so is the ``report`` on the rows ``reported``.
    """

    tokens: Tensor
    found: Tensor
    report: LogprobReport | None
    reported: list[int]
    errors: dict[int, ConstraintError]

    def draws(self) -> list[Draw]:
        """Once they have arrived: one per row."""
        draws = [Draw(None if token == NO_TOKEN else token) for token in self.found.tolist()]
        if self.report is not None:
            for index, one in zip(self.reported, self.report.read(), strict=True):
                draws[index] = Draw(draws[index].token, one)
        for index, error in self.errors.items():
            draws[index] = Draw(draws[index].token, error=error)
        return draws


class Sampler:
    """Draws a token for every row; the draw of one row never depends on the others.

    Order: penalties, biases, stop tokens held back, constraints, temperature, top-k, top-p, min-p, typical-p, noise.
    A row that is drawn in consecutive calls with an unchanged batch is taken to have one more token each time; any
    change of the batch reads the rows anew, and so does every batch that draws for several places of a row.
    """

    def __init__(
        self, *, num_rows: int, vocab_size: int, device: torch.device, row_by_row: bool = False
    ) -> None:
        """``row_by_row``: not even the order of a sum depends on the other rows."""
        self._device = device
        self._row_by_row = row_by_row
        self._counts = TokenCounts(num_rows=num_rows, vocab_size=vocab_size, device=device)
        self._masks = MaskTable(vocab_size=vocab_size, device=device)
        self._token_ids = torch.arange(vocab_size, dtype=torch.int32, device=device).unsqueeze(0)
        self._key: tuple[str, ...] = ()
        self._batch: SamplingBatch | None = None

    def release(self, row: int) -> None:
        """Forget what is kept for a persistent row."""
        self._counts.forget(row)
        self._batch = None

    def draw(self, logits: Tensor, rows: Sequence[SampledRow]) -> list[Draw]:
        """Tokens for ``logits [m, vocab]`` (fp32, overwritten), one per row."""
        launched = self.launch(logits, rows)
        Arrival(self._device).wait()
        return launched.draws()

    def launch(self, logits: Tensor, rows: Sequence[SampledRow]) -> "LaunchedDraws":
        """As ``draw``, without waiting for the device."""
        batch = self._batch_for(rows)
        mask = self._masks.fill([row.constraint for row in rows])
        # A NaN or an infinite logit surfaces in the row's maximum.
        peaks, best = best_find(logits)
        table = table_make(logits, batch.reported_index, row_by_row=self._row_by_row)
        if batch.changes_logits:
            logits = self._changed(logits, batch)
        if mask is not None:
            mask.apply(logits)
        if batch.changes_logits or mask is not None:
            _, best = best_find(logits)
        tokens = best if batch.all_greedy else self._randomised(logits, batch, best)
        if batch.penalised is not None:
            self._counts.add(
                batch.rows.index_select(0, batch.penalised), tokens.index_select(0, batch.penalised)
            )
        batch.made += 1
        report = None
        if table is not None and batch.reported_index is not None:
            report = table.report(tokens.index_select(0, batch.reported_index), batch.report_counts)
        return LaunchedDraws(
            tokens=tokens,
            found=_found(peaks, tokens),
            report=report,
            reported=batch.reported,
            errors={} if mask is None else mask.errors,
        )

    def _batch_for(self, rows: Sequence[SampledRow]) -> SamplingBatch:
        key = tuple([row.request_id for row in rows])
        if self._batch is None or key != self._key or len(set(key)) < len(key):
            self._batch, self._key = SamplingBatch(rows, self._device), key
            for row in rows:
                if row.params.has_penalties:
                    self._counts.ensure(row.row, row.request_id, row.tokens, row.prompt_len)
        return self._batch

    def _changed(self, logits: Tensor, batch: SamplingBatch) -> Tensor:
        if batch.penalised is not None:
            index = batch.penalised
            logits[index] = self._counts.apply(
                logits.index_select(0, index),
                batch.rows.index_select(0, index),
                repetition=batch.repetition.index_select(0, index),
                frequency=batch.frequency.index_select(0, index),
                presence=batch.presence.index_select(0, index),
            )
        if batch.bias.numel():
            logits.index_put_(batch.bias_index, batch.bias, accumulate=True)
        if batch.held_until.numel():
            early = batch.made[batch.held_index[0]] < batch.held_until
            logits[batch.held_index] = logits[batch.held_index].masked_fill(early, _HELD_BACK)
        return logits

    def _randomised(self, logits: Tensor, batch: SamplingBatch, best: Tensor) -> Tensor:
        first, second = row_keys(batch.seeds, batch.made)
        tokens = best.clone()
        if (group := batch.plain) is not None:
            keys = first.index_select(0, group), second.index_select(0, group)
            scaled = logits.index_select(0, group) / batch.temperature.index_select(0, group)
            tokens[group] = scaled.add_(gumbel(keys, self._token_ids)).argmax(dim=-1)
        if (group := batch.filtered) is not None:
            keys = first.index_select(0, group), second.index_select(0, group)
            scaled = logits.index_select(0, group) / batch.temperature.index_select(0, group)
            tokens[group] = _filtered(scaled, batch, keys, row_by_row=self._row_by_row)
        return tokens


def best_find(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The highest logit in each row of ``[m, vocab]``, not finite if any is NaN or +∞, and its token."""
    # A NaN counts as the highest for either.
    if logits.device.type == "cpu":
        # torch's own takes twenty times as long on one thread.
        rows = logits.numpy()
        highest = rows.argmax(axis=1)
        return torch.from_numpy(rows[np.arange(len(rows)), highest]), torch.from_numpy(highest)
    best = logits.argmax(dim=-1)
    return logits.gather(1, best[:, None])[:, 0], best


def _found(peaks: Tensor, tokens: Tensor) -> Tensor:
    """``tokens [m]`` on their way to the host, NO_TOKEN where a row's maximum is not finite."""
    if tokens.device.type == "cpu":
        return torch.from_numpy(np.where(np.isfinite(peaks.numpy()), tokens.numpy(), NO_TOKEN))
    return download(torch.where(peaks.isfinite(), tokens, NO_TOKEN))


def _filtered(
    scaled: Tensor, batch: SamplingBatch, keys: tuple[Tensor, Tensor], *, row_by_row: bool
) -> Tensor:
    """Draw among the best few; the rows for which those do not settle it, among the whole vocabulary.

    Which rows those are is known on a CPU. A device would have to be waited for, so there all rows look at everything.
    """
    if scaled.device.type != "cpu":
        return _drawn(candidates_select(scaled, batch.filters, width=scaled.shape[1]), keys)
    found = candidates_select(scaled, batch.filters, row_by_row=row_by_row)
    tokens = _drawn(found, keys)
    open_rows = (~found.complete).nonzero().squeeze(1)
    if open_rows.numel():
        wide = candidates_select(
            scaled.index_select(0, open_rows),
            batch.filters.select(open_rows),
            width=scaled.shape[1],
            row_by_row=row_by_row,
        )
        tokens[open_rows] = _drawn(
            wide, (keys[0].index_select(0, open_rows), keys[1].index_select(0, open_rows))
        )
    return tokens


def _drawn(found: Candidates, keys: tuple[Tensor, Tensor]) -> Tensor:
    noisy = found.logits + gumbel(keys, found.ids.to(torch.int32))
    return found.ids.gather(1, noisy.argmax(dim=-1, keepdim=True)).squeeze(1)
