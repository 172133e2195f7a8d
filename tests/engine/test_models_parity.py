"""The matrix: every architecture against transformers, in every way that a batch can be put together.

A new architecture joins by a line in kindling_tiny_models.MODELS. Its logits are teacher-forced in chunks that mix
with other requests; its greedy tokens come from batches in which requests join and leave, share cached prefixes,
and lose their blocks and are computed again. Windows, and the lengths that rotary scalings start from, are shorter
than the longest prompts.

Copy-on-write has no copies here: only full blocks are ever shared, a request writes behind the last of them, and
what it adds to a shared prefix goes into a block of its own. So the test of it is two requests that part in the
middle of a block, in the same step, and a third that comes back to the first one's tokens.
"""

from pathlib import Path

import pytest
import torch

from kindling_core_rig import Rig, rig_make
from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_parity import assert_greedy, assert_logits, engine_parts, forced_logits, prompt_make
from kindling_tiny_models import MODELS, model_make, reference_load, reference_logits

LENGTHS = (1, 2, 16, 17, 33, 100, 150)


@pytest.fixture(scope="module", params=MODELS)
def world(request, tmp_path_factory) -> tuple[Path, object]:
    """A checkpoint's folder, and the same checkpoint in transformers."""
    folder = model_make(request.param, tmp_path_factory.mktemp(request.param))
    return folder, reference_load(folder)


def _forced(world, tmp_path, step_tokens: int) -> None:
    folder, model = world
    prompts = {f"p{length}": prompt_make(length, length) for length in LENGTHS}
    parts = engine_parts(folder, tmp_path, step_tokens=step_tokens, kv_tokens=1024)
    for name, ours in forced_logits(parts, prompts).items():
        assert_logits(ours, reference_logits(model, prompts[name]), name)


def test_logits_in_chunks(world, tmp_path):
    _forced(world, tmp_path, 24)


@pytest.mark.long
@pytest.mark.parametrize("step_tokens", [8, 61, 512])
def test_logits_in_chunks_of_other_sizes(world, tmp_path, step_tokens):
    _forced(world, tmp_path, step_tokens)


def _greedy(world, rig: Rig, max_tokens: int, seed: int = 0) -> None:
    """Requests come and go, prompts in chunks beside decodes; one prompt is asked again at the end."""
    _, model = world
    shared = prompt_make(40, 7 + seed)
    prompts = {f"r{i}": prompt_make(length, i + seed) for i, length in enumerate((3, 70, 16, 31))}
    # They part within the third block, and one goes on beyond the other's end.
    prompts |= {f"s{i}": [*shared, *prompt_make(length, 100 + i + seed)] for i, length in enumerate((9, 50))}
    for name, tokens in prompts.items():
        rig.submit(name, tokens, max_tokens=max_tokens)
        rig.turn()
    rig.run_until(*prompts)
    prompts["again"] = prompts["s0"]
    rig.submit("again", prompts["again"], max_tokens=max_tokens)
    rig.run_until("again")
    for name, tokens in prompts.items():
        assert len(rig.tokens(name)) == max_tokens
        assert_greedy(model, tokens, rig.tokens(name))
    assert rig.end("again").cached_tokens == 3 * PAGE_SIZE


def test_greedy_tokens_with_prefixes_shared(world, tmp_path):
    _greedy(world, rig_make(world[0], tmp_path, step_tokens=40, kv_tokens=1024, max_batch=5), 12)


def test_greedy_tokens_with_requests_preempted(world, tmp_path):
    folder, model = world
    rig = rig_make(folder, tmp_path, step_tokens=40, kv_tokens=208, max_batch=5)
    preempted = _preemptions(rig)
    # The first two cross the trained length of rotary scalings while they generate.
    prompts = {f"r{i}": prompt_make(length, 20 + i) for i, length in enumerate((58, 60, 75))}
    for name, tokens in prompts.items():
        rig.submit(name, tokens, max_tokens=16)
    rig.run_until(*prompts)
    assert preempted
    for name, tokens in prompts.items():
        assert len(rig.tokens(name)) == 16
        assert_greedy(model, tokens, rig.tokens(name))


