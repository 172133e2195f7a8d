"""Every module that holds kernels, for what concerns them all: compiling ahead, tuning, measuring."""

from kindling_engine.kernels import (
    activation,
    attention_merge,
    fp8_linear,
    lora_expand,
    lora_segment,
    lora_shrink,
    moe,
    norms,
    paged_decode,
    paged_prefill,
    rope_kv,
    sampling,
)

MODULES = (
    activation,
    attention_merge,
    fp8_linear,
    lora_expand,
    lora_segment,
    lora_shrink,
    moe,
    norms,
    paged_decode,
    paged_prefill,
    rope_kv,
    sampling,
)
