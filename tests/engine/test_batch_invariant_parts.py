"""What holds the batch-invariant mode up: tiles of rows, each part of a decoder, and where it is refused."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_backend_models import backend_model_make
from kindling_engine.jit.decode import compiled_decode, decode_kernel
from kindling_engine.layers.attention import attention_for
from kindling_engine.layers.attention_tiles import tiles_plan
from kindling_engine.layers.invariant import tiled_activation
from kindling_engine.layers.linear import Linear
from kindling_engine.layers.mlp import ACTIVATIONS
from kindling_engine.layers.rotary import Rotary
from kindling_engine.layers.row_tiles import RowTiles, bits_equal, heights_proven
from kindling_engine.lora.batch import LoraBatch
from kindling_engine.models.errors import ModelError
from kindling_engine.models.invariance import invariance_allow
from kindling_engine.models.weight_forms import PLAIN
from kindling_engine.sampling.filters import Filters, candidates_select
from kindling_engine.sampling.logprobs import LogprobTable, log_mass
from kindling_invariance import adapter_pin, alone_logits, differing, invariant_parts, prompts_make
from kindling_parity import engine_parts, forced_logits, prompt_make
from kindling_tiny_encoders import encoder_make
from kindling_tiny_models import adapter_make, model_make

ROW = torch.zeros(1, 40)


def _heights(function: Any, **options: Any) -> tuple[int, ...]:
    return heights_proven(function, object(), ROW, **options)


def test_a_function_that_looks_at_its_neighbours_runs_a_row_at_a_time():
    def scaled(x: Tensor) -> Tensor:
        return x / x.abs().max()

    assert _heights(scaled) == (1,)
    rows = torch.randn(70, 40)
    assert bits_equal(RowTiles(scaled, "scaled")(rows), torch.cat([scaled(row) for row in rows.split(1)]))


def test_so_does_one_for_which_places_differ():
    def placed(x: Tensor) -> Tensor:
        return x * (1 + 1e-6 * torch.arange(len(x))[:, None])

    assert _heights(placed) == (1,)


def test_heights_with_another_kernel_are_left_out():
    def tall(x: Tensor) -> Tensor:
        return x * 1.1 if len(x) >= 8 else (x * 1.1).nextafter(x)

    assert _heights(tall) == (8, 16, 32, 64)
    seen = []

    def counted(x: Tensor) -> Tensor:
        seen.append(len(x))
        return tall(x)

    tiles = RowTiles(counted, "counted")
    rows = torch.randn(140, 40)
    whole = tiles(rows)
    seen.clear()
    assert bits_equal(tiles(rows[:3]), whole[:3]) and bits_equal(tiles(rows[50:75]), whole[50:75])
    assert bits_equal(tiles(rows), rows * 1.1)
    assert seen == [8, 32, 64, 64, 16]


@pytest.mark.parametrize(("outputs", "inputs"), [(6, 64), (64, 40), (960, 576), (512, 520)])
def test_a_row_of_a_product_has_the_same_bits_among_any_number(outputs: int, inputs: int):
    weight = torch.randn(outputs, inputs)
    tiles = RowTiles(Linear(weight), ("test", weight.shape))
    rows = torch.randn(150, inputs)
    whole = tiles(rows)
    for start, stop in ((0, 1), (3, 5), (7, 10), (64, 150), (149, 150), (11, 44)):
        assert bits_equal(tiles(rows[start:stop]), whole[start:stop])
    assert torch.allclose(whole, rows @ weight.T, atol=1e-3)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """torch splits rows of 32,768 elements and more between threads, and one of many by its middle."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def test_one_row_of_many_logits_is_summed_as_a_row_of_several_is(two_threads: None):
    logits = torch.randn(40, 60_000, generator=torch.Generator().manual_seed(0)) - 12
    # Then the sum is near one, and its logarithm hides nothing.
    logits[:, 0] = 0
    alone = [log_mass(row, row_by_row=True) for row in logits.split(1)]
    assert bits_equal(torch.cat(alone), log_mass(logits, row_by_row=True))
    ordinary = [log_mass(row, row_by_row=False) for row in logits.split(1)]
    assert not bits_equal(torch.cat(ordinary), log_mass(logits, row_by_row=False)), "ordinary sums would do"


@pytest.mark.parametrize("name", ["silu", "gelu", "gelu_pytorch_tanh"])
def test_an_activation_has_the_same_bits_wherever_threads_part(two_threads: None, name: str):
    """Where a thread's share ends within a row, its last elements are computed one by one, and otherwise."""
    both = torch.randn(160, 2 * 1001, generator=torch.Generator().manual_seed(0))
    inputs = both.chunk(2, dim=-1)[0]
    tiled, ordinary = tiled_activation(name), ACTIVATIONS[name]
    whole, single = tiled(inputs), torch.cat([ordinary(row) for row in inputs.split(1)])
    counts = range(61, 160, 2)
    assert all(bits_equal(tiled(inputs[:count]), whole[:count]) for count in counts)
    assert torch.allclose(whole, single, atol=1e-6)
    if name == "silu":
        assert not all(bits_equal(ordinary(inputs[:count]), single[:count]) for count in counts)


def test_alternatives_of_equal_logits_do_not_depend_on_what_a_neighbour_wants():
    logits = torch.randint(0, 30, (2, 320), generator=torch.Generator().manual_seed(0)).float()
    tokens = torch.tensor([1, 2])
    reports = {}
    for row_by_row in (True, False):
        alone = LogprobTable(logits[:1], row_by_row=row_by_row).report(tokens[:1], [3]).read()
        both = LogprobTable(logits, row_by_row=row_by_row).report(tokens, [3, 20]).read()
        reports[row_by_row] = alone[0], both[0]
    assert reports[True][0] == reports[True][1]
    assert reports[False][0] != reports[False][1], "ordinary tables would do"


