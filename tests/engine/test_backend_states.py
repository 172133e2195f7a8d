"""Layers with a state, within transformers' modules: what is kept for a sequence is what it has been through."""

import json
from pathlib import Path

import pytest
import torch

from kindling_backend_models import backend_model_make
from kindling_core_rig import answers_of, calls_failing, rig_make
from kindling_engine.models.base import SequenceRows
from kindling_engine.models.registry import model_load
from kindling_engine.models.transformers_backend import TransformersModel
from kindling_parity import engine_parts

CPU = torch.device("cpu")
PROMPTS = {"a": list(range(3, 40)), "b": list(range(50, 59)), "c": [7]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    return backend_model_make("Qwen3NextForCausalLM", tmp_path_factory.mktemp("delta"))


@pytest.fixture(scope="module")
def undisturbed(folder: Path, tmp_path_factory) -> dict[str, list[int]]:
    return answers_of(rig_make(folder, tmp_path_factory.mktemp("blobs"), step_tokens=16), PROMPTS)


@pytest.mark.parametrize(
    ("where", "steps"),
    [
        ("_table", {2}),
        *((where, steps) for where in ("_forward", "logits", "launch") for steps in ({2, 7}, {3})),
    ],
)
def test_a_step_that_fails_runs_again(
    folder: Path, tmp_path: Path, undisturbed: dict[str, list[int]], where: str, steps: set[int]
):
    """As it takes states over, behind its last layer, in its logits or in its draws: each row by itself, from where it
    was.
    """
    rig = rig_make(folder, tmp_path, step_tokens=16)
    runner = rig.core._loop._runner
    model = runner._model
    place = {
        "_table": model._states, "_forward": model._trunk, "logits": model, "launch": runner._sampler,
    }[where]  # fmt: skip
    calls = calls_failing(place, where, steps)
    assert answers_of(rig, PROMPTS) == undisturbed
    assert {rig.end(name).finish for name in PROMPTS} == {"length"}
    assert len(calls) > max(steps)


def test_a_sequence_that_does_not_go_on_where_its_state_ends_is_an_error(folder: Path):
    model = model_load(folder, device=CPU, dtype=torch.float32)
    assert isinstance(model, TransformersModel) and model._states is not None
    with model._states.step([SequenceRows(0, 0, 5, 0)], CPU):
        pass
    for position in (4, 6):
        with (
            pytest.raises(RuntimeError, match="go on"),
            model._states.step([SequenceRows(0, 0, 1, position)], CPU),
        ):
            pass
    with model._states.step([SequenceRows(0, 0, 1, 5)], CPU) as options:
        assert options["use_cache"]


def test_a_row_that_another_sequence_had_begins_anew(
    folder: Path, tmp_path: Path, undisturbed: dict[str, list[int]]
):
    """With one seat all sequences follow each other in the same row."""
    assert answers_of(rig_make(folder, tmp_path, max_batch=1), PROMPTS) == undisturbed


def test_sequences_that_have_ended_or_wait_keep_no_states_of_others(folder: Path, tmp_path: Path):
    rig = rig_make(folder, tmp_path, max_batch=8)
    states = rig.core._loop._runner._model._states
    for number in range(8):
        waits = {"grant": 3} if number < 2 else {}
        rig.submit(str(number), [5 + number] * 8, max_tokens=4 + number, **waits)
    kept = []
    while rig.core._scheduler.has_work:
        rig.turn()
        kept.append(sum(len(one.rows) for one in {held for held, _ in states._held.values()}))
    assert 2 < max(kept) <= 8
    # Those that wait for their grants, and the last to end.
    assert kept[-1] == 3 and rig.core._scheduler.active == 2


def test_guesses_are_not_for_it(folder: Path, tmp_path: Path):
    parts = engine_parts(folder, tmp_path)
    assert parts.config.state_bytes == 3 * (4 * 16 * 16 + 4 * (2 * 2 * 16 + 4 * 16)) * 4
    assert parts.speculator is None and parts.scheduler.drafter is None


def test_a_model_without_a_last_position_has_a_bound(tmp_path: Path):
    folder = backend_model_make("MambaForCausalLM", tmp_path)
    path = folder / "config.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({name: kept[name] for name in kept if name != "max_position_embeddings"}))
    assert model_load(folder, device=CPU, dtype=torch.float32).config.context_length == 8192


def test_what_is_kept_for_sequences_is_counted_before_the_cache_is_sized(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from kindling_engine.core import startup
    from kindling_engine.models.errors import ModelError

    kept = engine_parts(folder, tmp_path).config.state_bytes
    monkeypatch.setattr(startup, "_free_bytes", lambda _: 1_000_000 + 16 * kept)
    assert engine_parts(folder, tmp_path, max_batch=16, kv_tokens=512).kv.pool.capacity >= 32
    monkeypatch.setattr(startup, "_free_bytes", lambda _: 1_000 + 16 * kept)
    with pytest.raises(ModelError, match="free"):
        engine_parts(folder, tmp_path, max_batch=16, kv_tokens=512)
