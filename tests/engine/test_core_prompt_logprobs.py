"""Log-probabilities of prompts, compared with transformers' log-softmax: in chunks, beside others, after preemption."""

from pathlib import Path

import pytest
import torch

from kindling_core_rig import Rig, rig_make
from kindling_engine.protocol.sampling import Sampling, TokenLogprobs
from kindling_engine.sampling import prompt_scores
from kindling_engine.scheduler.scheduler import Scheduler
from kindling_tiny_models import VOCAB, adapter_make, model_make, reference_load

GREEDY = Sampling(temperature=0.0, ignore_eos=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_make("qwen3", tmp_path_factory.mktemp("m"))


@pytest.fixture(scope="module")
def reference(model: Path):
    return reference_load(model)


def prompt_make(seed: int, length: int) -> list[int]:
    return torch.randint(3, VOCAB, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def scores_of(rig: Rig, request_id: str) -> list[TokenLogprobs | None]:
    found = [item.prompt_logprobs for item in rig.items() if item.id == request_id and item.prompt_logprobs]
    assert len(found) == 1, "the scores come once"
    return found[0]


def check(reference, prompt: list[int], scores: list[TokenLogprobs | None], count: int) -> None:
    with torch.inference_mode():
        expected = reference(torch.tensor([prompt])).logits[0].log_softmax(-1)
    assert len(scores) == len(prompt)
    assert scores[0] is None
    for position, token in enumerate(prompt[1:]):
        one = scores[position + 1]
        assert one is not None
        assert one.logprob == pytest.approx(expected[position, token].item(), abs=1e-4)
        best = expected[position].topk(count)
        assert [value for _, value in one.top] == pytest.approx(best.values.tolist(), abs=1e-4)
        for token_id, value in one.top:
            assert expected[position, token_id].item() == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize("length", [1, 2, 16, 17, 130])
def test_scores_equal_the_references_log_softmax(model, reference, tmp_path, length):
    rig, prompt = rig_make(model, tmp_path), prompt_make(length, length)
    rig.submit("a", prompt, max_tokens=3, prompt_logprobs=3, sampling=GREEDY)
    rig.run_until("a")
    check(reference, prompt, scores_of(rig, "a"), 3)
    assert len(rig.tokens("a")) == 3


def test_chunks_of_prefill_and_of_logits_change_nothing(model, reference, tmp_path, monkeypatch):
    monkeypatch.setattr(prompt_scores, "CHUNK_ELEMENTS", 7 * VOCAB)
    seen = []
    add = prompt_scores.PromptScores.add

    def watched(self, tokens, span, hidden, logits_of, **more) -> None:
        seen.append(span)
        add(self, tokens, span, hidden, lambda part: (_few(part), logits_of(part))[1], **more)

    def _few(part: torch.Tensor) -> None:
        assert len(part) <= 7

    monkeypatch.setattr(prompt_scores.PromptScores, "add", watched)
    rig, prompt = rig_make(model, tmp_path, step_tokens=64), prompt_make(5, 200)
    rig.submit("a", prompt, max_tokens=2, prompt_logprobs=0, sampling=GREEDY)
    rig.run_until("a")
    check(reference, prompt, scores_of(rig, "a"), 0)
    assert [position for span in seen for position in span] == list(range(199))
    assert len(seen) > 2


def test_a_cached_prefix_is_computed_again_for_its_scores_and_shared_by_others(model, reference, tmp_path):
    rig, prompt = rig_make(model, tmp_path), prompt_make(6, 100)
    rig.submit("first", prompt, max_tokens=2)
    rig.run_until("first")
    rig.submit("scored", prompt, max_tokens=2, prompt_logprobs=1)
    rig.submit("plain", prompt, max_tokens=2)
    rig.run_until("scored", "plain")
    check(reference, prompt, scores_of(rig, "scored"), 1)
    assert (rig.end("scored").cached_tokens, rig.end("plain").cached_tokens) == (0, 96)
    assert rig.tokens("first") == rig.tokens("scored") == rig.tokens("plain")


def test_scores_beside_other_requests_adapters_and_preemption(model, reference, tmp_path, monkeypatch):
    preempted: set[str] = set()
    preempt = Scheduler._preempt

    def watched(self, victim, rows) -> None:
        preempted.add(victim.id)
        preempt(self, victim, rows)

    monkeypatch.setattr(Scheduler, "_preempt", watched)
    adapter_make(model, tmp_path / "x", r=4, target_modules=["q_proj"])
    rig = rig_make(model, tmp_path, kv_tokens=288, step_tokens=64, max_batch=8)
    prompts = {f"s{index}": prompt_make(20 + index, 40 + 7 * index) for index in range(4)}
    rig.submit("x", prompt_make(1, 30), adapter="x", max_tokens=60, sampling=GREEDY)
    for name, prompt in prompts.items():
        rig.submit(name, prompt, max_tokens=50, prompt_logprobs=2, logprobs=1, sampling=GREEDY)
        rig.submit(f"{name}-other", prompt_make(50, 20), max_tokens=40, sampling=GREEDY)
    rig.run_until("x", *prompts)
    for name, prompt in prompts.items():
        check(reference, prompt, scores_of(rig, name), 2)
    assert preempted & set(prompts)


def test_too_many_alternatives_are_refused_by_the_core(model, tmp_path):
    rig = rig_make(model, tmp_path)
    rig.submit("a", [5, 6], prompt_logprobs=21)
    assert (rig.end("a").error_code, rig.end("a").finish) == ("invalid_value", "error")
