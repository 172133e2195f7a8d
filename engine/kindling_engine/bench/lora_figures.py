"""What the adapter bench's runs come to."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from kindling_engine.bench.figures import Value
from kindling_engine.bench.lora_adapters import adapter_bytes
from kindling_engine.bench.paired import ratio_interval
from kindling_engine.bench.run import Run

if TYPE_CHECKING:
    from kindling_engine.bench.lora import Measured, Setup

_ROWS = 32
_ENOUGH = 0.95
"""Of the engine bench's speed; below that a fraction of the base would flatter."""


def lora_figures(setup: "Setup", measured: "Measured") -> dict[str, Any]:
    """The keys that the bench promises, and what they were computed from.

    A fraction of the base is one of decode tokens per second, the median over rounds in which both took part. The byte
    floor is the fraction at which a step takes as much longer as reading its adapters once takes at this machine's
    measured bandwidth.
    """
    runs = measured.runs
    base_step_s = _ROWS / median(map(decode_tok_s, runs["a0"]))
    versus_engine = _ratio(runs["a0"], runs["engine"], decode_tok_s)
    overhead, low, high = ratio_interval([loaded / none for loaded, none in measured.overhead])
    floors = {n: _floor(setup, measured, n, base_step_s) for n in (0, *setup.counts)}
    values: dict[str, Value] = {
        "device": "cpu",
        "layers": setup.shape.num_hidden_layers,
        "repeats": setup.repeats,
        "threads": setup.threads,
        "read_gbps": measured.gbps,
        "adapter_mb": adapter_bytes(setup.shape) / 1e6,
        "base_tok_s": median(map(decode_tok_s, runs["a0"])),
        "base_vs_engine": versus_engine,
        "fractions_hold": "yes"
        if versus_engine >= _ENOUGH
        else "no: the base was slower than the engine alone",
        "enabled_unused_overhead": overhead - 1,
        "enabled_unused_low": low - 1,
        "enabled_unused_high": high - 1,
        "a8_vs_base": _ratio(runs["a8"], runs["a0"], decode_tok_s),
        "byte_floor_a8": floors[8],
        "a32_vs_base": _ratio(runs["a32"], runs["a0"], decode_tok_s),
        "byte_floor_a32": floors[32],
        "a32_vs_floor": _ratio(runs["a32"], runs["a0"], decode_tok_s) / floors[32],
        "prefill_a32_vs_base": _ratio(runs["a32"], runs["a0"], prefill_speed),
        "zipf_vs_one": _ratio(runs["zipf"], runs["one"], _wall_tok_s),
        "thrash_vs_nothrash": _ratio(runs["thrash"], runs["roomy"], _wall_tok_s),
        "thrash_ttft_ratio": _ratio(runs["thrash"], runs["roomy"], _ttft_s),
        "thrash_ttft_p50_ms": 1000 * median(map(_ttft_s, runs["thrash"])),
        "vs_peft32": _ratio(runs["ours32"], runs["peft32"], _wall_tok_s) if "peft32" in runs else None,
        "peft32_tok_s": median(map(_wall_tok_s, runs["peft32"])) if "peft32" in runs else None,
        "ours32_tok_s": median(map(_wall_tok_s, runs["ours32"])) if "ours32" in runs else None,
        "cold_load_ms": 1000 * median(measured.cold_s),
        "warm_swap_ms": 1000 * median(measured.swap_s),
        "registered": setup.registered,
        **measured.notes,
    }
    return {**values, "curve": _curve(setup, measured, floors)}


def decode_tok_s(run: Run) -> float:
    """Tokens per second once every request has its first one."""
    return run.decode_tokens / run.decode_s


def prefill_speed(run: Run) -> float:
    """Of prompts, in an arbitrary unit: the time until the last of them had its first token."""
    return 1 / max(run.first_s)


def _curve(setup: "Setup", measured: "Measured", floors: dict[int, float]) -> list[dict[str, float]]:
    return [
        {
            "adapters": n,
            "tok_s": median(map(decode_tok_s, measured.runs[f"a{n}"])),
            "fraction_of_base": _ratio(measured.runs[f"a{n}"], measured.runs["a0"], decode_tok_s),
            "byte_floor": floors[n],
        }
        for n in (0, *setup.counts)
    ]


def _floor(setup: "Setup", measured: "Measured", adapters: int, base_step_s: float) -> float:
    """A batch of 32 rows has at most 32 adapters, however many there are."""
    read_s = min(adapters, _ROWS) * adapter_bytes(setup.shape) / measured.gbps / 1e9
    return base_step_s / (base_step_s + read_s)


def _ratio(ours: Sequence[Run], others: Sequence[Run], figure: Callable[[Run], float]) -> float:
    return median(figure(one) / figure(other) for one, other in zip(ours, others, strict=True))


def _ttft_s(run: Run) -> float:
    return median(run.first_s)


def _wall_tok_s(run: Run) -> float:
    return run.tok_s
