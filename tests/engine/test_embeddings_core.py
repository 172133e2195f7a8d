"""Embeddings through the core's own scheduler: equal to transformers, batched, fair, cancelled in a step."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kindling_core_rig import Rig, rig_make
from kindling_engine.protocol.ipc import AdapterLoaded, Cancel, Embed, Embedded, LoadAdapter, Submit
from kindling_tiny_encoders import VOCAB, decoder_make, encoder_make, reference_states, texts_make
from kindling_tiny_models import model_make


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_make("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return decoder_make(tmp_path_factory.mktemp("qwen"))


def embeds(texts: list[list[int]], **fields) -> list[Embed]:
    return [Embed(f"r/{index}", text, **fields) for index, text in enumerate(texts)]


def answer(rig: Rig, request_id: str) -> Embedded | None:
    return next((one for one in rig.answers(Embedded) if one.id == request_id), None)


def vectors(rig: Rig, messages: list[Embed]) -> np.ndarray:
    rig.turn(*messages)
    rig.wait(lambda: all(answer(rig, message.id) for message in messages))
    found = [answer(rig, message.id) for message in messages]
    assert all(one.finish == "stop" for one in found), found
    return np.stack([np.frombuffer(one.values, dtype="<f4") for one in found])


def last_states(folder: Path, texts: list[list[int]]) -> np.ndarray:
    return torch.stack([states[-1] for states in reference_states(folder, texts)]).numpy()


def test_an_encoder_equals_transformers_in_mixed_batches(bert: Path, tmp_path: Path):
    rig = rig_make(bert, tmp_path, step_tokens=100)
    texts = texts_make([3, 60, 1, 128, 7, 90, 12, 12, 33, 5])
    found = vectors(rig, embeds(texts))
    expected = torch.stack([states.mean(0) for states in reference_states(bert, texts)]).numpy()
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    alone = rig_make(bert, tmp_path)
    for index, text in enumerate(texts):
        one = vectors(alone, [Embed(f"alone/{index}", text)])[0]
        assert np.abs(one - found[index]).max() <= 1e-5


def test_a_decoder_equals_transformers_with_chunks_and_cached_prefixes(qwen: Path, tmp_path: Path):
    rig = rig_make(qwen, tmp_path, step_tokens=64, max_batch=8)
    shared = texts_make([70])[0]
    texts = [*texts_make([3, 150, 16, 200, 17, 1]), [*shared, 9, 2], [*shared, 11, 2], [*shared, 9, 2]]
    found = vectors(rig, embeds(texts))
    expected = last_states(qwen, texts)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    cached = [answer(rig, f"r/{index}").cached_tokens for index in range(len(texts))]
    assert cached[:7] == [0] * 7
    assert min(cached[7:]) >= 32
    assert rig.core._parts.kv.pool.free_count == rig.core._parts.kv.pool.capacity


def test_a_text_may_fill_the_context_and_not_more(bert: Path, qwen: Path, tmp_path: Path):
    for model, limit in ((bert, 128), (qwen, 512)):
        rig = rig_make(model, tmp_path)
        assert rig.core.ready().context_length == limit
        assert vectors(rig, [Embed("full", texts_make([limit])[0])]).shape == (1, 64)
        rig.turn(Embed("over", texts_make([limit + 1])[0]))
        assert answer(rig, "over").error_code == "context_length_exceeded"


def test_short_texts_share_a_step_and_a_long_one_is_never_cut(bert: Path, tmp_path: Path):
    rig = rig_make(bert, tmp_path, step_tokens=64)
    rig.turn(*embeds(texts_make([10, 10, 10, 128, 10])))
    assert {one.id for one in rig.answers(Embedded)} == {"r/0", "r/1", "r/2"}
    rig.turn()
    assert {one.id for one in rig.answers(Embedded)} == {"r/0", "r/1", "r/2", "r/3"}
    rig.turn()
    assert len(rig.answers(Embedded)) == 5


def test_a_flood_of_one_tenant_does_not_hold_up_another(bert: Path, tmp_path: Path):
    rig = rig_make(bert, tmp_path, step_tokens=64)
    flood = [Embed(f"flood/{index}", text, tenant="a") for index, text in enumerate(texts_make([60] * 20))]
    rig.turn(*flood)
    rig.turn(Embed("late", texts_make([60])[0], tenant="b"))
    rig.turn()
    assert answer(rig, "late") is not None
    assert len(rig.answers(Embedded)) <= 4


def test_a_cancelled_text_ends_within_a_step(qwen: Path, tmp_path: Path):
    rig = rig_make(qwen, tmp_path, step_tokens=64, max_batch=8)
    rig.turn(Embed("long", texts_make([300])[0]), Embed("waiting", texts_make([300], seed=3)[0]))
    rig.turn(Cancel("long"), Cancel("waiting"))
    assert [answer(rig, name).finish for name in ("long", "waiting")] == ["cancelled", "cancelled"]
    assert rig.core._parts.kv.pool.free_count == rig.core._parts.kv.pool.capacity
    assert vectors(rig, [Embed("next", texts_make([20])[0])]).shape == (1, 64)


def test_a_vector_that_is_not_finite_is_an_error_and_the_batch_goes_on(tmp_path: Path):
    from safetensors.torch import load_file, save_file

    folder = encoder_make("bert", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"][99] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    rig = rig_make(folder, tmp_path)
    rig.turn(Embed("bad", [5, 99, 6]), Embed("good", [5, 98, 6, 7]))
    assert answer(rig, "bad").finish == "error"
    assert answer(rig, "bad").error_code == "non_finite_embedding"
    assert answer(rig, "bad").values == b""
    assert answer(rig, "good").finish == "stop"


@pytest.mark.parametrize("make", ["bert", "qwen"])
def test_a_step_that_fails_once_costs_nobody_anything(
    make: str, request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = request.getfixturevalue(make)
    texts = texts_make([9, 20, 4])
    expected = vectors(rig_make(model, tmp_path), embeds(texts))
    rig = rig_make(model, tmp_path)
    loaded = rig.core._parts.runner._model
    hidden, failures = loaded.hidden, iter([RuntimeError("once")])

    def fail_once(inputs):
        for failure in failures:
            raise failure
        return hidden(inputs)

    monkeypatch.setattr(loaded, "hidden", fail_once)
    assert np.allclose(vectors(rig, embeds(texts)), expected, atol=1e-5)


@pytest.mark.parametrize("make", ["bert", "qwen"])
def test_bad_requests_are_refused_and_the_core_lives(make: str, request, tmp_path: Path):
    rig = rig_make(request.getfixturevalue(make), tmp_path)
    rig.turn(
        Embed("empty", []),
        Embed("id", [VOCAB]),
        Embed("adapter", [5], adapter="ab" * 32),
        Submit("text", [5, 6]),
    )
    codes = {one.id: one.error_code for one in rig.answers(Embedded)}
    assert codes == {"empty": "invalid_value", "id": "invalid_value", "adapter": "adapter_load_failed"}
    assert rig.end("text").error_code == "not_a_generation_model"
    rig.turn(LoadAdapter("load", "ab" * 32, str(tmp_path)))
    rig.wait(lambda: bool(rig.answers(AdapterLoaded)))
    assert not rig.answers(AdapterLoaded)[0].ok
    assert vectors(rig, [Embed("fine", [5, 6])]).shape == (1, 64)


def test_a_generation_model_makes_no_embeddings(tmp_path: Path):
    rig = rig_make(model_make("llama", tmp_path), tmp_path)
    rig.turn(Embed("one", [5, 6]))
    assert answer(rig, "one").error_code == "not_an_embedding_model"


def test_the_core_says_what_it_is(bert: Path, qwen: Path, tmp_path: Path):
    for model in (bert, qwen):
        ready = rig_make(model, tmp_path).core.ready()
        assert (ready.task, ready.hidden_size) == ("embed", 64)
