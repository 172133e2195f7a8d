"""A Llama checkpoint as a GGUF file, the form that llama.cpp reads; all weights stay fp32.

The layout is that of the GGUF specification, version 3: header, key-value pairs, tensor descriptions, and the tensors,
each at a multiple of 32 bytes.
"""

import struct
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kindling_engine.bench.stored import Floats, StoredCheckpoint

Metadata = Mapping[str, bool | int | float | str | list[str] | list[int]]

_ALIGNMENT = 32
_VERSION = 3
_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_TENSOR_F32 = 0
_FILE_ALL_F32 = 0
_NORMAL_TOKEN, _CONTROL_TOKEN = 1, 3
_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OTHER_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_convert(folder: Path, path: Path) -> None:
    """Write the Llama checkpoint in ``folder`` to ``path``; raises ValueError for weights that are not fp32."""
    checkpoint = StoredCheckpoint(folder)
    tensors = {tensor_name(name): _rotated(name, checkpoint) for name in checkpoint}
    with path.open("wb") as file:
        gguf_write(file, _metadata(checkpoint.config), tensors)


def gguf_write(file: BinaryIO, metadata: Metadata, tensors: Mapping[str, Floats]) -> None:
    """Write a whole file; the format lists a tensor's sizes with the fastest first."""
    file.write(b"GGUF" + struct.pack("<IQQ", _VERSION, len(tensors), len(metadata)))
    for key, value in metadata.items():
        file.write(_string(key) + _typed(value))
    offset = 0
    for name, tensor in tensors.items():
        sizes = tensor.shape[::-1]
        file.write(_string(name) + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes))
        file.write(struct.pack("<IQ", _TENSOR_F32, offset))
        offset += tensor.nbytes + -tensor.nbytes % _ALIGNMENT
    file.write(bytes(-file.tell() % _ALIGNMENT))
    for tensor in tensors.values():
        file.write(np.ascontiguousarray(tensor, dtype="<f4").data)
        file.write(bytes(-tensor.nbytes % _ALIGNMENT))


def tensor_name(name: str) -> str:
    """What a GGUF file calls a tensor of a checkpoint; raises KeyError for an unknown one."""
    stem = name.removesuffix(".weight")
    if stem.startswith("model.layers."):
        index, part = stem.removeprefix("model.layers.").split(".", 1)
        return f"blk.{index}.{_LAYER_NAMES[part]}.weight"
    return f"{_OTHER_NAMES[stem]}.weight"


def rope_rows(weight: Floats, heads: int) -> Floats:
    """Rows of a q or k projection ``[heads · d, n]`` in the order in which llama.cpp rotates them.

    A checkpoint pairs row i of a head with row i + d/2; llama.cpp pairs neighbours, 2i with 2i + 1.
    """
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def _rotated(name: str, checkpoint: StoredCheckpoint) -> Floats:
    weight = checkpoint[name]
    if name.endswith("q_proj.weight"):
        return rope_rows(weight, checkpoint.config["num_attention_heads"])
    if name.endswith("k_proj.weight"):
        return rope_rows(weight, checkpoint.config["num_key_value_heads"])
    return weight


def _metadata(config: Mapping[str, Any]) -> Metadata:
    heads = config["num_attention_heads"]
    vocabulary = list(_vocabulary(config["vocab_size"]))
    controls = {config["bos_token_id"], config["eos_token_id"]}
    return {
        "general.architecture": "llama",
        "general.file_type": _FILE_ALL_F32,
        "llama.block_count": config["num_hidden_layers"],
        "llama.context_length": config["max_position_embeddings"],
        "llama.embedding_length": config["hidden_size"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        "llama.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "llama.rope.dimension_count": config["hidden_size"] // heads,
        "llama.rope.freq_base": float(config["rope_theta"]),
        "llama.vocab_size": config["vocab_size"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": vocabulary,
        "tokenizer.ggml.token_type": [
            _CONTROL_TOKEN if index in controls else _NORMAL_TOKEN for index in range(len(vocabulary))
        ],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": config["bos_token_id"],
        "tokenizer.ggml.eos_token_id": config["eos_token_id"],
        "tokenizer.ggml.add_bos_token": False,
    }


def _vocabulary(size: int) -> Iterator[str]:
    """Words that no text is made of: prompts are token ids, but a file without a vocabulary serves nobody."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    # GPT-2's printable stand-ins for all 256 bytes; a loader expects them.
    known = ["<unk>", "<s>", "</s>", *map(chr, plain), *map(chr, range(256, 512 - len(plain))), "ab"]
    yield from known[:size]
    yield from (f"w{index}" for index in range(len(known), size))


def _typed(value: bool | int | float | str | list[str] | list[int]) -> bytes:
    match value:
        case bool():
            return struct.pack("<IB", _BOOL, value)
        case int():
            return struct.pack("<II", _U32, value)
        case float():
            return struct.pack("<If", _F32, value)
        case str():
            return struct.pack("<I", _STRING) + _string(value)
    out = BytesIO()
    out.write(struct.pack("<IIQ", _ARRAY, _STRING if isinstance(value[0], str) else _I32, len(value)))
    for item in value:
        out.write(_string(item) if isinstance(item, str) else struct.pack("<i", item))
    return out.getvalue()


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded
