"""From the hidden states of a text's tokens to one vector."""

import torch
from torch import Tensor

from kindling_engine.models.encoder_inputs import TextBatch

POOLINGS = ("cls", "mean", "lasttoken")


def pool(hidden: Tensor, batch: TextBatch, pooling: str) -> Tensor:
    """Vectors ``[texts, hidden]`` in fp32, in the order the texts were given, of ``hidden [n, hidden]``.

    ``cls`` takes a text's first token, ``lasttoken`` its last, ``mean`` averages over all of them.
    """
    ends = batch.lengths.cumsum(0)
    if pooling == "cls":
        pooled = hidden.index_select(0, ends - batch.lengths).float()
    elif pooling == "lasttoken":
        pooled = hidden.index_select(0, ends - 1).float()
    elif pooling == "mean":
        sums = hidden.new_zeros((len(batch.order), hidden.shape[1]), dtype=torch.float32)
        pooled = sums.index_add_(0, batch.owners, hidden.float()) / batch.lengths[:, None]
    else:
        raise ValueError(f"no pooling is called {pooling!r}")
    given = torch.empty_like(pooled)
    given[torch.tensor(batch.order, device=pooled.device)] = pooled
    return given
