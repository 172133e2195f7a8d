"""Keys and values in e4m3: a model's tokens with them rounded, in every way that a batch can be put together."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kindling_core_rig import Rig, rig_make
from kindling_engine.core import kv_cache
from kindling_engine.core.kv_cache import kv_dtype_allow, kv_scales_find
from kindling_engine.core.options import options_parse
from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.layers.attention import LayerCache, attention_for
from kindling_engine.layers.attention_rows import AttentionInputs, DecodeRows
from kindling_engine.layers.attention_spec import AttentionSpec
from kindling_engine.layers.kv_narrow import E4M3, narrowed, widened
from kindling_engine.models.errors import ModelError
from kindling_engine.models.quantization import quantization_read
from kindling_engine.models.registry import model_load
from kindling_engine.server.options import core_arguments, serve_options_parse
from kindling_kv_fp8 import e4m3_rounded, rounded_logits
from kindling_parity import engine_parts, forced_logits, prompt_make
from kindling_tiny_models import adapter_make, model_make, reference_load, reference_logits

CPU = torch.device("cpu")
FP8 = {"kv_dtype": "fp8"}


def _scales(parts) -> torch.Tensor:
    return torch.stack([torch.stack(pair) for pair in parts.runner._storage.scales])


def _in_one_file(folder: Path) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors, which are to be written to model.safetensors."""
    tensors = {}
    for file in folder.glob("*.safetensors"):
        tensors |= {name: one.clone() for name, one in load_file(file).items()}
        file.unlink()
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    return tensors


def test_every_number_is_rounded_as_e4m3_has_it():
    scale = torch.tensor([0.25, 1.0, 8.0])
    x = torch.randn(4000, 3, 5, generator=torch.Generator().manual_seed(0)) * scale[:, None] * 120
    x[:1000] /= 4096
    # Halfway between two, least of all, beyond the greatest, and none at all.
    x[0, 1] = torch.tensor([17.0, 19.0, 2.0**-10, 449.0, -1e30])
    x[1, 1] = torch.tensor([float("inf"), float("-inf"), 0.0, -0.0, float("nan")])
    ours = widened(narrowed(x, scale), scale[:, None], torch.float32)
    expected = e4m3_rounded(x / scale[:, None]) * scale[:, None]
    told = [[16.0, 20.0, 0.0, 448.0, -448.0], [448.0, -448.0, 0.0, 0.0, -448.0]]
    assert ours[:2, 1].tolist() == told
    assert torch.equal(ours[2:], expected[2:])
    assert ours.isfinite().all()


@pytest.mark.parametrize("name", ["qwen3", "gemma3", "gpt-oss", "llama"])
def test_logits_and_tokens_are_those_of_transformers_with_its_cache_rounded(name, tmp_path):
    folder = model_make(name, tmp_path / "model")
    model = reference_load(folder)
    prompts = {f"p{length}": prompt_make(length, length) for length in (1, 17, 100, 150)}
    parts = engine_parts(folder, tmp_path, step_tokens=24, kv_tokens=1024, **FP8)
    found = forced_logits(parts, prompts)
    scales = _scales(parts)
    near, far = [], []
    for name, tokens in prompts.items():
        rounded, exact = rounded_logits(model, tokens, scales), reference_logits(model, tokens)
        largest = rounded.abs().max()
        near.append((found[name] - rounded).abs().amax(dim=1) / largest)
        far.append((found[name] - exact).abs().amax(dim=1) / largest)
    # Where fp32 adds up in another order, a number in a thousand thousands falls to the other side of a middle.
    assert (torch.cat(near) < 1e-4).float().mean() > 0.8
    assert torch.cat(near).max() < 0.02
    assert torch.cat(far).median() > 5e-3


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tuple[Path, dict[str, list[int]], dict[str, list[int]]]:
    """A model, prompts of which some share blocks, and the tokens that each gets by itself."""
    folder = model_make("qwen3", tmp_path_factory.mktemp("kv_fp8") / "model")
    shared = prompt_make(40, 7)
    prompts = {f"r{i}": prompt_make(length, i) for i, length in enumerate((3, 70, 16, 31))}
    prompts |= {f"s{i}": [*shared, *prompt_make(length, 100 + i)] for i, length in enumerate((9, 50))}
    alone = {}
    for name, tokens in prompts.items():
        rig = _rig(folder, max_batch=1, step_tokens=512)
        rig.submit(name, tokens, max_tokens=16)
        rig.run_until(name)
        alone[name] = rig.tokens(name)
    return folder, prompts, alone


def _rig(folder: Path, **options) -> Rig:
    return rig_make(folder, folder.parent, **{"kv_tokens": 1024, "step_tokens": 40, **FP8, **options})


