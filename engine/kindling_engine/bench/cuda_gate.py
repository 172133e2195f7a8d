"""Whether the engine computes on a GPU what transformers computes, before anything is timed."""

import tempfile
from pathlib import Path

import torch

from kindling_engine.bench.contest import say
from kindling_engine.bench.figures import Value
from kindling_engine.bench.logits import logits_compare
from kindling_engine.bench.ours import OurEngine
from kindling_engine.bench.peer_transformers import TransformersSubject
from kindling_engine.bench.shapes import LLAMA_1B, LlamaShape, checkpoint_write
from kindling_engine.bench.workloads import MixedWorkload

_PROMPTS = MixedWorkload.uniform("gate", 8, 16, 700, seed=1)
_GREEDY_TOKENS = 16
# What bf16 rounds away, transformers' own attentions against each other, is of this size.
LARGEST_DEVIATION = 0.05


class WrongNumbersError(Exception):
    """The engine's logits are not the reference's: its speed means nothing."""


def gate_measure(
    device: torch.device, shape: LlamaShape = LLAMA_1B, load: MixedWorkload = _PROMPTS
) -> dict[str, Value]:
    """Prompts' logits, and tokens made for all prompts at once, beside the reference's. Raises WrongNumbersError."""
    prompts = load.prompts(vocab_size=shape.vocab_size, seed=3)
    with tempfile.TemporaryDirectory(prefix="kindling-gate-") as name:
        folder = Path(name)
        checkpoint_write(shape, folder)
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
        f"against transformers: logits deviate by {difference.deviation:.2e} of the largest, greedy tokens lie "
        f"{deficit:.2e} below its own, {1 - difference.flips:.2%} of best tokens are equal"
    )
    if not worst <= LARGEST_DEVIATION:
        raise WrongNumbersError(f"logits are off by {worst:.2e} of the largest; nothing is timed")
    return {
        "gate_logit_deviation": difference.deviation,
        "gate_greedy_deficit": deficit,
        "gate_mean_kl_nats": difference.mean_kl,
        "gate_equal_best_tokens": 1 - difference.flips,
    }
