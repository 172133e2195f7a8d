"""What keys and values are kept as, and which numbers a cache in e4m3 stands for.

Scales come from the checkpoint where it has them. Otherwise they are found at the start: random tokens, always the
same, go through the model in full, and the greatest key and value of each layer and KV head, with room above, becomes
e4m3's greatest. A scale is a power of two then, so that dividing by it and multiplying by it lose nothing. What a text
or an adapter makes beyond the room is clamped (``layers.kv_narrow``).
"""

import logging

import numpy as np
import torch
from torch import Tensor

from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.layers.attention import AttentionInputs, PrefillRows
from kindling_engine.layers.attention_paged import PagedInputs, PagedPrefill
from kindling_engine.layers.kv_narrow import E4M3, LARGEST
from kindling_engine.models.base import StepInputs
from kindling_engine.models.decoder import Decoder
from kindling_engine.models.errors import ModelError
from kindling_engine.models.registry import FAMILIES
from kindling_engine.protocol.embedding_folder import ENCODERS
from kindling_engine.protocol.kv_dtypes import AUTO, FP8, KV_DTYPES
from kindling_engine.runner.transfer import upload

logger = logging.getLogger(__name__)

_CODE = "unsupported_kv_dtype"
_LEAST_CAPABILITY = (8, 9)
"""Of a GPU that has e4m3."""
_TOKENS = 256
_SEED = 1
_ROOM = 4.0
"""A float loses as little below its greatest number as at it, so that room costs digits of the least numbers alone."""


def kv_dtype_allow(name: str, architecture: str, device: torch.device) -> None:
    """Raise ModelError ``unsupported_kv_dtype`` where a cache cannot be of this kind; nothing has been loaded yet."""
    if name not in KV_DTYPES:
        raise ModelError(
            _CODE, f"Keys and values cannot be kept as {name!r}; there are {', '.join(KV_DTYPES)}."
        )
    if name == AUTO:
        return
    if architecture in ENCODERS:
        raise ModelError(_CODE, f"{architecture} keeps no keys and values; start without --kv-dtype {name}.")
    if architecture not in FAMILIES:
        raise ModelError(
            _CODE,
            f"{architecture} is served through transformers' own modules, whose keys and values are not kept as "
            f"{name}; start without --kv-dtype {name}.",
        )
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < _LEAST_CAPABILITY:
        raise ModelError(
            _CODE,
            f"Keys and values as {name} need a GPU of compute capability 8.9 or more, and "
            f"{torch.cuda.get_device_name(device)} is older; start without --kv-dtype {name}.",
        )


def kv_page_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """Of pages, for a model that computes in ``dtype``."""
    return E4M3 if name == FP8 else dtype


@torch.inference_mode()
def kv_scales_find(model: Decoder) -> Tensor:
    """Scales fp32 ``[layers, K or V, kv_heads]`` on the model's device: the checkpoint's, or found here.

    Whatever pages the model had are no longer its own. Raises ModelError ``unsupported_kv_dtype`` where keys or values
    are no numbers.
    """
    if model.kv_scales is not None:
        logger.info("scales of keys and values are the checkpoint's")
        return upload([model.kv_scales.numpy()], model.device)[0]
    layers = _filled(model).layers
    of_layers = [torch.stack([part.abs().amax(dim=(1, 2, 3)).float() for part in pair]) for pair in layers]
    greatest = torch.stack(of_layers).cpu().numpy()
    if not np.isfinite(greatest).all():
        raise ModelError(
            _CODE, "The model's keys or values are no finite numbers, so that they cannot be kept as fp8."
        )
    # Of 2ⁿ⁻¹ ≤ x < 2ⁿ the n. What is always zero may be divided by one.
    _, exponents = np.frexp(greatest * (_ROOM / LARGEST))
    scales = np.where(greatest > 0, np.ldexp(np.float32(1.0), exponents), np.float32(1.0))
    return upload([scales.astype(np.float32)], model.device)[0]


def _filled(model: Decoder) -> KvStorage:
    """Pages in the model's own dtype with keys and values of random tokens, and zeros."""
    config = model.config
    count = min(_TOKENS, config.context_length)
    width = -(-count // PAGE_SIZE)
    storage = KvStorage(
        num_layers=config.num_layers,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        num_blocks=1 + width,
        dtype=model.dtype,
        device=model.device,
    )
    model.bind(storage)
    tokens = np.random.default_rng(_SEED).integers(0, config.vocab_size, count)
    positions = np.arange(count)
    blocks = (1 + np.arange(width)) * storage.pages_per_block
    slots = blocks[positions // PAGE_SIZE] * PAGE_SIZE + positions % PAGE_SIZE
    # On a device that reads nothing of the host, the one request of the step is told so as well.
    numbers = [blocks, np.array([0]), np.array([0, count]), np.array([count])]
    sent = upload([tokens, positions, slots, *(one.astype(np.int32) for one in numbers)], model.device)
    paged = PagedInputs(
        slots=sent[2],
        tables=sent[3].unsqueeze(0),
        decode=None,
        prefill=PagedPrefill(sent[4], sent[5], sent[6], max_query=count),
        max_splits=1,
        workspace=None,
    )
    prefill = PrefillRows(0, count, 0, blocks, model.dtype, model.device)
    model.hidden(
        StepInputs(
            tokens=sent[0],
            positions=sent[1],
            attention=AttentionInputs(slots=sent[2], decode=None, prefills=(prefill,), paged=paged),
            logit_rows=None,
            lora=None,
            rotary_lengths=None if config.rotary_limit is None else torch.full_like(sent[1], count),
        )
    )
    return storage
