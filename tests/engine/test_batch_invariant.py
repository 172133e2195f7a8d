"""The batch-invariant mode: the bits of a request alone, and the same bits in every other way to compute it.

That ordinary steps do not keep them, and that each part of the mode is needed, is in
test_batch_invariant_parts.py.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kindling_core_rig import Rig
from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.llm import LLM, SamplingParams
from kindling_engine.protocol.ipc import Embed, Embedded
from kindling_engine_process import EngineProcess
from kindling_invariance import (
    LENGTHS,
    SAMPLED,
    adapter_pin,
    alone_logits,
    differing,
    invariant_parts,
    invariant_rig,
    prompts_make,
    told,
)
from kindling_parity import assert_logits, forced_logits, prompt_make
from kindling_tiny_encoders import decoder_make, texts_make
from kindling_tiny_models import adapter_make, model_make, reference_load, reference_logits

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


@pytest.fixture(scope="module", params=("llama", "qwen3-moe", "gemma2"))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_make(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def alone_by_name(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The logits of each prompt by itself."""
    parts = invariant_parts(folder, tmp_path_factory.mktemp("alone"), step_tokens=512)
    return alone_logits(parts, prompts_make())


@pytest.fixture(scope="module")
def sampled_alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each way to sample makes of one prompt, in an engine that has seen no other."""
    made = {}
    for name in SAMPLED:
        rig = invariant_rig(folder, tmp_path_factory.mktemp("alone"))
        made |= _sampled(rig, [name], prompt_make(75, 75), together=False)
    return made


@pytest.mark.parametrize("step_tokens", [1, 7, 61, 300])
def test_chunks_and_neighbours_change_no_bit(
    folder: Path, tmp_path: Path, alone_by_name: dict[str, Any], step_tokens: int
):
    together = forced_logits(invariant_parts(folder, tmp_path, step_tokens=step_tokens), prompts_make())
    assert differing(together, alone_by_name) == []


@pytest.mark.parametrize("name", ["llama-dynamic", "mistral-window", "phi3", "llama-bias", "gpt-oss"])
def test_neither_do_they_in_other_families(tmp_path: Path, name: str):
    folder = model_make(name, tmp_path / "model")
    prompts = prompts_make((2, 33, 100, 150))
    alone = alone_logits(invariant_parts(folder, tmp_path), prompts)
    together = forced_logits(invariant_parts(folder, tmp_path, step_tokens=13), prompts)
    assert differing(together, alone) == []


def test_logits_are_those_of_transformers(folder: Path, tmp_path: Path):
    model, prompts = reference_load(folder), prompts_make()
    ours = forced_logits(invariant_parts(folder, tmp_path, step_tokens=61), prompts)
    for name, tokens in prompts.items():
        assert_logits(ours[name], reference_logits(model, tokens), name)


def _sampled(rig: Rig, names: list[str], prompt: list[int], *, together: bool) -> dict[str, Any]:
    """What each way to sample makes of a prompt: one after another, or all at once beside strangers."""
    for name in names:
        rig.submit(name, prompt, max_tokens=20, sampling=SAMPLED[name], logprobs=5)
        if together:
            stranger = prompt_make(3 + 11 * len(name), len(name))
            rig.submit(f"beside {name}", stranger, max_tokens=9, logprobs=2)
            rig.turn()
        else:
            rig.run_until(name)
    rig.run_until(*names)
    return {name: told(rig, name) for name in names}


def test_sampled_tokens_and_their_logprobs_in_company(
    folder: Path, tmp_path: Path, sampled_alone: dict[str, Any]
):
    company = invariant_rig(folder, tmp_path, step_tokens=29)
    assert _sampled(company, list(SAMPLED), prompt_make(75, 75), together=True) == sampled_alone


def test_cached_prefixes_change_no_bit(folder: Path, tmp_path: Path, sampled_alone: dict[str, Any]):
    names, prompt = list(SAMPLED), prompt_make(75, 75)
    rig = invariant_rig(folder, tmp_path)
    again = _sampled(rig, names, prompt, together=False)
    assert [rig.end(name).cached_tokens for name in names] == [0, *[4 * PAGE_SIZE] * (len(names) - 1)]
    assert again == sampled_alone


def test_a_prefix_read_once_for_many_changes_no_bit(folder: Path, tmp_path: Path):
    """Rows that decode behind the same chunk of keys read it together."""
    names, prompt = list(SAMPLED), prompt_make(150, 150)
    rig = invariant_rig(folder, tmp_path)
    rig.submit("before", prompt, max_tokens=1)
    rig.run_until("before")
    together = _sampled(rig, names, prompt, together=True)
    for name in names:
        assert rig.end(name).cached_tokens == 144
        alone = _sampled(invariant_rig(folder, tmp_path), [name], prompt, together=False)
        assert together[name] == alone[name]


def test_requests_that_lose_their_blocks_get_the_same_bits_again(folder: Path, tmp_path: Path):
    names = list(SAMPLED)
    prompts = {name: prompt_make(50 + index, 60 + index) for index, name in enumerate(names)}
    alone = {}
    for name in names:
        alone |= _sampled(invariant_rig(folder, tmp_path), [name], prompts[name], together=False)
    rig = invariant_rig(folder, tmp_path, step_tokens=40, kv_tokens=208)
    for name in names:
        rig.submit(name, prompts[name], max_tokens=20, sampling=SAMPLED[name], logprobs=5)
    rig.run_until(*names)
    assert rig.core._scheduler.preemptions
    assert {name: told(rig, name) for name in names} == alone


def test_logprobs_of_a_prompt_in_company(folder: Path, tmp_path: Path):
    prompt, greedy = prompt_make(90, 90), replace(SAMPLED["plain"], temperature=0.0)
    found = []
    for neighbours, step_tokens in ((0, 512), (3, 31)):
        rig = invariant_rig(folder, tmp_path, step_tokens=step_tokens)
        for index in range(neighbours):
            rig.submit(f"n{index}", prompt_make(20 + index, index), max_tokens=5, prompt_logprobs=index)
        rig.submit("a", prompt, max_tokens=1, sampling=greedy, prompt_logprobs=4)
        rig.run_until("a")
        found.append(
            [item.prompt_logprobs for item in rig.items() if item.id == "a" and item.prompt_logprobs]
        )
    assert found[0] and found[0] == found[1]


def test_adapters_beside_each_other_change_no_bit(folder: Path, tmp_path: Path):
    folders = {
        name: adapter_make(folder, tmp_path / name, seed=rank, r=rank, target_modules=ATTENTION)
        for name, rank in (("a", 5), ("b", 16))
    }
    prompts = {
        f"{name or 'base'}{length}": prompt_make(length, length)
        for length in (1, 2, 30, 75)
        for name in ("", *folders)
    }
    adapters = {name: name[0] for name in prompts if not name.startswith("base")}

    def parts(**options: Any):
        made = invariant_parts(folder, tmp_path, **options)
        for name, path in folders.items():
            adapter_pin(made, name, path)
        return made

    alone = alone_logits(parts(), prompts, adapters)
    assert differing(forced_logits(parts(step_tokens=19), prompts, adapters), alone) == []
    assert differing({"a75": alone["a75"]}, {"a75": alone["base75"]}) == ["a75"]


FORMATS: dict[str, dict[str, Any]] = {
    "qwen3": {
        "r": 4,
        "target_modules": [*ATTENTION, "down_proj", "embed_tokens", "lm_head"],
        "use_dora": True,
    },
    "qwen3-moe": {"r": 3, "target_modules": ["gate"], "target_parameters": ["mlp.experts.gate_up_proj"]},
}


@pytest.mark.parametrize("name", FORMATS)
def test_adapters_of_other_formats_change_no_bit(tmp_path: Path, name: str):
    """Tables, heads, DoRA, routers and experts."""
    folder = model_make(name, tmp_path / "model")
    adapter = adapter_make(folder, tmp_path / "a", **FORMATS[name])
    prompts = {f"{kind}{n}": prompt_make(n, n) for n in (1, 2, 30, 75) for kind in ("a", "base")}
    adapters = {key: "a" for key in prompts if key.startswith("a")}
    found = []
    for step_tokens, logits_of in ((512, alone_logits), (19, forced_logits)):
        parts = invariant_parts(folder, tmp_path, step_tokens=step_tokens)
        adapter_pin(parts, "a", adapter)
        found.append(logits_of(parts, prompts, adapters))
    assert differing(*found) == []
    assert differing({"a75": found[0]["a75"]}, {"a75": found[0]["base75"]}) == ["a75"]


def test_vectors_of_an_embedding_decoder(tmp_path: Path):
    folder = decoder_make(tmp_path / "model")
    texts = texts_make(LENGTHS[:7])

    def vectors(rig: Rig, chosen: list[int]) -> dict[int, bytes]:
        rig.turn(*(Embed(f"{index}", texts[index]) for index in chosen))
        rig.wait(lambda: len(rig.answers(Embedded)) == len(chosen))
        return {int(one.id): one.values for one in rig.answers(Embedded)}

    together = vectors(invariant_rig(folder, tmp_path, step_tokens=23), list(range(len(texts))))
    for index in range(len(texts)):
        assert vectors(invariant_rig(folder, tmp_path), [index])[index] == together[index]
    assert np.frombuffer(together[0], dtype="<f4").any()


def test_the_offline_engine_has_the_mode(folder: Path):
    params = SamplingParams(temperature=1.0, seed=3, max_tokens=12, logprobs=3)
    prompts = [prompt_make(length, length) for length in (40, 3, 70, 18)]
    llm = LLM(folder, threads=1, kv_tokens=2048, batch_invariant=True)
    alone = llm.generate(prompts[:1], params)[0]
    company = llm.generate([prompt_make(9, 9), *prompts], params)[1]
    assert (company.token_ids, company.logprobs) == (alone.token_ids, alone.logprobs)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with EngineProcess(tmp_path_factory.mktemp("engine"), **{"batch-invariant": True}) as process:
        yield process


def test_choices_over_http_in_company(engine: EngineProcess):
    """Two seeded choices of one request, with log-probabilities, alone and beside others."""

    def choices(text: str) -> Any:
        message = [{"role": "user", "content": text}]
        asked = {
            "temperature": 1.0,
            "seed": 11,
            "n": 2,
            "max_tokens": 24,
            "logprobs": True,
            "top_logprobs": 4,
        }
        reply = engine.chat(messages=message, **asked)
        assert reply.status_code == 200, reply.text
        return reply.json()["choices"]

    text = "Tell me a story about a fox."
    alone = choices(text)
    with ThreadPoolExecutor(6) as pool:
        asked = [
            pool.submit(choices, one) for one in ("Hello!", text, "What is 2 + 2?", "Who are you?", text)
        ]
        company = [one.result() for one in asked]
    assert company[1] == company[4] == alone
    assert alone[0] != alone[1] and company[0] != alone
