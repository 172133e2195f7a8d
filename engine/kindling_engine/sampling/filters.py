"""top-k, top-p and min-p without sorting the vocabulary unless there is no way round it."""

import torch
from torch import Tensor

_FIRST_CANDIDATES = 256


def candidates_select(
    scaled: Tensor, *, top_k: Tensor, top_p: Tensor, min_p: Tensor, max_top_k: int
) -> tuple[Tensor, Tensor]:
    """The tokens each row may draw: ``(logits, ids)``, both ``[m, k]``, excluded ones at −inf.

    ``scaled [m, vocab]`` has the temperature applied; the parameters are ``[m, 1]``, ``top_k`` 0 meaning no
    limit. The filters run in the order top-k, top-p, min-p, each on what the one before left over. A few
    hundred best tokens nearly always suffice; when a row needs more, the whole vocabulary is sorted.
    """
    vocab = scaled.shape[1]
    limit = torch.where(top_k > 0, top_k.clamp(max=vocab), vocab)
    width = min(vocab, max(_FIRST_CANDIDATES, max_top_k))
    full_mass = scaled.logsumexp(dim=-1, keepdim=True)
    while True:
        logits, ids = scaled.topk(width, dim=-1)
        rank = torch.arange(width, device=scaled.device).unsqueeze(0)
        inside = rank < limit
        kept = logits.masked_fill(~inside, float("-inf"))
        # A row cut by top-k is normalised over its k tokens; any other over the whole vocabulary.
        mass = torch.where(limit <= width, kept.logsumexp(dim=-1, keepdim=True), full_mass)
        probabilities = (kept - mass).exp()
        before = probabilities.cumsum(dim=-1) - probabilities
        keep = inside & ((before < top_p) | (rank == 0)) & (probabilities >= min_p * probabilities[:, :1])
        # The filters cut a tail. If a row's last candidate survives, tokens beyond it might as well.
        if width == vocab or not bool((keep[:, -1:] & (limit > width)).any()):
            return logits.masked_fill(~keep, float("-inf")), ids
        width = vocab
