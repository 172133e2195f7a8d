"""Weights as int8 with a scale per channel: whole models, what they keep, and where it is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kindling_backend_models import backend_model_make
from kindling_engine.bench.kept import kept_bytes
from kindling_engine.core.startup import Parts
from kindling_engine.core.warmup import warm_up_request
from kindling_engine.layers.linear_compact import CompactRows
from kindling_engine.models.encoder import encoder_load
from kindling_engine.models.encoder_inputs import text_batch_make
from kindling_engine.models.errors import ModelError
from kindling_engine.models.registry import model_load
from kindling_engine.models.weight_forms import PLAIN, weight_form
from kindling_engine.protocol.weight_forms import FP8, INT8
from kindling_parity import adapters_settled, engine_parts, forced_logits, prompt_make
from kindling_tiny_encoders import encoder_make, texts_make
from kindling_tiny_models import adapter_make, model_make

CPU = torch.device("cpu")


def dequantised(weight: torch.Tensor) -> torch.Tensor:
    rows = CompactRows.int8(weight)
    return rows.rows(torch.arange(weight.shape[0]))


def int8_parts(folder: Path, scratch: Path, **options) -> Parts:
    return engine_parts(folder, scratch, weights=INT8, kv_tokens=512, step_tokens=24, **options)


def _as_int8(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dim() == 3:  # experts as one, [experts, in, out]
        return torch.stack([dequantised(one.t().contiguous()).t() for one in tensor])
    routes = name.endswith(("mlp.gate.weight", "mlp.router.weight", "_bias"))
    return tensor if tensor.dim() == 1 or routes else dequantised(tensor.float())


def dequantise_folder(folder: Path) -> Path:
    """Replace every matrix of a checkpoint by what int8 makes of it."""
    path = folder / "model.safetensors"
    tensors = {name: _as_int8(name, tensor) for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("name", ["llama", "qwen3-moe", "gemma2", "phi3", "gpt-oss"])
def test_a_model_and_its_adapter_equal_those_of_the_dequantised_checkpoint(tmp_path, name):
    folder = model_make(name, tmp_path / "model")
    targets = ["qkv_proj", "o_proj"] if name == "phi3" else ["q_proj", "v_proj", "o_proj"]
    adapter = adapter_make(folder, tmp_path / "a", r=4, lora_alpha=8, target_modules=targets)
    prompts = {f"{kind}{length}": prompt_make(length, length) for length in (2, 45) for kind in "ab"}
    adapted = {key: "a" for key in prompts if key.startswith("a")}

    def logits(weights: str) -> dict[str, torch.Tensor]:
        parts = engine_parts(folder, tmp_path, weights=weights, kv_tokens=512, step_tokens=24)
        assert not parts.adapters.acquire("a", adapter, "ticket", 0.0)
        adapters_settled(parts.adapters)
        return forced_logits(parts, prompts, adapted)

    ours = logits(INT8)
    dequantise_folder(folder)
    expected = logits("checkpoint")
    for key in prompts:
        # Each sum is multiplied by its scale once, which its weights were one by one.
        assert (ours[key] - expected[key]).abs().max() <= 1e-4 * expected[key].abs().max(), key
    assert (ours["a45"] - ours["b45"]).abs().max() > 0.05 * ours["b45"].abs().max()


def test_greedy_answers_follow_the_weights_wherever_the_choice_is_clear(tmp_path):
    folder = model_make("llama", tmp_path / "model")
    prompts = {"p": prompt_make(60, 3)}
    plain = forced_logits(engine_parts(folder, tmp_path, kv_tokens=512, step_tokens=24), prompts)["p"]
    ours = forced_logits(int8_parts(folder, tmp_path), prompts)["p"]
    best = plain.topk(2)
    clear = best.values[:, 0] - best.values[:, 1] > 0.1 * plain.abs().max()
    assert clear.sum() >= 10
    assert (ours.argmax(-1) == best.indices[:, 0])[clear].all()

    parts = int8_parts(folder, tmp_path)
    request = warm_up_request(0, vocab_size=320, max_length=512, prompt_tokens=12, new_tokens=9)
    assert parts.scheduler.add(request, 0.0) is None
    while parts.scheduler.has_work:
        plan = parts.scheduler.plan(0.0)
        draws = parts.runner.execute(plan)
        parts.scheduler.commit(plan, [draw.token for draw in draws], 0.0)
    again = forced_logits(int8_parts(folder, tmp_path), {"again": request.tokens[:-1]})["again"]
    rest = again[11:].amax(-1) - again[11:].gather(1, torch.tensor(request.tokens[12:])[:, None])[:, 0]
    assert request.made == 9
    assert (rest <= 1e-4 * again.abs().max()).all()


def test_an_encoder_keeps_its_vectors_nearly(tmp_path):
    folder, texts = encoder_make("bert", tmp_path), texts_make([9, 3, 30])

    def states(form) -> torch.Tensor:
        encoder = encoder_load(folder, "BertModel", device=CPU, dtype=torch.float32, form=form)
        with torch.inference_mode():
            return encoder.hidden(text_batch_make(texts, dtype=encoder.dtype, device=CPU))

    plain, ours = states(PLAIN), states(weight_form(INT8, CPU))
    assert torch.cosine_similarity(plain, ours).min() > 0.999
    assert not torch.equal(plain, ours)


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_keeps_a_quarter_of_the_bytes(tmp_path, tied):
    folder = model_make("llama", tmp_path, tie_word_embeddings=tied)
    parameters = sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())
    plain = model_load(folder, device=CPU, dtype=torch.float32)
    ours = model_load(folder, device=CPU, dtype=torch.float32, form=weight_form(INT8, CPU))
    # Tables of rotations, norms and scales stay fp32; of small matrices they are a larger part than of large ones.
    assert kept_bytes(plain) >= 4 * parameters
    assert kept_bytes(ours) <= 1.4 * parameters
    biggest = max(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())
    assert kept_bytes(ours) < kept_bytes(plain) - 2 * 4 * biggest


def test_caches_of_the_two_forms_never_meet(tmp_path):
    folder = model_make("llama", tmp_path)
    revisions = {
        model_load(folder, device=CPU, dtype=torch.float32, form=form).config.revision
        for form in (PLAIN, weight_form(INT8, CPU))
    }
    assert len(revisions) == 2
    ours, plain = int8_parts(folder, tmp_path), engine_parts(folder, tmp_path, kv_tokens=512, step_tokens=24)
    tables = [parts.kv.table_new(adapter="", salt="") for parts in (ours, plain)]
    assert tables[0].seed != tables[1].seed


def refusal(folder: Path, **options) -> ModelError:
    with pytest.raises(ModelError) as caught:
        model_load(folder, device=CPU, dtype=torch.float32, form=weight_form(INT8, CPU), **options)
    assert caught.value.code == "unsupported_weights"
    return caught.value


def test_another_device_and_another_name_are_refused():
    for name, device in ((INT8, torch.device("cuda")), (FP8, CPU), ("int3", CPU)):
        with pytest.raises(ModelError) as caught:
            weight_form(name, device)
        assert caught.value.code == "unsupported_weights"


def test_a_model_of_transformers_own_modules_is_refused_before_it_is_loaded(tmp_path):
    folder = backend_model_make("Olmo2ForCausalLM", tmp_path)
    (folder / "model.safetensors").unlink()
    assert "Olmo2ForCausalLM" in refusal(folder).message


def test_the_batch_invariant_mode_is_refused(tmp_path):
    assert "batch-invariant" in refusal(model_make("llama", tmp_path), batch_invariant=True).message


def test_weights_that_are_not_finite_are_refused(tmp_path):
    folder = model_make("llama", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][3, 5] = float("inf")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert "finite" in refusal(folder).message
