"""All that a decoder launches on a GPU, in bf16 and on fake tensors of one: no tensor of the host is among its own, no
step waits, nothing comes from the host to what is captured, and no kernel gets what it was not compiled for."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")
if torch.cuda.is_available():
    pytest.skip("where a GPU is, tests/engine/test_core_cuda.py runs on it", allow_module_level=True)

from kindling_core_rig import Rig, rig_make
from kindling_engine.bench import cuda_decode, cuda_lora, ours
from kindling_engine.bench.kernel import lora_problems
from kindling_engine.bench.kernels import problems_of
from kindling_engine.bench.shapes import LLAMA_8B
from kindling_engine.bench.workloads import Workload
from kindling_engine.core import adapter_memory
from kindling_engine.core.overlapped import OverlappedLoop
from kindling_engine.kernels import norms, trials_attention, trials_experts, trials_lora, trials_rows
from kindling_engine.layers.linear import Linear
from kindling_engine.lora.slab_layout import PackedAdapter
from kindling_engine.protocol.ipc import Embed, Embedded
from kindling_engine.protocol.sampling import Sampling, Thinking
from kindling_engine.runner.trials import decoder_trials
from kindling_fake_gpu import CUDA, fake_gpu, on_the_host
from kindling_tiny_encoders import decoder_make, encoder_make, texts_make
from kindling_tiny_models import adapter_make, model_make

SAMPLINGS = (
    {"sampling": Sampling(temperature=0.0, ignore_eos=True)},
    {"sampling": Sampling(temperature=1.1, top_k=40, top_p=0.9, min_p=0.01, seed=8, ignore_eos=True)},
    {"sampling": Sampling(temperature=0.7, repetition_penalty=1.3, frequency_penalty=0.4, ignore_eos=True)},
    {"sampling": Sampling(temperature=0.8, logit_bias={5: 4.0}, ignore_eos=True), "logprobs": 2},
    {"sampling": Sampling(temperature=0.9, typical_p=0.7, stop_token_ids=[9], min_tokens=4, ignore_eos=True)},
    {"sampling": Sampling(temperature=0.0, ignore_eos=True), "prompt_logprobs": 1},
    {"sampling": Sampling(temperature=0.0, ignore_eos=True), "thinking": Thinking([5], [6, 7], 2)},
)
STEP = {"_rms_norm_kernel", "_rope_kv_kernel", "paged_decode_kernel", "merge_pieces_kernel"}
STEP |= {"paged_prefill_kernel", "_gate_kernel", "survey_kernel", "choose_kernel"}
EXPERTS = {"_route_kernel", "_sort_kernel", "_grouped_kernel", "_combine_kernel"}
EXPERT_TARGETS = ["gate_proj", "up_proj", "down_proj"]
ADAPTERS = {"_order_kernel", "_tiles_kernel", "_shrink_kernel", "_expand_kernel"}


@pytest.fixture
def said(caplog) -> Callable[[], list[str]]:
    """What went wrong in a step, which the loop would make good and a capture would do without."""
    return lambda: [f"{one.message} {one.exc_text}" for one in caplog.records if one.levelno > logging.INFO]


def _rig(model: Path, **options) -> Rig:
    options = {"max_batch": 4, "step_tokens": 64, "kv_tokens": 2048, **options}
    return rig_make(model, model.parent, device="cuda", **options)


@pytest.mark.parametrize("name", ["gemma2", "gpt-oss"])
def test_steps_of_every_sampling_stay_on_the_device(name, tmp_path, monkeypatch, said):
    model = model_make(name, tmp_path / "model", num_hidden_layers=2)
    with fake_gpu(monkeypatch) as gpu:
        rig = _rig(model)
        assert isinstance(rig.core._loop, OverlappedLoop) and gpu.captured == 2 * 3
        for index, fields in enumerate(SAMPLINGS):
            rig.submit(f"r{index}", list(range(3, 30 + 20 * (index % 2))), max_tokens=4, **fields)
        rig.run_until(*(f"r{index}" for index in range(len(SAMPLINGS))))
        assert said() == []
        assert all(len(rig.tokens(f"r{index}")) == 4 for index in range(len(SAMPLINGS)))
    assert gpu.replayed > 3
    assert set(gpu.launched) == STEP | ADAPTERS | (EXPERTS if name == "gpt-oss" else set())


@pytest.mark.parametrize(
    ("name", "weights", "targets", "odd"),
    [
        ("llama-dynamic", "checkpoint", ["q_proj", "v_proj", "up_proj"], {"use_dora": True}),
        ("phi3", "fp8", ["qkv_proj", "down_proj"], {"use_dora": True}),
        ("qwen3-moe", "checkpoint", ["q_proj", "gate"], {"r": 4, "target_modules": EXPERT_TARGETS}),
    ],
)
def test_adapters_in_slabs_in_borrowed_blocks_and_in_none(
    name, weights, targets, odd, tmp_path, monkeypatch, said
):
    model = model_make(name, tmp_path / "model", num_hidden_layers=2, num_key_value_heads=4, head_dim=32)
    names = ["", "a0", "a1", "a2", "odd"]
    for index, adapter in enumerate(names[1:]):
        more = odd if adapter == "odd" else {}
        adapter_make(model, tmp_path / adapter, seed=index, **{"r": 20, "target_modules": targets, **more})
    # Of which each takes the better part.
    monkeypatch.setattr(adapter_memory, "_MIB", 1 << 16)
    with fake_gpu(monkeypatch) as gpu:
        rig = _rig(model, lora_mib=1, weights=weights)
        for adapter in names:
            rig.submit(f"r-{adapter}", list(range(3, 30)), max_tokens=4, adapter=adapter)
        rig.run_until(*(f"r-{adapter}" for adapter in names))
        assert said() == []
        assert all(len(rig.tokens(f"r-{adapter}")) == 4 for adapter in names), [
            rig.end(f"r-{adapter}").error for adapter in names
        ]
        assert rig.core._parts.kv.loans.borrowed > 0
        assert rig.core._parts.adapters.weights("odd").slot is None
    assert gpu.launched.keys() >= {"paged_decode_kernel", *ADAPTERS}
    assert ("_quantise_kernel" in gpu.launched) == (weights == "fp8")


@pytest.mark.parametrize("name", ["qwen3", "gemma2", "gpt-oss"])
def test_keys_and_values_in_e4m3(name, tmp_path, monkeypatch, said):
    """What is launched is compiled for such pages, and nothing waits, in captured steps and others."""
    model = model_make(name, tmp_path / "model", num_hidden_layers=2)
    pages = []
    with fake_gpu(monkeypatch) as gpu:
        launch = gpu.launch
        monkeypatch.setattr(gpu, "launch", lambda kernel, *args, **options: (
            pages.append((kernel.fn.__name__, *(str(one.dtype) for one in args if isinstance(one, torch.Tensor)))),
            launch(kernel, *args, **options),
        ))  # fmt: skip
        rig = _rig(model, kv_dtype="fp8")
        storage = rig.core._parts.runner._storage
        assert storage.layers[0][0].dtype == torch.float8_e4m3fn and gpu.captured == 2 * 3
        pages.clear()
        for index in range(3):
            rig.submit(f"r{index}", list(range(3, 30 + 20 * (index % 2))), max_tokens=4)
        rig.run_until(*(f"r{index}" for index in range(3)))
        assert said() == []
        assert all(len(rig.tokens(f"r{index}")) == 4 for index in range(3))
    assert gpu.replayed > 1
    of_pages = {launched for launched, *dtypes in pages if "torch.float8_e4m3fn" in dtypes}
    assert of_pages == {"_rope_kv_kernel", "paged_decode_kernel", "paged_prefill_kernel"}
    starts = {one.storage_offset() % 4 for pair in storage.scales for one in pair}
    assert starts == {0}, "a kernel is compiled anew for numbers that begin elsewhere"


@pytest.mark.parametrize("make", [decoder_make, partial(encoder_make, "bert")], ids=["decoder", "encoder"])
def test_texts_become_vectors(make, tmp_path, monkeypatch, said):
    """A decoder's without rows on the device, over the same kernels."""
    make(tmp_path / "model")
    texts = [Embed(str(index), text) for index, text in enumerate(texts_make([3, 50, 16, 1]))]
    with fake_gpu(monkeypatch) as gpu:
        rig = _rig(tmp_path / "model")
        rig.turn(*texts)
        rig.wait(lambda: len(rig.answers(Embedded)) == len(texts))
        assert said() == []
    assert {one.finish for one in rig.answers(Embedded)} == {"stop"}
    assert ({"paged_decode_kernel", "paged_prefill_kernel"} <= gpu.launched.keys()) == (make is decoder_make)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