def test_chunks_neighbours_and_shared_prefixes_change_no_token(world):
    folder, prompts, alone = world
    rig = _rig(folder, max_batch=5)
    for name, tokens in prompts.items():
        rig.submit(name, tokens, max_tokens=16)
        rig.turn()
    rig.run_until(*prompts)
    rig.submit("again", prompts["s0"], max_tokens=16)
    rig.run_until("again")
    assert {name: rig.tokens(name) for name in prompts} == alone
    assert rig.tokens("again") == alone["s0"]
    assert rig.end("again").cached_tokens == 3 * PAGE_SIZE
    scales = _scales(rig.core._parts)
    model = reference_load(folder)
    for name, tokens in prompts.items():
        logits = rounded_logits(model, tokens + alone[name], scales)[len(tokens) - 1 : -1]
        best = logits.topk(2)
        clear = best.values[:, 0] - best.values[:, 1] > 0.02 * logits.abs().max()
        assert (best.indices[:, 0] == torch.tensor(alone[name]))[clear].all()
        assert clear.any()


def test_requests_that_lost_their_blocks_make_the_same_tokens(world):
    folder, prompts, alone = world
    rig = _rig(folder, kv_tokens=112, max_batch=5)
    scheduler, given = rig.core._parts.scheduler, []
    lost = scheduler._preempt
    scheduler._preempt = lambda request, *rest: (given.append(request.id), lost(request, *rest))[1]
    chosen = ("r1", "r3", "s0")
    for name in chosen:
        rig.submit(name, prompts[name], max_tokens=16)
    rig.run_until(*chosen)
    assert given
    assert {name: rig.tokens(name) for name in chosen} == {name: alone[name] for name in chosen}


def test_a_batch_invariant_answer_stays_so(world):
    folder, prompts, _ = world
    made = []
    for names in (["s1"], list(prompts)):
        rig = _rig(folder, batch_invariant=True, max_batch=6)
        for name in names:
            rig.submit(name, prompts[name], max_tokens=16)
        rig.run_until(*names)
        made.append(rig.tokens("s1"))
    assert made[0] == made[1]


def test_adapters_write_keys_and_values_and_borrow_blocks(world, tmp_path):
    """Weights so large that keys are far beyond what the base was measured at; their blocks come back as zeros."""
    folder, prompts, alone = world
    for index in range(3):
        adapter_make(folder, tmp_path / f"a{index}", seed=index, r=64, lora_alpha=64 * 20**index)
    rig = rig_make(folder, tmp_path, kv_tokens=1024, lora_mib=1, **FP8)
    for index in range(3):
        rig.submit(f"a{index}", prompts["r1"], max_tokens=4, adapter=f"a{index}")
        rig.run_until(f"a{index}")
        assert len(rig.tokens(f"a{index}")) == 4, rig.end(f"a{index}").error
    rig.submit("r1", prompts["r1"], max_tokens=16)
    rig.run_until("r1")
    assert rig.tokens("r1") == alone["r1"]
    keys = [pair[0] for pair in rig.core._parts.runner._storage.layers]
    assert any((one.float().abs() == 448).any() for one in keys)
    assert all(one.float().isfinite().all() for one in keys)


def test_the_cache_is_a_quarter_and_is_no_other_caches(world):
    folder = world[0]
    narrow, wide = _rig(folder).core._parts, _rig(folder, kv_dtype="auto").core._parts
    sizes = [parts.runner._storage._blocks.nbytes for parts in (narrow, wide)]
    assert 4 * sizes[0] == sizes[1]
    assert narrow.kv.pool.capacity == wide.kv.pool.capacity
    seeds = [parts.kv.table_new(adapter="", salt="").seed for parts in (narrow, wide)]
    assert seeds[0] != seeds[1]


def test_memory_holds_four_times_the_tokens(world, monkeypatch):
    folder = world[0]
    monkeypatch.setattr("kindling_engine.core.startup._CPU_KV_BYTES", 1 << 20)
    blocks = [
        _rig(folder, kv_tokens=0, kv_dtype=name).core._parts.kv.pool.capacity for name in ("auto", "fp8")
    ]
    assert blocks[1] // 4 == blocks[0]


def test_scales_are_powers_of_two_with_room_above_what_was_seen(world):
    parts = _rig(world[0]).core._parts
    scales = _scales(parts)
    assert torch.equal(torch.frexp(scales).mantissa, torch.full_like(scales, 0.5))
    assert scales.shape == (3, 2, 2)
    # Found anew they are the same.
    assert torch.equal(kv_scales_find(parts.runner._model), scales)
    stored = [
        part.float().abs().amax(dim=(1, 2, 3)) for part in kv_cache._filled(parts.runner._model).layers[1]
    ]
    for greatest, scale in zip(stored, scales[1], strict=True):
        assert ((448 * scale / greatest > 4) & (448 * scale / greatest <= 8)).all()


