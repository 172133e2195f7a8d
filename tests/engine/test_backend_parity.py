"""Models of transformers over our pages against transformers alone: logits, greedy tokens, adapters."""

from pathlib import Path
from typing import Any

import pytest
import torch

from kindling_backend_models import ARCHITECTURES, backend_model_make
from kindling_core_rig import rig_make
from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.models.transformers_backend import TransformersModel
from kindling_engine.models.transformers_backend_sequences import SequencesModel
from kindling_engine.protocol.adapter_files import BaseShape, check_adapter_folder
from kindling_engine.scheduler.request import Request
from kindling_parity import adapters_settled, engine_parts
from kindling_tiny_models import VOCAB, reference_load

TOLERANCE = 1e-4
# One adapter's targets for each way of naming and fusing projections.
TARGETS: dict[str, list[str] | str] = {
    "GPTNeoXForCausalLM": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
    "GPT2LMHeadModel": ["c_attn", "c_proj", "c_fc"],
    "OPTForCausalLM": ["q_proj", "v_proj", "fc1", "fc2"],
    "OlmoeForCausalLM": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "DeepseekV3ForCausalLM": ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"],
    "Qwen3NextForCausalLM": ["in_proj_qkvz", "out_proj", "q_proj", "o_proj"],
    "FalconH1ForCausalLM": ["in_proj", "q_proj", "o_proj"],
    "Lfm2ForCausalLM": ["in_proj", "out_proj", "q_proj"],
    "MambaForCausalLM": ["in_proj", "x_proj"],
    "JambaForCausalLM": ["in_proj", "out_proj", "q_proj"],
    "BloomForCausalLM": ["query_key_value", "dense", "dense_h_to_4h"],
    # One of them expands what is kept of a sequence anew in each step.
    "DeepseekV32ForCausalLM": ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"],
    "MiniMaxForCausalLM": ["qkv_proj", "out_proj", "q_proj", "o_proj"],
    "RecurrentGemmaForCausalLM": ["linear_x", "linear_out", "q_proj", "gate_proj"],
    # With matrices in what sees, too; the other one that sees has projections of the same names there.
    "Qwen3VLForConditionalGeneration": "all-linear",
}


# What they know of a prefix is more than its keys and values, and is kept a block before a prompt's last.
STATEFUL = {
    "Qwen3NextForCausalLM",
    "FalconH1ForCausalLM",
    "Lfm2ForCausalLM",
    "MambaForCausalLM",
    "JambaForCausalLM",
}
# Their attention or their cache is their own.
ONE_BY_ONE = {
    "BloomForCausalLM",
    "DeepseekV32ForCausalLM",
    "MiniMaxForCausalLM",
    "RecurrentGemmaForCausalLM",
}
# DoRA on layers with a bias, and on some that are stored the other way round.
DORA = {"GPT2LMHeadModel", "OPTForCausalLM"}


class Tiny:
    """A checkpoint, its reference, an adapter for it, and the adapter's reference."""

    def __init__(self, architecture: str, folder: Path) -> None:
        import peft

        self.architecture = architecture
        self.folder = backend_model_make(architecture, folder / "model")
        self.model = reference_load(self.folder)
        self.blobs = folder / "blobs"
        torch.manual_seed(1)
        targets = TARGETS.get(architecture, ["q_proj", "k_proj", "o_proj"])
        adapted = peft.get_peft_model(
            reference_load(self.folder),
            peft.LoraConfig(
                task_type="CAUSAL_LM",
                r=5,
                lora_alpha=12,
                target_modules=targets,
                use_dora=architecture in DORA,
            ),
        )
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.data = 0.15 * torch.randn_like(parameter)
            if "lora_magnitude_vector" in name:
                parameter.data *= 1 + 0.15 * torch.randn_like(parameter)
        adapted.save_pretrained(self.blobs / "style")
        self.adapted = adapted.eval()

    @torch.inference_mode()
    def logits(self, tokens: list[int], adapter: str = "") -> torch.Tensor:
        model = self.adapted if adapter else self.model
        return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]

    def assert_greedy(self, prompt: list[int], made: list[int], adapter: str = "") -> None:
        """Every token is the reference's best, or within rounding of it."""
        logits = self.logits(prompt + made, adapter)[len(prompt) - 1 : -1]
        bound = TOLERANCE * logits.abs().max()
        chosen = logits.gather(1, torch.tensor(made).unsqueeze(1)).squeeze(1)
        assert (logits.max(dim=-1).values - chosen <= bound).all()
        clear = logits.topk(2).values.diff().abs().squeeze(1) > 2 * bound
        assert clear.float().mean() > 0.8, "the random model gives hardly any clear choice"


