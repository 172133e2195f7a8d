"""The same core on a GPU, in bf16: base and both example adapters in one batch, twice, the second time with the
prompt in the cache. Each token it chose is nearly the best of an fp32 reference on the CPU."""

import shutil

import pytest
import torch

import kindling_engine.starter as starter
from kindling_core_rig import rig_make
from kindling_tiny_models import reference_load

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
BF16_TOLERANCE = 0.03  # of the largest logit: bf16 keeps 8 bits, and four layers add up


def reference_logits(adapter: str, tokens: list[int]) -> torch.Tensor:
    import peft

    model = reference_load(starter.SPARK_PATH)
    if adapter:
        model = peft.PeftModel.from_pretrained(model, starter.ADAPTER_PATHS[adapter]).eval()
    with torch.inference_mode():
        return model(torch.tensor([tokens])).logits[0]


def test_a_mixed_batch_on_a_gpu_agrees_with_the_reference(tmp_path):
    from tokenizers import Tokenizer

    text = "Tell me a short story about a fox who wants to learn to sing by the sea."
    prompt = Tokenizer.from_file(str(starter.SPARK_PATH / "tokenizer.json")).encode(text).ids
    for name, folder in starter.ADAPTER_PATHS.items():
        shutil.copytree(folder, tmp_path / name)
    rig = rig_make(starter.SPARK_PATH, tmp_path, device="cuda")
    for turn in ("first", "second"):
        ids = {f"{turn}-{name}": name for name in ("", *starter.ADAPTER_PATHS)}
        for request_id, adapter in ids.items():
            rig.submit(request_id, prompt, adapter=adapter, max_tokens=24)
        rig.run_until(*ids)
        for request_id, adapter in ids.items():
            made = rig.tokens(request_id)
            assert len(made) == 24, rig.end(request_id)
            logits = reference_logits(adapter, prompt + made)[len(prompt) - 1 : -1]
            chosen = logits.gather(1, torch.tensor(made).unsqueeze(1)).squeeze(1)
            assert (logits.max(dim=-1).values - chosen <= BF16_TOLERANCE * logits.abs().max()).all(), (
                request_id
            )
    assert rig.end("second-").cached_tokens > 0
