"""Weights in e4m3 on a GPU that multiplies them: near bf16, and half as large."""

import pytest
import torch

pytest.importorskip("triton")
if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (9, 0):
    pytest.skip("needs a GPU of compute capability 9.0", allow_module_level=True)

from kindling_engine.bench.kept import kept_bytes
from kindling_engine.bench.logits import logits_compare
from kindling_engine.bench.ours import OurEngine
from kindling_engine.bench.shapes import LlamaShape, checkpoint_write
from kindling_engine.models.registry import model_load
from kindling_engine.models.weight_forms import weight_form
from kindling_engine.protocol.weight_forms import CHECKPOINT, FP8

SHAPE = LlamaShape(512, 4, 8, 4, 1536, 2048, tie_word_embeddings=True)
CUDA = torch.device("cuda")


def test_logits_are_near_those_of_bf16_and_weights_are_half_as_large(tmp_path):
    checkpoint_write(SHAPE, tmp_path)
    prompts = [[(7 * i + 3 * j) % 2048 for j in range(40)] for i in range(4)]
    logits, sizes = {}, {}
    for name in (CHECKPOINT, FP8):
        model = model_load(tmp_path, device=CUDA, dtype=torch.bfloat16, form=weight_form(name, CUDA))
        sizes[name] = kept_bytes(model) - 2 * 2048 * 512
        engine = OurEngine(model, kv_tokens=1024, max_batch=4, step_tokens=256)
        logits[name] = torch.cat(list(engine.logits(prompts)))
    difference = logits_compare(logits[CHECKPOINT], logits[FP8])
    assert difference.mean_kl < 0.02
    assert sizes[FP8] < 0.55 * sizes[CHECKPOINT]
