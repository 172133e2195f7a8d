"""The last look before a transformers model is served: its logits in the engine's steps against its own.

A model may look sound and still depend on something that only its own attention does, or that its cache forgets. So two
short sequences run in chunks, side by side, and must give what transformers gives for each of them in one pass.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.layers.attention_rows import AttentionInputs, DecodeRows, PrefillRows
from kindling_engine.models.base import Model, SequenceRows, StepInputs
from kindling_engine.models.errors import ModelError
from kindling_engine.models.transformers_backend_attention import attention_use
from kindling_engine.models.transformers_backend_config import padding_id_read
from kindling_engine.models.transformers_backend_trunk import faults_named

_LENGTHS = (23, 9)
# Rounding differs between the two ways; in half precision it piles up over the layers of a large model.
_TOLERANCE = {torch.float32: 1e-3}
_TOLERANCE_HALF = 0.1

# (sequence, first position, position behind the last) of each row of three steps.
_STEPS = (((0, 0, 13),), ((0, 13, 22), (1, 0, 8)), ((0, 22, 23), (1, 8, 9)))


@torch.inference_mode()
def parity_check(model: Model, causal: Any) -> None:
    """Raises ModelError ``unsupported_model`` when the logits differ, or cannot be had."""
    texts = [_tokens(length, model.config.vocab_size, seed) for seed, length in enumerate(_LENGTHS)]
    # By itself a model may give padding no position; in a prompt it is a token like others.
    padding = padding_id_read(causal.config)
    texts = [torch.where(text == padding, (padding + 1) % model.config.vocab_size, text) for text in texts]
    try:
        with faults_named(model.config.architecture, "a pass over text"):
            ours = _paged_logits(model, texts)
            expected = _own_logits(model, causal, texts)
    finally:
        for row in range(len(texts)):
            model.release(row)
    for seen, wanted in zip(ours, expected, strict=True):
        _compare(model, seen, wanted)


def _own_logits(model: Model, causal: Any, texts: list[Tensor]) -> list[Tensor]:
    """Each text alone, with transformers' own attention."""
    before = causal.config._attn_implementation
    attention_use(causal, "eager")
    try:
        return [
            causal(input_ids=text.to(model.device)[None], use_cache=False).logits[0].float() for text in texts
        ]
    finally:
        attention_use(causal, before)


def _compare(model: Model, ours: Tensor, expected: Tensor) -> None:
    difference = ours - expected
    if model.dtype in _TOLERANCE:
        error, bound = difference.abs().max() / expected.abs().max(), _TOLERANCE[model.dtype]
    else:
        centred = expected - expected.mean(dim=-1, keepdim=True)
        error, bound = difference.norm() / centred.norm(), _TOLERANCE_HALF
    # A NaN is no match either.
    if not bool(error <= bound):
        raise ModelError(
            "unsupported_model",
            f"{model.config.architecture} is not served: in steps its logits differ from those of one pass of "
            f"transformers by {float(error):.1e} (at most {bound:.0e} is allowed).",
        )


def _tokens(length: int, vocab_size: int, seed: int) -> Tensor:
    return torch.tensor([(11 + 7919 * seed + 104729 * index) % vocab_size for index in range(length)])


def _paged_logits(model: Model, texts: list[Tensor]) -> list[Tensor]:
    config = model.config
    widths = [-(-len(text) // PAGE_SIZE) for text in texts]
    storage = KvStorage(
        num_layers=config.num_layers_kv,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        num_blocks=1 + sum(widths),
        dtype=model.dtype,
        device=model.device,
    )
    model.bind(storage)
    blocks = np.zeros((len(texts), max(widths)), dtype=np.int64)
    first = 1
    for row, width in enumerate(widths):
        blocks[row, :width] = np.arange(first, first + width) * storage.pages_per_block
        first += width
    seen: list[list[Tensor]] = [[] for _ in texts]
    for rows in _STEPS:
        logits = model.forward(_step_inputs(model, texts, blocks, rows))
        parts = logits.split_with_sizes([stop - start for _, start, stop in rows])
        for (sequence, _, _), part in zip(rows, parts, strict=True):
            seen[sequence].append(part)
    return [torch.cat(parts) for parts in seen]


def _step_inputs(
    model: Model, texts: list[Tensor], blocks: np.ndarray[Any, Any], rows: tuple[tuple[int, int, int], ...]
) -> StepInputs:
    device, dtype = model.device, model.dtype
    positions = [np.arange(start, stop) for _, start, stop in rows]
    slots = [
        blocks[sequence, where // PAGE_SIZE] * PAGE_SIZE + where % PAGE_SIZE
        for (sequence, _, _), where in zip(rows, positions, strict=True)
    ]
    decode, prefills, at = None, [], 0
    if all(stop - start == 1 for _, start, stop in rows):
        lengths = np.array([stop for _, _, stop in rows])
        decode = DecodeRows(blocks[[sequence for sequence, _, _ in rows]], lengths, dtype, device)
    else:
        for sequence, start, stop in rows:
            prefills.append(PrefillRows(at, at + stop - start, start, blocks[sequence], dtype, device))
            at += stop - start
    lengths_before = np.cumsum([0, *(len(where) for where in positions)]).tolist()
    return StepInputs(
        tokens=torch.cat([texts[sequence][start:stop] for sequence, start, stop in rows]).to(device),
        positions=torch.from_numpy(np.concatenate(positions)).to(device),
        attention=AttentionInputs(
            torch.from_numpy(np.concatenate(slots)).to(device), decode, tuple(prefills)
        ),
        logit_rows=None,
        lora=None,
        sequences=tuple(
            SequenceRows(sequence, first, first + stop - start, start)
            for (sequence, start, stop), first in zip(rows, lengths_before, strict=False)
        ),
    )