@pytest.fixture(scope="module", params=ARCHITECTURES)
def tiny(request, tmp_path_factory) -> Tiny:
    torch.set_num_threads(1)
    return Tiny(request.param, tmp_path_factory.mktemp(request.param))


def _prompt(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCAB, (length,), generator=generator).tolist()


def _parts(tiny: Tiny, **options: Any):
    parts = engine_parts(tiny.folder, tiny.blobs, **{"max_batch": 64, **options})
    arm = SequencesModel if tiny.architecture in ONE_BY_ONE else TransformersModel
    assert isinstance(parts.runner._model, arm)
    return parts


def test_logits_of_base_and_adapter_in_one_batch(tiny: Tiny):
    """Prompts of different lengths, with and without an adapter, in chunks that mix; past the window, too."""
    parts = _parts(tiny, step_tokens=48, max_batch=8)
    assert not parts.adapters.acquire("style", tiny.blobs / "style", "style", 0.0)
    assert adapters_settled(parts.adapters)[0].error is None
    cases = {
        f"{adapter}{length}": (adapter, _prompt(length, length))
        for length in (1, 17, 90)
        for adapter in ("", "style")
    }
    for name, (adapter, tokens) in cases.items():
        parts.scheduler.add(Request(name, list(tokens), max_tokens=1, grant=1, adapter=adapter), 0.0)
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in cases}
    mixed = False
    while parts.scheduler.has_work:
        plan = parts.scheduler.plan(0.0)
        mixed = mixed or len({row.request.adapter for row in plan.rows}) == 2
        logits = parts.runner.logits_all(plan)
        for row, part in zip(plan.rows, logits.split([row.count for row in plan.rows]), strict=True):
            seen[row.request.id].append(part)
        parts.scheduler.commit(plan, [5 for row in plan.rows if row.samples], 0.0)
    assert mixed
    for name, (adapter, tokens) in cases.items():
        expected = tiny.logits(tokens, adapter)
        assert (torch.cat(seen[name]) - expected).abs().max() <= TOLERANCE * expected.abs().max(), name
    base, adapted = tiny.logits(_prompt(90, 90)), tiny.logits(_prompt(90, 90), "style")
    assert (base - adapted).abs().max() > 0.05 * base.abs().max(), (
        "the adapter changes too little to prove it"
    )


def test_what_the_engine_takes_passes_the_check_of_an_upload(tiny: Tiny):
    """Which sees the catalog's sizes alone: layers of any name and width."""
    sizes = dict.fromkeys(
        ("hidden_size", "intermediate_size", "num_layers", "heads", "kv_heads", "head_dim"), 8
    )
    base = BaseShape.of_catalog(sizes, architecture=tiny.architecture, vocab_size=VOCAB, ref="acme/tiny")
    report = check_adapter_folder(tiny.blobs / "style", base)
    assert report.ok, report.findings
    assert report.rank == 5 and report.target_modules


def test_greedy_tokens_with_chunks_prefix_hits_and_preemption(tiny: Tiny):
    rig = rig_make(tiny.folder, tiny.blobs, step_tokens=40, kv_tokens=208, max_batch=6)
    preempted = []
    drop = rig.core._scheduler._preempt
    rig.core._scheduler._preempt = lambda *args: (preempted.append(args[0].id), drop(*args))
    shared = _prompt(48, 7)
    prompts = {f"r{index}": ("", _prompt(length, index)) for index, length in enumerate((3, 70, 33))}
    prompts |= {f"s{index}": ("", [*shared, *_prompt(9, 100 + index)]) for index in range(2)}
    prompts |= {f"a{index}": ("style", [*shared, *_prompt(5, 200 + index)]) for index in range(2)}
    for name, (adapter, tokens) in prompts.items():
        rig.submit(name, tokens, max_tokens=16, adapter=adapter)
        rig.turn()
    rig.run_until(*prompts)
    rig.submit("again", prompts["s0"][1], max_tokens=8)
    rig.run_until("again")
    assert preempted, "nothing was preempted, so this proves less"
    blocks = 2 if tiny.architecture in STATEFUL else 0 if tiny.architecture in ONE_BY_ONE else 3
    assert rig.end("again").cached_tokens == blocks * PAGE_SIZE
    assert rig.tokens("again") == rig.tokens("s0")[:8]
    for name, (adapter, tokens) in prompts.items():
        made = rig.tokens(name)
        assert len(made) == 16
        tiny.assert_greedy(tokens, made, adapter)
