"""How far a model's predictions move when its weights, or its keys and values, take another form: teacher-forced, token
by token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from kindling_engine.bench.logits import logits_compare
from kindling_engine.bench.ours import OurEngine
from kindling_engine.protocol.weight_forms import CHECKPOINT
from kindling_engine.starter.corpus import corpus_documents

_STEP_TOKENS = 256
_MAX_BATCH = 64
# Any seed but that of the training.
_CORPUS_SEED = 7


@dataclass(frozen=True, slots=True)
class Drift:
    """Means over ``tokens``: KL(fp32 ‖ form) in nats, and the share of tokens whose best successor changes."""

    tokens: int
    kl_nats: float
    top1_flips: float


def drift_measure(folder: Path, form: str, prompts: Sequence[list[int]]) -> Drift:
    """Compare the logits of every token of ``prompts`` as the checkpoint has its weights, and in the mode ``form`` of
    ``OurSubject``.
    """
    engines = [_engine(folder, mode, prompts) for mode in (CHECKPOINT, form)]
    tokens, kl_nats, flips = 0, 0.0, 0
    # Equal prompts make equal plans, so that both give logits of the same tokens at a time.
    for plain, ours in zip(*(engine.logits(prompts) for engine in engines), strict=True):
        rows, difference = plain.shape[0], logits_compare(plain, ours)
        tokens += rows
        kl_nats += rows * difference.mean_kl
        flips += round(rows * difference.flips)
    return Drift(tokens, kl_nats / tokens, flips / tokens)


def starter_prompts(folder: Path, tokens: int) -> list[list[int]]:
    """At least ``tokens`` tokens of dialogues as the starter model has seen them, but others."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    prompts: list[list[int]] = []
    for document in corpus_documents(seed=_CORPUS_SEED):
        prompts.append(tokenizer.encode(document, add_special_tokens=False).ids[:512])
        if sum(map(len, prompts)) >= tokens:
            break
    return prompts


def _engine(folder: Path, mode: str, prompts: Sequence[list[int]]) -> OurEngine:
    return OurEngine.load(
        folder,
        device=torch.device("cpu"),
        # A page more for each: none is full to its last place.
        kv_tokens=sum(len(prompt) + 16 for prompt in prompts),
        max_batch=_MAX_BATCH,
        step_tokens=_STEP_TOKENS,
        mode=mode,
    )
