"""Models whose attention or cache is their own: a sequence at a time, each with a cache of transformers."""

import gc
import logging
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from kindling_backend_models import backend_model_make
from kindling_core_rig import answers_of, calls_failing, rig_make
from kindling_engine.core import startup
from kindling_engine.core.options import CoreOptions
from kindling_engine.models import transformers_backend_caches as caches
from kindling_engine.models.base import SequenceRows, StepInputs
from kindling_engine.models.errors import ModelError
from kindling_engine.models.registry import model_load
from kindling_engine.models.transformers_backend_caches import OwnCaches
from kindling_engine.models.transformers_backend_sequences import SequencesModel
from kindling_parity import assert_logits, engine_parts, forced_logits, prompt_make
from kindling_tiny_models import reference_load

CPU = torch.device("cpu")
PROMPTS = {"a": list(range(3, 40)), "b": list(range(50, 59)), "c": [7]}
OTHERS: dict[str, dict[str, Any]] = {
    # Attention in a table of its own, with few heads of keys; biases that are a length's; another rotation.
    "FalconForCausalLM": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "MptForCausalLM": {"n_heads": 4, "n_layers": 2, "max_seq_len": 512},
    "GPTJForCausalLM": {"rotary_dim": 8, "n_layer": 2},
    # Caches of their own: a state, a matrix for each head, keys that are abridged behind a window.
    "RwkvForCausalLM": {"num_hidden_layers": 2},
    "xLSTMForCausalLM": {"qk_dim_factor": 1.0, "num_heads": 4, "num_hidden_layers": 2},
    "DeepseekV4ForCausalLM": {
        "head_dim": 16,
        "qk_rope_head_dim": 8,
        "q_lora_rank": 24,
        "o_lora_rank": 16,
        "o_groups": 2,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "sliding_window": 24,
        "index_topk": 8,
        "index_n_heads": 32,
        "index_head_dim": 16,
    },
    # Positions that begin behind the number of padding.
    "RobertaForCausalLM": {"is_decoder": True, "num_hidden_layers": 2},
    # Nothing is kept at all.
    "OpenAIGPTLMHeadModel": {"n_positions": 512, "n_layer": 2},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    return backend_model_make("BloomForCausalLM", tmp_path_factory.mktemp("bloom"))


@pytest.mark.parametrize("architecture", OTHERS)
def test_logits_of_chunks_beyond_windows_and_blocks(architecture: str, tmp_path: Path):
    folder = backend_model_make(architecture, tmp_path, **OTHERS[architecture])
    parts = engine_parts(folder, tmp_path, step_tokens=29)
    assert isinstance(parts.runner._model, SequencesModel)
    prompts = {"long": prompt_make(70, 1), "short": prompt_make(11, 2)}
    seen = forced_logits(parts, prompts)
    model = reference_load(folder)
    for name, tokens in prompts.items():
        with torch.inference_mode():
            expected = model(input_ids=torch.tensor([tokens])).logits[0]
        assert_logits(seen[name], expected, name)


@pytest.fixture(scope="module")
def linear(tmp_path_factory) -> Path:
    """A state that is changed where it lies, beside keys and values that grow."""
    return backend_model_make("MiniMaxForCausalLM", tmp_path_factory.mktemp("linear"))


@pytest.fixture(scope="module")
def undisturbed(linear: Path, tmp_path_factory) -> dict[str, list[int]]:
    return answers_of(rig_make(linear, tmp_path_factory.mktemp("blobs"), step_tokens=16), PROMPTS)


@pytest.mark.parametrize("where", ["go_on", "logits", "launch"])
@pytest.mark.parametrize("steps", [{2, 7}, {4}])
def test_a_step_that_fails_runs_again(
    linear: Path, tmp_path: Path, undisturbed: dict[str, list[int]], where: str, steps: set[int]
):
    """Between its sequences, in its logits or while tokens are drawn: what has gone on by then is gone through anew."""
    rig = rig_make(linear, tmp_path, step_tokens=16)
    runner = rig.core._loop._runner
    place = {"go_on": runner._model._caches, "logits": runner._model, "launch": runner._sampler}[where]
    calls = calls_failing(place, where, steps)
    assert answers_of(rig, PROMPTS) == undisturbed
    assert {rig.end(name).finish for name in PROMPTS} == {"length"}
    assert len(calls) > max(steps)


def test_a_long_sequence_is_gone_through_anew_in_parts(folder: Path, monkeypatch: pytest.MonkeyPatch):
    from kindling_engine.models import transformers_backend_sequences as sequences

    monkeypatch.setattr(sequences, "_ANEW_TOKENS", 8)
    model = model_load(folder, device=CPU, dtype=torch.float32)
    tokens = torch.tensor(prompt_make(30, 3))
    whole = step(model, tokens, 0)
    step(model, tokens[:25], 0)
    lengths: list[int] = []
    go_on = model._caches.go_on
    model._caches.go_on = lambda part, *rest: (lengths.append(len(part)), go_on(part, *rest))[1]
    again = step(model, tokens[20:], 20)
    assert lengths == [8, 8, 4, 10]
    assert torch.allclose(again, whole[20:], atol=1e-5)


def test_what_keeps_tensors_in_its_modules_has_no_pages(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """In half precision a state that is another sequence's passes for rounding."""
    folder = backend_model_make("RecurrentGemmaForCausalLM", tmp_path)
    model = model_load(folder, device=CPU, dtype=torch.bfloat16)
    assert isinstance(model, SequencesModel) and "tensors in its modules" in caplog.text


@pytest.fixture(scope="module")
def roberta(tmp_path_factory) -> Path:
    """Its positions begin at 2, and by itself it gives none to padding."""
    shape = {"is_decoder": True, "num_hidden_layers": 2, "pad_token_id": 1, "bos_token_id": 0}
    folder = tmp_path_factory.mktemp("roberta")
    return backend_model_make("RobertaForCausalLM", folder, max_position_embeddings=66, **shape)


def test_positions_behind_padding_end_the_context_with_their_table(roberta: Path, tmp_path: Path):
    parts = engine_parts(roberta, tmp_path, step_tokens=16)
    assert parts.config.context_length == 64
    tokens = prompt_make(63, 3)
    tokens[10] = tokens[33] = 1
    seen = forced_logits(parts, {"all": tokens})["all"]
    with torch.inference_mode():
        own = reference_load(roberta)(
            input_ids=torch.tensor([tokens]), position_ids=torch.arange(2, 65)[None]
        ).logits[0]
    assert_logits(seen, own)
    rig = rig_make(roberta, tmp_path)
    rig.submit("end", tokens[:60], max_tokens=20)
    rig.run_until("end")
    assert (rig.end("end").finish, len(rig.tokens("end"))) == ("length", 4)


@pytest.mark.parametrize("padding", [5, 60], ids=["in the table", "behind it"])
def test_positions_that_cannot_be_told_are_refused(
    roberta: Path, monkeypatch: pytest.MonkeyPatch, padding: int
):
    monkeypatch.setattr(caches, "padding_id_read", lambda _: padding)
    with pytest.raises(ModelError, match="counts positions in its own way") as caught:
        model_load(roberta, device=CPU, dtype=torch.float32)
    assert caught.value.code == "unsupported_model"


def step(model: SequencesModel, tokens: torch.Tensor, position: int, row: int = 0) -> torch.Tensor:
    rows = (SequenceRows(row, 0, len(tokens), position),)
    with torch.inference_mode():
        return model.hidden(
            StepInputs(tokens, tokens, attention=None, logit_rows=None, lora=None, sequences=rows)
        )


def test_a_sequence_that_does_not_go_on_where_its_cache_ends_is_an_error(folder: Path):
    model = model_load(folder, device=CPU, dtype=torch.float32)
    step(model, torch.arange(3, 8), 0)
    for row, position in ((0, 6), (1, 5)):
        with pytest.raises(RuntimeError, match="go on"):
            step(model, torch.tensor([9]), position, row)
    assert step(model, torch.tensor([9]), 5).shape == (1, 64)


def test_a_row_that_another_sequence_had_begins_anew(
    linear: Path, tmp_path: Path, undisturbed: dict[str, list[int]]
):
    assert answers_of(rig_make(linear, tmp_path, max_batch=1), PROMPTS) == undisturbed


def test_what_was_kept_of_a_sequence_goes_with_it(folder: Path, tmp_path: Path):
    """With the next step, whoever has it."""
    rig = rig_make(folder, tmp_path)
    model = rig.core._loop._runner._model
    assert not model._kept, "the proof's sequences are still there"
    rig.submit("first", PROMPTS["a"], max_tokens=3)
    rig.submit("left", PROMPTS["b"], max_tokens=9)
    rig.wait(lambda: len(model._kept) == 2)
    keys = [weakref.ref(layer.keys) for kept in model._kept.values() for layer in kept.cache.given.layers]
    rig.run_until("first", "left")
    rig.submit("next", PROMPTS["c"], max_tokens=2)
    rig.run_until("next")
    gc.collect()
    assert len(model._kept) == 1 and len(keys) == 6
    assert not any(key() is not None for key in keys)


def test_room_is_counted_by_what_transformers_keeps(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Keys and values of 3 layers of 64 numbers, and the token itself."""
    config = engine_parts(folder, tmp_path).config
    assert (config.token_bytes, config.state_bytes) == (3 * 2 * 64 * 4 + 8, 0)
    block = 16 * config.token_bytes + 2 * 16 * 4
    monkeypatch.setattr(startup, "_free_bytes", lambda _: 4 * 100 * block)
    parts = engine_parts(folder, tmp_path)
    assert parts.kv.pool.capacity == 100
    assert parts.runner._storage._blocks.nbytes == 101 * 128
    with pytest.raises(ModelError, match="free"):
        engine_parts(folder, tmp_path, kv_tokens=401 * 16)


def test_a_gpu_keeps_room_for_caches_that_grow(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = engine_parts(folder, tmp_path).config
    options = CoreOptions(tmp_path, folder, "t", tmp_path)
    block = 16 * config.token_bytes + 2 * 16 * 4
    free = 2 * (200 * block + (options.lora_mib << 20))
    monkeypatch.setattr(startup, "_free_bytes", lambda _: free)
    assert startup._cache_sizes(config, options, torch.float32, torch.device("cuda")) == (201, 0)


def test_a_state_is_counted_by_sequences(linear: Path, tmp_path: Path):
    """Of two layers, with keys and values of the third by tokens."""
    config = engine_parts(linear, tmp_path).config
    assert config.token_bytes == 2 * 2 * 16 * 4 + 8
    assert config.state_bytes == 2 * 4 * 16 * 16 * 4


def test_neither_prefixes_nor_guesses_are_for_it(folder: Path, tmp_path: Path):
    parts = engine_parts(folder, tmp_path, speculation="on")
    assert parts.speculator is None and parts.scheduler.drafter is None
    rig = rig_make(folder, tmp_path)
    for name in ("first", "again"):
        rig.submit(name, PROMPTS["a"], max_tokens=4)
        rig.run_until(name)
    assert rig.end("again").cached_tokens == 0
    assert rig.tokens("again") == rig.tokens("first")


@pytest.mark.parametrize(("spoilt", "most"), [(lambda count: count > 1, 1), (lambda count: True, 0)])
def test_a_cache_from_which_few_or_no_tokens_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, spoilt: Any, most: int
):
    go_on = OwnCaches.go_on

    def other(self: OwnCaches, tokens: torch.Tensor, position: int, cache: Any) -> Any:
        states, kept = go_on(self, tokens, position, cache)
        return (states + 1 if position and spoilt(len(tokens)) else states), kept

    monkeypatch.setattr(OwnCaches, "go_on", other)
    model = model_load(folder, device=CPU, dtype=torch.float32)
    assert isinstance(model, SequencesModel) and model._most == most
    tokens = torch.tensor(prompt_make(12, 4))
    whole = step(model, tokens, 0)
    parts = [step(model, tokens[:5], 0), step(model, tokens[5:11], 5), step(model, tokens[11:], 11)]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-5)


def test_what_transformers_does_not_confirm_is_refused_for_both_reasons(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    go_on = OwnCaches.go_on

    def other(self: OwnCaches, tokens: torch.Tensor, *rest: Any) -> Any:
        states, kept = go_on(self, tokens, *rest)
        return states + 1, kept

    monkeypatch.setattr(OwnCaches, "go_on", other)
    with pytest.raises(ModelError, match=r"attention interface\..*logits differ") as caught:
        model_load(folder, device=CPU, dtype=torch.float32)
    assert caught.value.code == "unsupported_model"


def test_what_its_modules_raise_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def odd(*_: Any) -> Any:
        raise ValueError("no such thing")

    monkeypatch.setattr(OwnCaches, "go_on", odd)
    with pytest.raises(ModelError, match="no such thing") as caught:
        model_load(folder, device=CPU, dtype=torch.float32)
    assert caught.value.code == "unsupported_model"


def test_the_log_says_that_it_is_slower(folder: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        model_load(folder, device=CPU, dtype=torch.float32)
    said = [record.getMessage() for record in caplog.records if "sequence by sequence" in record.getMessage()]
    assert len(said) == 1 and "BloomForCausalLM" in said[0] and "attention interface" in said[0]
