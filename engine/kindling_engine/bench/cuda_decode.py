"""An 8 B shape on a GPU: decode at several batches beside the memory's limit, a long load, and the first token."""

from collections.abc import Sequence
from itertools import count
from statistics import median

import torch

from kindling_engine.bench.contest import say
from kindling_engine.bench.figures import Value
from kindling_engine.bench.ours import OurEngine
from kindling_engine.bench.random_model import random_model
from kindling_engine.bench.shapes import LlamaShape
from kindling_engine.bench.workloads import Workload
from kindling_engine.models.errors import ModelError
from kindling_engine.models.weight_forms import PLAIN, WeightForm, weight_form
from kindling_engine.protocol.kv_dtypes import AUTO
from kindling_engine.protocol.kv_dtypes import FP8 as KV_FP8
from kindling_engine.protocol.weight_forms import FP8

_BATCHES = (1, 32, 256)
_FP8_BATCH = 32
# 256 prompts are read in some 32 steps and answers end as far apart: few of 256 tokens, and half of 64.
_CONTEXT, _OUTPUT = 1024, 256
W2 = Workload("gpu_w2", 512, 0, 1024, 256)


def decode_measure(
    shape: LlamaShape,
    *,
    device: torch.device,
    gbps: float,
    repeats: int,
    batches: tuple[int, ...] = _BATCHES,
    context: int = _CONTEXT,
    output: int = _OUTPUT,
    long_load: Workload = W2,
) -> dict[str, Value]:
    """Decode at a context of ``context`` tokens for several batches, in bf16, with weights in FP8, and with keys and
    values in FP8, and what belongs to it.

    The ceiling of a batch is the memory's read rate over what a step must read: the weights once, and every
    request's K and V.
    """
    seeds = count(1)
    engine = _engine(shape, device, max(batches), context + output)
    values: dict[str, Value] = {}
    for batch in batches:
        tok_s = decode_tok_s(engine, batch, context, output, repeats=repeats, seeds=seeds)
        width = engine.dtype.itemsize
        kv_bytes = batch * (context + output / 2) * shape.kv_elements_per_token * width
        ceiling = batch * gbps * 1e9 / (shape.read_per_step * width + kv_bytes)
        values[f"gpu_8b_b{batch}_tok_s"] = tok_s
        values[f"gpu_8b_b{batch}_ceiling_tok_s"] = ceiling
        values[f"gpu_8b_b{batch}_fraction"] = tok_s / ceiling
        say(f"8b batch {batch}: {tok_s:,.0f} tok/s in decode, {tok_s / ceiling:.0%} of the ceiling")
    first = Workload("ttft", 1, 0, context, 1)
    times_s = [
        engine.run(first.prompts(vocab_size=shape.vocab_size, seed=next(seeds)), 1).first_s[0]
        for _ in range(repeats + 1)
    ]
    values["gpu_ttft_1k_ms"] = 1000 * median(times_s[1:])
    run = engine.run(long_load.prompts(vocab_size=shape.vocab_size, seed=next(seeds)), long_load.output)
    values["gpu_w2_tok_s"] = run.tok_s
    say(f"8b {long_load.requests} requests: {run.tok_s:,.0f} tok/s")
    del engine
    values |= _kv_fp8(
        shape, device, max(batches), (context, output), repeats=repeats, seeds=seeds, bf16=values
    )
    batch = min(_FP8_BATCH, max(batches))
    try:
        form = weight_form(FP8, device)
    except ModelError as error:
        return {**values, "gpu_8b_fp8_b32_vs_bf16": None, "fp8: why not": error.message}
    quantised = _engine(shape, device, batch, context + output, form)
    tok_s = decode_tok_s(quantised, batch, context, output, repeats=repeats, seeds=seeds)
    base = values[f"gpu_8b_b{batch}_tok_s"]
    assert isinstance(base, float)
    return {**values, f"gpu_8b_fp8_b{batch}_tok_s": tok_s, f"gpu_8b_fp8_b{batch}_vs_bf16": tok_s / base}


def _kv_fp8(
    shape: LlamaShape,
    device: torch.device,
    batch: int,
    lengths: tuple[int, int],
    *,
    repeats: int,
    seeds: "count[int]",
    bf16: dict[str, Value],
) -> dict[str, Value]:
    """The largest batch, where keys and values are most of what a step reads, with those in e4m3."""
    engine = _engine(shape, device, batch, sum(lengths), kv_dtype=KV_FP8)
    tok_s = decode_tok_s(engine, batch, *lengths, repeats=repeats, seeds=seeds)
    base = bf16[f"gpu_8b_b{batch}_tok_s"]
    assert isinstance(base, float)
    say(f"8b batch {batch}, K and V in e4m3: {tok_s:,.0f} tok/s in decode, {tok_s / base:.2f} of bf16's")
    return {f"gpu_8b_kv_fp8_b{batch}_tok_s": tok_s, f"gpu_8b_kv_fp8_b{batch}_vs_bf16": tok_s / base}


def _engine(
    shape: LlamaShape,
    device: torch.device,
    max_batch: int,
    length: int,
    form: WeightForm = PLAIN,
    *,
    kv_dtype: str = AUTO,
) -> OurEngine:
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    return OurEngine(
        random_model(shape, dtype=dtype, device=device, form=form),
        kv_tokens=max_batch * (length + 16) + 1024,
        max_batch=max_batch,
        step_tokens=8192,
        kv_dtype=kv_dtype,
    )


def decode_tok_s(
    engine: OurEngine,
    batch: int,
    context: int,
    output: int,
    *,
    repeats: int,
    seeds: "count[int]",
    adapters: Sequence[str] = (),
) -> float:
    """Tokens a second once all prompts are read; ``adapters`` by row, none for the base alone."""
    load = Workload(f"b{batch}", batch, 0, context, output)
    rates = []
    for _ in range(repeats + 1):
        prompts = load.prompts(vocab_size=engine.vocab_size, seed=next(seeds))
        run = engine.run(prompts, output, adapters)
        rates.append(run.decode_tokens / run.decode_s)
    # The first run of a batch size pays for what is compiled on first use.
    return median(rates[1:])
