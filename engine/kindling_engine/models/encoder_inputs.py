"""Several texts as one batch without padding, and how attention finds each of them in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Texts up to an eighth and a few tokens longer than the shortest of their group are padded to share its call.
_SLACK_TOKENS = 4
_SLACK_SHARE = 8


@dataclass(frozen=True, slots=True)
class TextGroup:
    """Texts of about the same length: tokens ``start`` to ``stop`` of the batch, ``count`` of at most ``length``.

    For texts of unequal length ``padded [count · length]`` says which of the group's tokens fills each place,
    ``kept [stop − start]`` is the way back, and ``mask [count, 1, 1, length]`` is additive. They are None when
    all are of one length.
    """

    start: int
    stop: int
    count: int
    length: int
    padded: Tensor | None
    kept: Tensor | None
    mask: Tensor | None


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Texts one behind the other, shortest first.

    ``tokens`` and ``positions [n]``; ``owners [n]`` is each token's text and ``lengths [texts]`` its size, both
    by place in the batch; ``order [texts]`` is the place that each text was given in.
    """

    tokens: Tensor
    positions: Tensor
    owners: Tensor
    lengths: Tensor
    groups: tuple[TextGroup, ...]
    order: list[int]


def text_batch_make(texts: Sequence[Sequence[int]], *, dtype: torch.dtype, device: torch.device) -> TextBatch:
    """Batch texts of at least one token each; ``dtype`` is that of the masks."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    lengths = np.array([len(texts[index]) for index in order])
    starts = np.concatenate(([0], np.cumsum(lengths)))
    owners = np.repeat(np.arange(len(order)), lengths)

    def tensor(values: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(values).to(device)

    return TextBatch(
        tokens=tensor(np.concatenate([np.asarray(texts[index], dtype=np.int64) for index in order])),
        positions=tensor(np.arange(starts[-1]) - starts[owners]),
        owners=tensor(owners),
        lengths=tensor(lengths),
        groups=tuple(
            _group(lengths[first:last], int(starts[first]), dtype=dtype, device=device)
            for first, last in _spans(lengths)
        ),
        order=order,
    )


def _spans(lengths: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Runs of texts that are close enough in length; ``lengths`` is ascending."""
    spans, first = [], 0
    while first < len(lengths):
        shortest = int(lengths[first])
        longest = shortest + _SLACK_TOKENS + shortest // _SLACK_SHARE
        last = int(np.searchsorted(lengths, longest, side="right"))
        spans.append((first, last))
        first = last
    return spans


def _group(lengths: NDArray[np.int64], start: int, *, dtype: torch.dtype, device: torch.device) -> TextGroup:
    count, length, total = len(lengths), int(lengths[-1]), int(lengths.sum())
    if lengths[0] == length:
        return TextGroup(start, start + total, count, length, None, None, None)
    places = np.arange(length)[None, :]
    real = places < lengths[:, None]
    firsts = np.concatenate(([0], np.cumsum(lengths)[:-1]))[:, None]
    # Padding repeats the text's first token: any finite value does, since the mask gives it no weight.
    padded = np.where(real, firsts + places, firsts)
    mask = torch.zeros((count, 1, 1, length), dtype=dtype)
    mask.masked_fill_(torch.from_numpy(~real)[:, None, None, :], float("-inf"))
    return TextGroup(
        start=start,
        stop=start + total,
        count=count,
        length=length,
        padded=torch.from_numpy(padded.reshape(-1)).to(device),
        kept=torch.from_numpy(np.flatnonzero(real)).to(device),
        mask=mask.to(device),
    )