def test_what_a_start_and_the_bench_measure_an_8b_on(tmp_path, monkeypatch, said):
    """One of its layers, at its sizes and in both forms of weights: what is tuned, captured and timed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(ours, "_TUNE_S", 0.5)
    adapter_of = on_the_host(cuda_lora._adapter)
    monkeypatch.setattr(
        cuda_lora, "_adapter", lambda shapes, dtype, pinned: adapter_of(shapes, dtype, pinned=False)
    )
    with fake_gpu(monkeypatch) as gpu:
        _references_forget(monkeypatch)
        figures = cuda_decode.decode_measure(
            LLAMA_8B.cut(1),
            device=CUDA,
            gbps=4000.0,
            repeats=1,
            batches=(1, 3),
            context=300,
            output=4,
            long_load=Workload("long", 5, 0, 12, 3),
        )
        figures |= cuda_lora.lora_decode_measure(
            LLAMA_8B.cut(1), device=CUDA, repeats=1, batch=4, counts=(2, 4), context=40, output=4
        )
        assert said() == []
    assert figures["gpu_8b_kv_fp8_b3_tok_s"] > 0
    assert figures["gpu_8b_fp8_b3_tok_s"] > 0 and figures["gpu_w2_tok_s"] > 0
    assert figures["gpu_lora_unused_fraction"] > 0 and figures["gpu_lora_4_fraction"] > 0
    assert 1 > figures["gpu_lora_2_byte_floor"] > figures["gpu_lora_4_byte_floor"] > 0.9
    assert gpu.launched.keys() == STEP | ADAPTERS | {"_quantise_kernel"}


def test_a_trial_of_each_kernel_can_be_captured(tmp_path, monkeypatch):
    model = model_make("qwen3-moe", tmp_path / "model", num_hidden_layers=2)
    with fake_gpu(monkeypatch) as gpu:
        parts = _rig(model).core._parts
        _references_forget(monkeypatch)
        for module in (trials_attention, trials_rows):
            monkeypatch.setattr(module, "copies_for", lambda moved: 1)
        monkeypatch.setattr(trials_lora, "_SETS", 1)
        trials = decoder_trials(
            parts.runner._model,
            page_dtype=torch.bfloat16,
            max_batch=256,
            max_length=parts.scheduler.max_length,
            slabs=parts.adapters._store.slabs,
            budget_bytes=1 << 30,
        )
        # Of each kernel one: others differ by their sizes.
        first = {trial.key[0]: trial for trial in reversed(list(trials))}
        for trial in first.values():
            with torch.inference_mode():
                bout = trial.make()
            for config in (trial.configs[0], trial.configs[-1]):
                bout.result(config)
                with torch.inference_mode(), gpu.launching(captured=True):
                    for load in bout.loads:
                        load[0](config)
    assert first.keys() == {
        *("paged_decode", "paged_prefill", "sparse_mlp", "rms_norm", "gate", "rope_kv"),
        *("lora_shrink", "lora_expand"),
    }


def test_the_kernels_bench_launches_what_can_be_captured(monkeypatch):
    packed = PackedAdapter(torch.empty(1 << 16, dtype=torch.uint8), 16)
    monkeypatch.setattr(lora_problems, "adapter_pack", lambda *args, **options: packed)
    with fake_gpu(monkeypatch) as gpu, torch.inference_mode():
        for problem in problems_of(CUDA, torch.bfloat16, quick=True):
            inputs = problem.inputs(0)
            for config in (None, problem.configs[-1]):
                with gpu.launching(captured=True):
                    problem.ours(inputs, config)
    assert gpu.launched.keys() == STEP | EXPERTS | ADAPTERS | {"_quantise_kernel"}


def _references_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """They look at numbers, of which there are none."""
    nothing = torch.empty(1, 1, device=CUDA)
    for place, name, answer in (
        (trials_attention, "paged_reference", (nothing, nothing)),
        (trials_experts, "sparse_mlp_reference", nothing),
        (trials_lora.lora_shrink, "lora_shrink_reference", nothing),
        (trials_lora.lora_expand, "lora_expand_reference", nothing),
        (trials_rows.rope_kv, "rope_kv_reference", nothing),
    ):
        monkeypatch.setattr(place, name, lambda *args, answer=answer, **options: answer)


HOSTS = torch.ones(8, dtype=torch.bfloat16)
FAULTS: dict[str, Callable[[torch.Tensor], object]] = {
    "on .*cpu": lambda x: x + HOSTS,
    "_local_scalar_dense": lambda x: x.sum().item(),
    "holds the host up": lambda x: HOSTS.to(CUDA),
    "lift_fresh": lambda x: torch.tensor([1.0, 2.0, 3.0], device=CUDA),
    "memory_format on": lambda x: x.to("cpu", non_blocking=True),
    "mm.* of": lambda x: Linear(torch.empty(4, 8, device=CUDA))(x),
    "waited for": lambda x: x[x > 0],
    "weight is torch.float64": lambda x: norms.rms_norm(x, torch.empty(8, device=CUDA).double(), 1e-6),
    "x has strides": lambda x: norms.rms_norm(x.t(), x, 1e-6),
    "weight is on cpu": lambda x: norms.rms_norm(x, HOSTS, 1e-6),
}


@pytest.mark.parametrize("told", FAULTS)
def test_a_fault_in_a_step_is_told(told, monkeypatch):
    with fake_gpu(monkeypatch) as gpu:
        x = torch.empty(8, 8, dtype=torch.bfloat16, device=CUDA)
        with pytest.raises(Exception, match=told), gpu.launching():
            FAULTS[told](x)
