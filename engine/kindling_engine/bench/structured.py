"""Constrained output: how many real schemas are kept, what a mask and a compilation cost, and how much of a step.

Beside each figure stands that of the grammar library's own bindings in a bare loop over the same schemas.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch

from kindling_engine.bench.figures import BenchOptions, Figures, Value, circumstances
from kindling_engine.bench.ours import OurEngine
from kindling_engine.bench.random_model import random_model
from kindling_engine.bench.shapes import SMALL
from kindling_engine.bench.structured_sample import END, BenchVocabulary, SampleSchema, sample_load
from kindling_engine.constraints.base import ConstraintError, TokenConstraint, mask_words
from kindling_engine.constraints.grammar import CompiledGrammar
from kindling_engine.constraints.grammar_text import WHITESPACE, grammar_text
from kindling_engine.constraints.library import limits, matcher
from kindling_engine.constraints.masks import MaskTable

BATCH = 8
PROMPT_TOKENS = 128
QUICK_SCHEMAS, QUICK_LAYERS = 8, 8  # every eighth schema; layers of the model


@dataclass(slots=True)
class Costs:
    """Microseconds for masks, milliseconds for compilations."""

    kept: int = 0
    mask_us: list[float] = field(default_factory=list)
    compile_ms: list[float] = field(default_factory=list)

    def figures(self, total: int) -> dict[str, Any]:
        return {
            "enforced_share": self.kept / total,
            "mask_mean_us": float(np.mean(self.mask_us)),
            "mask_p50_us": float(np.median(self.mask_us)),
            "mask_p99_us": float(np.percentile(self.mask_us, 99)),
            "compile_mean_ms": float(np.mean(self.compile_ms)),
            "compile_p99_ms": float(np.percentile(self.compile_ms, 99)),
        }


def structured_measure(options: BenchOptions) -> Figures:
    """All schemas of the sample, or every eighth; then a decode step of the small shape on one thread."""
    torch.set_num_threads(1)
    schemas = sample_load()[:: QUICK_SCHEMAS if options.quick else 1]
    vocabulary = BenchVocabulary()
    began_s = time.perf_counter()
    tokenizer = vocabulary.library_tokenizer()
    tokenizer_s = time.perf_counter() - began_s
    grammar_text("json_object", "")  # the first one pays for imports
    ours, theirs, grammars = Costs(), Costs(), []
    for schema in schemas:
        grammar = _ours(schema, vocabulary, tokenizer, ours)
        _theirs(schema, vocabulary, tokenizer, theirs)
        if grammar is not None:
            grammars.append((grammar, schema))
    return Figures(
        {
            **circumstances(),
            "llguidance_version": _library_version(),
            "device": "cpu",
            "vocabulary": f"{len(vocabulary):,} tokens, made up of bytes, numbers, marks and words of syllables",
            "schemas": len(schemas),
            "tokenizer_s": tokenizer_s,
            **ours.figures(len(schemas)),
            "llguidance": theirs.figures(len(schemas)),
            **_share(grammars, vocabulary, layers=QUICK_LAYERS if options.quick else SMALL.num_hidden_layers),
        }
    )


def _ours(
    schema: SampleSchema, vocabulary: BenchVocabulary, tokenizer: Any, costs: Costs
) -> CompiledGrammar | None:
    began_s = time.perf_counter()
    try:
        grammar = CompiledGrammar(
            grammar_text("json_schema", schema.text), tokenizer, vocab_size=len(vocabulary), eos_ids=[END]
        )
    except ConstraintError:
        return None
    costs.compile_ms.append(1e3 * (time.perf_counter() - began_s))
    costs.kept += 1
    mask = np.zeros(mask_words(len(vocabulary)), dtype=np.int32)
    for text, valid in schema.instances:
        if valid:
            constraint = grammar.start()
            _follow(vocabulary(text), partial(constraint.fill, mask), _accepting(constraint), costs)
    return grammar


def _theirs(schema: SampleSchema, vocabulary: BenchVocabulary, tokenizer: Any, costs: Costs) -> None:
    began_s = time.perf_counter()
    built = matcher().grammar_from_json_schema(schema.text, overrides={"whitespace_pattern": WHITESPACE})
    made = matcher()(tokenizer, built, log_level=0, limits=limits())
    if made.is_error():
        return
    mask = np.zeros(mask_words(len(vocabulary)), dtype=np.int32)
    made.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
    costs.compile_ms.append(1e3 * (time.perf_counter() - began_s))
    costs.kept += 1
    for text, valid in schema.instances:
        if valid:
            one = made.deep_copy()
            _follow(
                vocabulary(text),
                partial(one.unsafe_compute_mask_ptr, mask.ctypes.data, mask.nbytes),
                one.consume_token,
                costs,
            )


def _follow(ids: list[int], fill: Callable[[], object], accept: Callable[[int], bool], costs: Costs) -> None:
    for token in ids:
        began_s = time.perf_counter()
        fill()
        costs.mask_us.append(1e6 * (time.perf_counter() - began_s))
        if not accept(token):
            # The instance has its names in another order than the schema.
            return


def _accepting(constraint: TokenConstraint) -> Callable[[int], bool]:
    def accept(token: int) -> bool:
        try:
            constraint.accept(token)
        except ConstraintError:
            return False
        return True

    return accept


def _share(
    grammars: list[tuple[CompiledGrammar, SampleSchema]], vocabulary: BenchVocabulary, *, layers: int
) -> dict[str, Value]:
    """A decode step of eight free rows, and what masks for eight rows add to it."""
    shape = SMALL.cut(layers).with_vocabulary(len(vocabulary))
    model = random_model(shape, dtype=torch.float32, device=torch.device("cpu"))
    engine = OurEngine(model, kv_tokens=4096, max_batch=BATCH, step_tokens=2048)
    prompts = [
        [(row * 1009 + place * 31) % len(vocabulary) for place in range(PROMPT_TOKENS)]
        for row in range(BATCH)
    ]
    engine.run(prompts, 4)
    run = engine.run([[token + 1 for token in prompt[:-1]] for prompt in prompts], 24)
    step_ms = 1e3 * run.decode_s * BATCH / run.decode_tokens
    mask_ms = _batch_mask_ms(grammars, vocabulary)
    return {
        "model": f"{shape.parameters / 1e9:.3f} B, {layers} layers, vocabulary {shape.vocab_size:,}",
        "batch": BATCH,
        "step_ms": step_ms,
        "step_masks_ms": mask_ms,
        "mask_share_of_step": mask_ms / (step_ms + mask_ms),
    }


def _batch_mask_ms(
    grammars: list[tuple[CompiledGrammar, SampleSchema]], vocabulary: BenchVocabulary
) -> float:
    """Mean time to fill, unpack and apply the masks of a batch."""
    texts = [
        (grammar, vocabulary(text))
        for grammar, schema in grammars
        for text, valid in schema.instances
        if valid
    ]
    table = MaskTable(vocab_size=len(vocabulary), device=torch.device("cpu"))
    fresh = torch.randn(BATCH, len(vocabulary))
    spent_ms: list[float] = []
    for first in range(0, min(len(texts), 160), BATCH):
        rows = [(grammar.start(), ids) for grammar, ids in islice(cycle(texts), first, first + BATCH)]
        for place in range(min(40, *(len(ids) for _, ids in rows))):
            logits = fresh.clone()
            began_s = time.perf_counter()
            mask = table.fill([constraint for constraint, _ in rows])
            if mask is not None:
                mask.apply(logits)
            spent_ms.append(1e3 * (time.perf_counter() - began_s))
            if not all(_accepting(constraint)(ids[place]) for constraint, ids in rows):
                break
    return float(np.mean(spent_ms))


def _library_version() -> str:
    from importlib.metadata import version

    return version("llguidance")
