"""What executes the steps of an embedding model, in place of the runner that draws tokens."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kindling_engine.embeddings.pooling import pool
from kindling_engine.embeddings.ticket import ticket_of
from kindling_engine.models.encoder import Encoder
from kindling_engine.models.encoder_inputs import text_batch_make
from kindling_engine.runner.runner import ModelRunner
from kindling_engine.sampling.sampler import Draw
from kindling_engine.scheduler.plan import ScheduledRow, StepPlan

# Stands for a result where the scheduler expects a token; it is neither counted nor shown.
_DONE = 0


class EncoderRunner:
    """Runs whole texts through an encoder; there is no KV to keep."""

    def __init__(self, model: Encoder) -> None:
        self._model = model

    @torch.inference_mode()
    def execute(self, plan: StepPlan) -> list[Draw]:
        """One draw per row: a token stands for a finite vector, None for one that is not."""
        model = self._model
        texts = [row.request.tokens for row in plan.rows]
        batch = text_batch_make(texts, dtype=model.dtype, device=model.device)
        return _handed_out(plan.rows, pool(model.hidden(batch), batch, model.config.pooling))

    def recover(self, plan: StepPlan) -> None:
        """Nothing is kept between steps, so that every text is fit to run again."""


class DecoderEmbeddingRunner(ModelRunner):
    """Runs texts through a decoder over paged KV; the last token's hidden state is the text's vector."""

    @torch.inference_mode()
    def execute(self, plan: StepPlan) -> list[Draw]:
        """One draw per row whose text ends in this step, as ``EncoderRunner.execute`` gives them."""
        self._prepare(plan)
        hidden = self._model.hidden(self._builder.build(plan.rows))
        return _handed_out([row for row in plan.rows if row.samples], hidden)


def _handed_out(rows: Sequence[ScheduledRow], vectors: Tensor) -> list[Draw]:
    host = vectors.float().cpu()
    finite = host.isfinite().all(dim=1).tolist()
    for row, vector in zip(rows, host.numpy(), strict=True):
        # A copy: a view would keep the whole step's array for as long as its slowest reader.
        ticket_of(row.request).vector = vector.copy()
    return [Draw(_DONE if ok else None) for ok in finite]
