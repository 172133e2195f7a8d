"""Whether the engine computes on a GPU what transformers computes, before anything is timed."""

import gc
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from kindling_engine.bench.contest import say
from kindling_engine.bench.figures import Value
from kindling_engine.bench.logits import logits_compare
from kindling_engine.bench.ours import OurEngine
from kindling_engine.bench.peer_transformers import TransformersSubject
from kindling_engine.bench.shapes import (
    LLAMA_1B,
    LLAMA_8B,
    QWEN3_06B,
    QWEN3_8B,
    LlamaShape,
    checkpoint_write,
)
from kindling_engine.bench.workloads import MixedWorkload

_PROMPTS = MixedWorkload.uniform("gate", 8, 16, 700, seed=1)
_GREEDY_TOKENS = 16
_LAYERS = 4
SHAPES = {
    "llama_1b": LLAMA_1B.cut(_LAYERS),
    "llama_8b": LLAMA_8B.cut(_LAYERS),
    "qwen3_06b": QWEN3_06B.cut(_LAYERS),
    "qwen3_8b": QWEN3_8B.cut(_LAYERS),
}
"""All that is timed, and the shapes beside them: heads, groups, norms, rotations and tables as they are, in few layers,
since the others repeat them and both engines are to fit into minutes."""
# What bf16 rounds away, transformers' own attentions against each other, is of this size.
LARGEST_DEVIATION = 0.05


class WrongNumbersError(Exception):
    """The engine's logits are not the reference's: its speed means nothing."""


def gates_measure(
    device: torch.device, shapes: Mapping[str, LlamaShape] = SHAPES, load: MixedWorkload = _PROMPTS
) -> dict[str, Value]:
    """``gate_measure`` of each shape, and the worst of all. Raises WrongNumbersError that names the shape."""
    gates = {}
    for name, shape in shapes.items():
        gates[name] = gate_measure(device, name, shape, load)
        # Graphs and what they hold are in cycles, and the next shape needs their memory.
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return {
        "gate_logit_deviation": max(gate["gate_logit_deviation"] for gate in gates.values()),
        "gate_greedy_deficit": max(gate["gate_greedy_deficit"] for gate in gates.values()),
        "gate_mean_kl_nats": max(gate["gate_mean_kl_nats"] for gate in gates.values()),
        "gate_equal_best_tokens": min(gate["gate_equal_best_tokens"] for gate in gates.values()),
        "gates": gates,
    }


def gate_measure(
    device: torch.device, name: str, shape: LlamaShape, load: MixedWorkload = _PROMPTS
) -> dict[str, float]:
    """Prompts' logits, and tokens made for all prompts at once, beside the reference's. Raises WrongNumbersError."""
    prompts = load.prompts(vocab_size=shape.vocab_size, seed=3)
    with tempfile.TemporaryDirectory(prefix="kindling-gate-") as temporary:
        folder = Path(temporary)
        # In the dtype that both will compute in: half of what fp32 takes to write and read.
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        checkpoint_write(shape, folder, dtype=dtype, device=device)
        engine = OurEngine.load(folder, device=device, kv_tokens=8192, max_batch=8, step_tokens=512)
        ours = [torch.cat(list(engine.logits([prompt]))) for prompt in prompts]
        made = engine.tokens(prompts, _GREEDY_TOKENS)
        del engine
        reference = TransformersSubject(folder, {"device": device.type, "kv_tokens": 8192})
        expected = torch.cat([reference.logits(prompt) for prompt in prompts])
        # How far below the reference's best token ours were, when it judges each after those made before it.
        deficit = reference.deficit(prompts, made) / float(expected.abs().max())
    difference = logits_compare(expected, torch.cat(ours))
    worst = max(difference.deviation, deficit)
    say(
        f"{name} against transformers: logits deviate by {difference.deviation:.2e} of the largest, greedy tokens lie "
        f"{deficit:.2e} below its own, {1 - difference.flips:.2%} of best tokens are equal"
    )
    if not worst <= LARGEST_DEVIATION:
        raise WrongNumbersError(f"{name}: logits are off by {worst:.2e} of the largest; nothing is timed")
    return {
        "gate_logit_deviation": difference.deviation,
        "gate_greedy_deficit": deficit,
        "gate_mean_kl_nats": difference.mean_kl,
        "gate_equal_best_tokens": 1 - difference.flips,
    }
