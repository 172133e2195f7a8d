"""Packing of documents into rows of equal length, with a weight for every token's loss."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from kindling_engine.starter.chat import END_OF_TEXT, IM_END, IM_START

_OPEN_BINS = 64


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Token ids (int64) and loss weights (float32), both of shape [rows, row_tokens]."""

    ids: NDArray[np.int64]
    weights: NDArray[np.float32]


def rows_pack(
    texts: Iterable[str], tokenizer: Tokenizer, *, row_tokens: int, weight_outside: float
) -> PackedRows:
    """Pack whole documents into rows; what does not fit into an empty row is left out.

    Tokens of assistant turns weigh 1, all others `weight_outside`; padding weighs nothing.
    """
    pad = tokenizer.token_to_id(END_OF_TEXT)
    bins: list[tuple[list[int], list[float]]] = []
    full: list[tuple[list[int], list[float]]] = []
    encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    for encoding in encodings:
        ids = encoding.ids
        if len(ids) > row_tokens:
            continue
        weights = _loss_weights(ids, tokenizer, weight_outside)
        for bin_ids, bin_weights in bins:
            if len(bin_ids) + len(ids) <= row_tokens:
                bin_ids.extend(ids)
                bin_weights.extend(weights)
                break
        else:
            bins.append((list(ids), weights))
            if len(bins) > _OPEN_BINS:
                full.append(bins.pop(max(range(len(bins)), key=lambda index: len(bins[index][0]))))
    rows = full + bins
    all_ids = np.full((len(rows), row_tokens), pad, dtype=np.int64)
    all_weights = np.zeros((len(rows), row_tokens), dtype=np.float32)
    for index, (row_ids, row_weights) in enumerate(rows):
        all_ids[index, : len(row_ids)] = row_ids
        all_weights[index, : len(row_weights)] = row_weights
    return PackedRows(all_ids, all_weights)


def rows_pad(texts: Iterable[str], tokenizer: Tokenizer, *, row_tokens: int) -> PackedRows:
    """Give every document a row of its own, cut to `row_tokens`; only assistant turns weigh in the loss."""
    encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    width = min(row_tokens, max(len(one.ids) for one in encodings))
    ids = np.full((len(encodings), width), tokenizer.token_to_id(END_OF_TEXT), dtype=np.int64)
    weights = np.zeros((len(encodings), width), dtype=np.float32)
    for index, encoding in enumerate(encodings):
        row = encoding.ids[:width]
        ids[index, : len(row)] = row
        weights[index, : len(row)] = _loss_weights(row, tokenizer, 0.0)
    return PackedRows(ids, weights)


def _loss_weights(ids: list[int], tokenizer: Tokenizer, weight_outside: float) -> list[float]:
    start, end = tokenizer.token_to_id(IM_START), tokenizer.token_to_id(IM_END)
    header = tokenizer.encode(f"{IM_START}assistant\n", add_special_tokens=False).ids
    weights = [weight_outside] * len(ids)
    inside = False
    for index, token in enumerate(ids):
        if token == start and ids[index : index + len(header)] == header:
            inside = True
        if inside and not (token == start or ids[index - 1] == start):
            weights[index] = 1.0
        if token == end:
            inside = False
    return weights