@pytest.mark.parametrize("names", [("k_scale", "v_scale"), ("k_proj.k_scale", "v_proj.v_scale")])
def test_a_checkpoints_own_scales_are_taken(names, tmp_path):
    folder = model_make("qwen3", tmp_path / "model")
    tensors = _in_one_file(folder)
    for layer in range(3):
        tensors[f"model.layers.{layer}.self_attn.{names[0]}"] = torch.tensor([0.011 * (layer + 1)])
        tensors[f"model.layers.{layer}.self_attn.{names[1]}"] = torch.tensor([0.02, 0.03])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    scales = _scales(engine_parts(folder, tmp_path, kv_tokens=256, **FP8))
    assert torch.allclose(scales[:, 0], 0.011 * torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]))
    assert torch.equal(scales[:, 1], torch.tensor([0.02, 0.03]).expand(3, 2))
    tensors[f"model.layers.1.self_attn.{names[1]}"] = torch.tensor([0.0])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"layers.1.self_attn.{names[1]} should be one positive") as caught:
        model_load(folder, device=CPU, dtype=torch.float32)
    assert caught.value.code == "weights_shape"


def test_a_checkpoint_with_a_scheme_for_the_cache_is_read():
    groups = {"group_0": {"weights": {"type": "float", "num_bits": 8}}}
    raw = {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": groups}
    scheme = {"type": "float", "num_bits": 8, "strategy": "tensor", "dynamic": False}
    assert quantization_read({"quantization_config": {**raw, "kv_cache_scheme": scheme}}) is not None
    with pytest.raises(ModelError, match="compressed-tensors"):
        quantization_read({"quantization_config": {**raw, "kv_cache_scheme": {**scheme, "type": "int"}}})


def test_keys_that_are_no_numbers_are_refused_at_the_start(tmp_path):
    folder = model_make("llama", tmp_path / "model")
    tensors = _in_one_file(folder)
    tensors["model.layers.1.self_attn.k_proj.weight"][0, 0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="no finite numbers") as caught:
        engine_parts(folder, tmp_path, kv_tokens=256, **FP8)
    assert caught.value.code == "unsupported_kv_dtype"


@pytest.mark.parametrize(
    ("architecture", "device", "told"),
    [
        ("BertModel", "cpu", "BertModel keeps no keys and values"),
        ("GPT2LMHeadModel", "cpu", "through transformers' own modules"),
        ("LlamaForCausalLM", "cuda", "compute capability 8.9 or more, and an old one is older"),
    ],
)
def test_where_it_cannot_be_it_is_refused_by_name(architecture, device, told, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old one")
    with pytest.raises(ModelError, match=told) as caught:
        kv_dtype_allow("fp8", architecture, torch.device(device))
    assert caught.value.code == "unsupported_kv_dtype"
    assert caught.value.message.endswith("start without --kv-dtype fp8.")
    kv_dtype_allow("auto", architecture, torch.device(device))
    with pytest.raises(ModelError, match="'fp9'; there are auto, fp8"):
        kv_dtype_allow("fp9", architecture, torch.device(device))


def test_the_option_by_its_name_and_by_vllms(tmp_path, capsys):
    needed = ["--model", "m", "--model-ref", "r", "--blobs", "b"]
    for option in ("--kv-dtype", "--kv-cache-dtype"):
        options = serve_options_parse([*needed, "--usage-log", "u", "--replica", "p", option, "fp8"])
        assert options_parse(core_arguments(options, tmp_path / "socket")).kv_dtype == "fp8"
    with pytest.raises(SystemExit):
        options_parse([*needed, "--socket", "s", "--kv-dtype", "int4"])
    assert "invalid choice: 'int4'" in capsys.readouterr().err


@pytest.mark.parametrize("invariant", [False, True])
def test_attention_over_bytes_is_attention_over_what_they_stand_for(invariant):
    """Decodes over one of two layers' pages in one storage, to the last bit."""
    torch.manual_seed(3)
    spec, scales = AttentionSpec(scale=0.2), torch.tensor([[[0.5, 4.0], [0.25, 2.0]]]).repeat(2, 1, 1)
    sizes = {"num_layers": 2, "num_kv_heads": 2, "head_dim": 16, "num_blocks": 9, "device": CPU}
    stores = [KvStorage(dtype=E4M3, scales=scales, **sizes), KvStorage(dtype=torch.float32, **sizes)]
    narrow, wide = (LayerCache(*one.layers[1], *one.slots[1], *one.scales[1]) for one in stores)
    attention = attention_for(CPU, batch_invariant=invariant)
    blocks = np.array([[1, 2, 3, 4], [5, 6, 7, 8]]) * stores[0].pages_per_block
    states = torch.randn(60, 2, 2, 2, 16) * 3
    for at, (key, value) in enumerate(states):
        rows = DecodeRows(blocks, np.array([at + 1, at + 1]), torch.float32, CPU)
        slots = torch.from_numpy(blocks[:, at // PAGE_SIZE] * PAGE_SIZE + at % PAGE_SIZE)
        inputs, query = AttentionInputs(slots, rows, ()), torch.randn(2, 4, 16)
        rounded = [
            e4m3_rounded(one / scale[:, None]) * scale[:, None]
            for one, scale in zip((key, value), scales[1], strict=True)
        ]
        ours = attention(query, key, value, narrow, inputs, spec)
        assert torch.equal(ours, attention(query, *rounded, wide, inputs, spec))
    stores[0].scrub(torch.tensor([1, 2]))
    stored = stores[0]._blocks.view(torch.uint8)
    assert not stored[1:3].any() and stored[3].any()