@pytest.mark.long
@pytest.mark.parametrize("seed", [1000, 2000, 3000])
@pytest.mark.parametrize("kv_tokens", [176, 256, 2048])
def test_greedy_tokens_of_longer_answers(world, tmp_path, seed, kv_tokens):
    folder, model = world
    rig = rig_make(folder, tmp_path, step_tokens=24, kv_tokens=kv_tokens, max_batch=6)
    lengths = torch.randint(1, 100, (10,), generator=torch.Generator().manual_seed(seed)).tolist()
    shared = prompt_make(100, seed)
    prompts = {
        f"r{i}": shared[:length] if i % 2 else prompt_make(length, seed + i)
        for i, length in enumerate(lengths)
    }
    for name, tokens in prompts.items():
        rig.submit(name, tokens, max_tokens=48)
        rig.turn()
    rig.run_until(*prompts)
    for name, tokens in prompts.items():
        assert_greedy(model, tokens, rig.tokens(name))


def test_dynamic_scaling_shares_no_blocks_between_lengths_beyond_the_trained_one(tmp_path):
    """Beyond 64 tokens the length of the prompt is in its keys; up to it the cache is one for all."""
    rig = rig_make(model_make("llama-dynamic", tmp_path / "model"), tmp_path)
    tokens = prompt_make(100, 3)
    lengths = {"a": 80, "b": 81, "c": 80, "d": 60, "e": 64, "f": 82}
    for name, length in lengths.items():
        rig.submit(name, tokens[:length], max_tokens=2)
        rig.run_until(name)
    cached = {name: rig.end(name).cached_tokens for name in lengths}
    assert cached == {"a": 0, "b": 0, "c": 64, "d": 0, "e": 48, "f": 0}


def test_generates_up_to_the_whole_context(tmp_path):
    folder = model_make("llama", tmp_path, max_position_embeddings=40)
    rig = rig_make(folder, tmp_path)
    tokens = prompt_make(30, 1)
    rig.submit("a", tokens, max_tokens=50)
    rig.run_until("a")
    assert rig.end("a").finish == "length" and len(rig.tokens("a")) == 10
    assert_greedy(reference_load(folder), tokens, rig.tokens("a"))


@pytest.mark.parametrize(("name", "context"), [("llama-dynamic", 256), ("llama-yarn", 256), ("gemma3", 512)])
def test_the_context_ends_where_the_scaling_does_and_not_at_the_window(tmp_path, name, context):
    folder = model_make(name, tmp_path)
    assert engine_parts(folder, tmp_path, kv_tokens=64).config.context_length == context


def test_a_salt_keeps_the_same_prompt_apart(tmp_path):
    rig = rig_make(model_make("llama", tmp_path / "model"), tmp_path)
    tokens = prompt_make(60, 3)
    for name, salt in (("first", ""), ("second", ""), ("salted", "other")):
        rig.submit(name, tokens, max_tokens=20, salt=salt)
        rig.run_until(name)
    assert [rig.end(name).cached_tokens for name in ("first", "second", "salted")] == [0, 48, 0]
    assert rig.tokens("first") == rig.tokens("second") == rig.tokens("salted")


def test_bf16_checkpoints_are_widened_on_a_cpu(tmp_path):
    folder = model_make("gemma3", tmp_path / "wide")
    narrow = tmp_path / "narrow"
    reference_load(folder).to(torch.bfloat16).save_pretrained(narrow)
    rig = rig_make(narrow, tmp_path)
    tokens = prompt_make(20, 1)
    rig.submit("a", tokens)
    rig.run_until("a")
    assert_greedy(reference_load(narrow), tokens, rig.tokens("a"))


def _preemptions(rig: Rig) -> list[str]:
    """Ids of requests that lose their blocks, as they do."""
    scheduler = rig.core._scheduler
    drop, seen = scheduler._preempt, []

    def noted(request, *rest) -> None:
        seen.append(request.id)
        drop(request, *rest)

    scheduler._preempt = noted
    return seen
