"""A decoder's layers in one compiled call: the bits of the same layers called one after another."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kindling_decodes import decodes_make
from kindling_engine.jit.patience import WATCH_CYCLES, Patience
from kindling_engine.jit.program import LayerProgram, program_kernel
from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.models.base import StepInputs
from kindling_engine.models.decoder import Decoder
from kindling_engine.models.registry import model_load
from kindling_engine.models.weight_forms import PLAIN, WeightForm, weight_form
from kindling_parity import engine_parts, forced_logits, prompt_make
from kindling_tiny_models import model_make

CPU = torch.device("cpu")
BLOCKS = 96
pytestmark = pytest.mark.skipif(program_kernel() is None, reason="no code is made for this processor")
SHAPE = {
    "hidden_size": 64,
    "head_dim": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def decoder_make(name: str, folder: Path, form: WeightForm = PLAIN, **changes: int) -> Decoder:
    folder = model_make(name, folder, **SHAPE | changes)
    model = model_load(folder, device=CPU, dtype=torch.float32, form=form)
    assert isinstance(model, Decoder)
    config = model.config
    storage = KvStorage(
        num_layers=config.num_layers_kv,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        num_blocks=BLOCKS,
        dtype=torch.float32,
        device=CPU,
    )
    storage._blocks.copy_(torch.randn(storage._blocks.shape, generator=torch.Generator().manual_seed(0)))
    model.bind(storage)
    return model


def decodes(model: Decoder, lengths: list[int]) -> StepInputs:
    tokens = torch.arange(3, 3 + len(lengths)) % 60
    pages_per_block = 2 * model.config.num_layers_kv * model.config.num_kv_heads
    attention = decodes_make(lengths, BLOCKS, pages_per_block=pages_per_block)
    return StepInputs(tokens, torch.tensor(lengths) - 1, attention, None, None)


def one_by_one(model: Decoder, inputs: StepInputs) -> Tensor:
    program, model._program = model._program, None
    try:
        return model.hidden(inputs)
    finally:
        model._program = program


@pytest.mark.parametrize(("threads", "watch"), [(1, 0), (2, 0), (2, WATCH_CYCLES), (5, 0), (5, 1_000)])
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "smollm3"])
@torch.inference_mode()
def test_bits_are_those_of_the_layers(
    name: str, threads: int, watch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # As if there were enough to do for so many, and they watched for each other so long before they sleep.
    monkeypatch.setattr("kindling_engine.jit.program._ALONE_BELOW", 0)
    monkeypatch.setattr(Patience, "begin", lambda self: watch)
    torch.set_num_threads(threads)
    model = decoder_make(name, tmp_path)
    assert isinstance(model._program, LayerProgram)
    for lengths in ([5], [1, 16, 17, 33], [7] * 30, [40]):
        inputs = decodes(model, lengths)
        assert torch.equal(model.hidden(inputs), one_by_one(model, inputs))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("weights", ["checkpoint", "int8wo"])
@torch.inference_mode()
def test_logits_are_those_of_the_head_behind_the_layers(
    weights: str, tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("kindling_engine.jit.program._ALONE_BELOW", 0)
    torch.set_num_threads(2)
    model = decoder_make("llama", tmp_path, form=weight_form(weights, CPU), tie_word_embeddings=tied)
    head = model._head
    for lengths in ([5], [1, 16, 17, 33], [7] * 30, [40]):
        inputs = decodes(model, lengths)
        expected = model.logits(model.hidden(inputs))
        model._head = None  # it is in the program
        found = model.forward(inputs)
        model._head = head
        assert torch.equal(found, expected)
        some = replace(inputs, logit_rows=torch.tensor([len(lengths) - 1, 0]))
        assert torch.equal(model.forward(some), expected[[-1, 0]])


@pytest.mark.parametrize(("inner", "compiled"), [(24, True), (100, False), (20, False)])
@torch.inference_mode()
def test_a_gate_that_does_not_divide_into_vectors_goes_through_torch(
    inner: int, compiled: bool, tmp_path: Path
):
    model = decoder_make("llama", tmp_path, intermediate_size=inner)
    assert (model._program is not None) == compiled
    inputs = decodes(model, [5, 9, 17])
    assert torch.equal(model.hidden(inputs), one_by_one(model, inputs))


@torch.inference_mode()
def test_what_a_step_gave_stays_when_others_follow(tmp_path: Path):
    model = decoder_make("llama", tmp_path)
    given = model.hidden(decodes(model, [5, 9]))
    kept = given.clone()
    for lengths in ([8, 2], [3] * 20):
        model.hidden(decodes(model, lengths))
    assert torch.equal(given, kept)


@pytest.mark.parametrize("name", ["gemma3", "qwen3-moe"])
def test_families_with_other_parts_go_layer_by_layer(name: str, tmp_path: Path):
    model = model_load(model_make(name, tmp_path), device=CPU, dtype=torch.float32)
    assert isinstance(model, Decoder)
    assert any(layer.parts is None for layer in model._layers)


def test_prompts_go_through_it_and_steps_too_large_layer_by_layer_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = model_make("llama", tmp_path / "model")
    prompts = {f"p{length}": prompt_make(length, length) for length in (1, 2, 17, 40, 70)}
    real, rows = LayerProgram._run, []

    def counted(program: LayerProgram, hidden: Tensor, *rest: Any) -> None:
        rows.append(hidden.shape[0])
        real(program, hidden, *rest)

    def logits() -> dict[str, Tensor]:
        rows.clear()
        return forced_logits(engine_parts(folder, tmp_path, kv_tokens=512, step_tokens=24), prompts)

    monkeypatch.setattr(LayerProgram, "_run", counted)
    whole = logits()
    assert sum(rows) == sum(map(len, prompts.values()))
    monkeypatch.setattr("kindling_engine.jit.program._MOST_BYTES", 0)
    in_layers = logits()
    assert not rows
    assert all(torch.equal(in_layers[name], found) for name, found in whole.items())