def test_candidates_row_by_row_are_the_ordinary_ones():
    scaled = torch.randn(5, 900)
    column = torch.full((5, 1), 0.9)
    filters = Filters(torch.tensor([[0], [3], [0], [400], [20]]), column, 0 * column, column)
    ordinary, single = (candidates_select(scaled, filters, row_by_row=one) for one in (False, True))
    assert torch.equal(ordinary.ids, single.ids) and torch.equal(ordinary.complete, single.complete)
    assert torch.allclose(ordinary.logits, single.logits)


def test_rows_read_a_chunk_together_if_all_of_them_see_all_of_it():
    blocks = np.tile(np.arange(1, 21), (5, 1))
    blocks[4] += 100
    positions = np.array([[300], [200], [290], [130], [300]])
    plan = tiles_plan(blocks, positions, None, torch.device("cpu"))
    assert plan.order is not None and plan.order.tolist() == [0, 2, 4, 1, 3]
    (first,), second, third = plan.chunks[0].shared, plan.chunks[1], plan.chunks[2]
    assert first.tiles.tolist() == [0, 1, 3, 4] and first.pages.tolist() == list(range(1, 9))
    assert plan.chunks[0].own is not None and plan.chunks[0].own.tolist() == [2]
    # In the second chunk two rows end, and two of three do not make a group.
    assert (second.count, second.own, second.shared, third.count) == (5, None, (), 3)
    windowed = tiles_plan(blocks[:4], positions[:4] % 200 + 100, 60, torch.device("cpu"))
    assert not any(chunk.shared for chunk in windowed.chunks)


def _plain_router(weight: Tensor, bias: Tensor | None) -> Any:
    return partial(F.linear, weight=weight, bias=bias)


def _decodes_alone(**options: Any) -> Any:
    return compiled_decode(**{**options, "always": False})


# What takes a part away: its place, and what ordinary steps have there; and a model in which it matters.
PARTS = {
    "projections": ("models.decoder_weights.TILED", PLAIN, "llama"),
    "attention": ("models.decoder_weights.attention_for", lambda device, **_: attention_for(device), "llama"),
    "rows singly": ("models.decoder_weights.compiled_decode", _decodes_alone, "llama"),
    "windows": ("models.decoder_weights.attention_for", lambda device, **_: attention_for(device), "gemma2"),
    "router": ("models.decoder_weights.tiled_router", _plain_router, "qwen3-moe"),
    "rotation": ("models.decoder.SingleRotary", Rotary, "llama-dynamic"),
    "adapters": ("runner.runner.TiledLoraBatch", LoraBatch, "llama"),
}


def prompts_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as ordinary steps can tell, which read rows of shorter ones as the mode does."""
    monkeypatch.setattr("kindling_engine.jit.decode._PROMPT_BYTES", 0)


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str):
    place, ordinary, name = PARTS[part]
    prompts_are_long(monkeypatch)
    if part == "rows singly" and decode_kernel(16) is None:
        pytest.skip("no code is made for this processor")
    # Code compiled for the processor keeps bits by itself; tiles are for machines without it.
    if part == "projections":
        for user in ("linear", "embedding"):
            monkeypatch.setattr(f"kindling_engine.layers.{user}.linear_kernel", lambda: None)
    if part == "attention":
        monkeypatch.setattr("kindling_engine.jit.decode.decode_kernel", lambda _: None)
    folder = model_make(name, tmp_path / "model")
    # Many of one token: a router of six experts has one kernel for a lone row and another for all others.
    prompts = prompts_make((2, 33, 100, 150)) | {f"one{seed}": prompt_make(1, seed) for seed in range(24)}
    if part == "rows singly":
        # In chunks of thirteen, its last token has a step to itself, as a decoded one.
        prompts = prompts_make((40,))
    adapter = adapter_make(folder, tmp_path / "a", r=5, target_modules=["q_proj", "o_proj"])
    adapters = {name: "a" for name in prompts if part == "adapters"}

    def bits() -> list[str]:
        parts = invariant_parts(folder, tmp_path, step_tokens=512)
        together = invariant_parts(folder, tmp_path, step_tokens=13)
        for one in (parts, together):
            adapter_pin(one, "a", adapter)
        return differing(forced_logits(together, prompts, adapters), alone_logits(parts, prompts, adapters))

    assert bits() == []
    monkeypatch.setattr(f"kindling_engine.{place}", ordinary)
    assert bits()


@pytest.mark.parametrize("name", ["llama", "qwen3-moe", "gemma2"])
def test_ordinary_steps_depend_on_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    """Or the mode and its tests would be for nothing."""
    prompts_are_long(monkeypatch)
    folder, prompts = model_make(name, tmp_path / "model"), prompts_make()
    alone = alone_logits(engine_parts(folder, tmp_path, kv_tokens=2048), prompts)
    assert differing(
        forced_logits(engine_parts(folder, tmp_path, kv_tokens=2048, step_tokens=13), prompts), alone
    )


def test_it_is_refused_by_name_where_it_cannot_be_kept(tmp_path: Path):
    backend = backend_model_make("GPT2LMHeadModel", tmp_path / "backend")
    encoder = encoder_make("bert", tmp_path / "encoder")
    for folder, architecture in ((backend, "GPT2LMHeadModel"), (encoder, "BertModel")):
        with pytest.raises(ModelError, match=architecture) as refused:
            invariant_parts(folder, tmp_path)
        assert refused.value.code == "unsupported_mode"
    with pytest.raises(ModelError, match="not on cuda") as refused:
        invariance_allow("LlamaForCausalLM", torch.device("cuda"), decoder=True)
    assert refused.value.code == "unsupported_mode"
