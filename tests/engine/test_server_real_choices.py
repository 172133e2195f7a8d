"""Several answers, echoes and log-probabilities out of a real engine, compared with transformers."""

import concurrent.futures
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import torch

from kindling_engine.server.starts import choice_seed
from kindling_engine_process import EngineProcess, ask, wait_until
from kindling_reference import Reference

PROMPT = "Once upon a time there was a fox"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with EngineProcess(tmp_path_factory.mktemp("engine")) as process:
        yield process


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


def complete(engine: EngineProcess, **fields: Any) -> dict[str, Any]:
    body = {"model": "m", "prompt": PROMPT, "temperature": 0, "max_tokens": 12} | fields
    reply = httpx.post(f"{engine.url}/v1/completions", json=body, headers=engine.headers(), timeout=60)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def log_softmax(reference: Reference, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode(), reference.model.disable_adapter():
        return reference.model(torch.tensor([ids])).logits[0].log_softmax(-1)


def sampled(engine: EngineProcess, **fields: Any) -> list[dict[str, Any]]:
    given = {"temperature": 1, "top_p": 0.95, "max_tokens": 20, "return_token_ids": True} | fields
    return list(engine.chat(**given).json()["choices"])


def test_each_of_n_answers_is_the_one_its_seed_gives_alone(engine: EngineProcess):
    several = sampled(engine, n=4, seed=11)
    for index, choice in enumerate(several):
        (single,) = sampled(engine, seed=choice_seed(11, index) - (choice_seed(11, index) >> 63 << 64))
        assert choice["token_ids"] == single["token_ids"], index
        assert choice["message"]["content"] == single["message"]["content"]
    assert len({tuple(choice["token_ids"]) for choice in several}) > 1


def test_unseeded_answers_differ(engine: EngineProcess):
    assert len({tuple(choice["token_ids"]) for choice in sampled(engine, n=4, temperature=1.5)}) > 1


def test_choices_share_the_prompt(engine: EngineProcess):
    messages = [{"role": "user", "content": "Tell me a long story about the very same fox. " * 6}]
    before = len(engine.records())
    usage = engine.chat(messages=messages, n=4, max_tokens=4, ignore_eos=True).json()["usage"]
    single = engine.chat(messages=messages, max_tokens=4, ignore_eos=True, headers={"salt": "x"}).json()[
        "usage"
    ]
    assert usage["prompt_tokens"] == single["prompt_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0
    assert usage["completion_tokens"] == 4 * single["completion_tokens"] == 16
    records = engine.records()[before:]
    assert [(one.prompt_tokens, one.completion_tokens) for one in records] == [
        (usage["prompt_tokens"], 16),
        (usage["prompt_tokens"], 4),
    ]


def test_several_prompts_answer_as_each_alone(engine: EngineProcess):
    prompts = [PROMPT, "The sea is", [5, 6, 7, 300], PROMPT]
    together = complete(engine, prompt=prompts)
    for prompt, choice in zip(prompts, together["choices"], strict=True):
        assert choice["text"] == complete(engine, prompt=prompt)["choices"][0]["text"]


def test_the_best_of_several_has_the_highest_mean_logprob(engine: EngineProcess):
    given = {"temperature": 1.3, "seed": 5, "logprobs": 0, "max_tokens": 10}
    every = complete(engine, n=6, ignore_eos=True, **given)["choices"]
    means = [sum(one["logprobs"]["token_logprobs"]) / 10 for one in every]
    ranked = sorted(range(6), key=lambda index: -means[index])
    best = complete(engine, n=2, best_of=6, ignore_eos=True, **given)
    assert [one["text"] for one in best["choices"]] == [every[index]["text"] for index in ranked[:2]]
    assert [one["index"] for one in best["choices"]] == [0, 1]
    assert best["usage"]["completion_tokens"] == 60


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_equal_the_references(engine: EngineProcess, reference: Reference, stream: bool):
    body = {"model": "m", "prompt": PROMPT, "temperature": 0.9, "seed": 3, "max_tokens": 16, "logprobs": 4,
            "return_token_ids": True, "stream": stream, "top_k": 30, "frequency_penalty": 0.5}  # fmt: skip
    reply = httpx.post(f"{engine.url}/v1/completions", json=body, headers=engine.headers(), timeout=60)
    if stream:
        from kindling_fake_core import events

        choices = [chunk["choices"][0] for chunk in events(reply.content)[:-2]]
    else:
        choices = reply.json()["choices"]
    prompt = choices[0]["prompt_token_ids"]
    made = [token for choice in choices for token in choice.get("token_ids", [])]
    joined = {name: [one for choice in choices if choice["logprobs"] for one in choice["logprobs"][name]]
              for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")}  # fmt: skip
    text = "".join(choice["text"] for choice in choices)
    expected = log_softmax(reference, prompt + made)
    assert len(joined["tokens"]) in {len(made), len(made) - 1}  # an end token is not shown
    for place, logprob in enumerate(joined["token_logprobs"]):
        row = expected[len(prompt) + place - 1]
        assert logprob == pytest.approx(row[made[place]].item(), abs=2e-3)
        top = joined["top_logprobs"][place]
        assert top[joined["tokens"][place]] == logprob
        assert len(top) in {4, 5}
        best = sorted(top.values(), reverse=True)[:4]
        assert best == pytest.approx(row.topk(4).values.tolist(), abs=2e-3)
        assert text[joined["text_offset"][place] :].startswith(joined["tokens"][place])


def test_a_prompt_is_scored_as_by_the_reference(engine: EngineProcess, reference: Reference):
    prompts = [PROMPT, "A naïve café 🦊 said hello to everybody in the forest. " * 8]
    for _ in range(2):  # the second time its blocks are in the cache
        body = complete(engine, prompt=prompts, echo=True, logprobs=2, max_tokens=0, return_token_ids=True)
        assert body["usage"]["completion_tokens"] == 0
        for prompt, choice in zip(prompts, body["choices"], strict=True):
            logprobs, ids = choice["logprobs"], choice["prompt_token_ids"]
            assert choice["text"] == prompt
            assert choice["token_ids"] == []
            expected = log_softmax(reference, ids)
            assert logprobs["token_logprobs"][0] is None
            chosen = [expected[place, token].item() for place, token in enumerate(ids[1:])]
            assert logprobs["token_logprobs"][1:] == pytest.approx(chosen, abs=2e-3)
            for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
                assert token.startswith("bytes:") or prompt[offset:].startswith(token)


def test_an_echo_is_followed_by_the_same_answer(engine: EngineProcess):
    plain = complete(engine)["choices"][0]["text"]
    echoed = complete(engine, echo=True, logprobs=0)["choices"][0]
    assert echoed["text"] == PROMPT + plain
    shown = echoed["logprobs"]
    assert "".join(shown["tokens"]) == PROMPT + plain
    assert shown["text_offset"] == [
        len("".join(shown["tokens"][:place])) for place in range(len(shown["tokens"]))
    ]


def test_min_tokens_and_stop_tokens(engine: EngineProcess, reference: Reference):
    push = {str(token): 100 for token in sorted(reference.eos)[:1]}
    short = engine.chat(logit_bias=push, max_tokens=20).json()
    held = engine.chat(logit_bias=push, max_tokens=20, min_tokens=5).json()
    assert (short["usage"]["completion_tokens"], held["usage"]["completion_tokens"]) == (1, 6)
    made = sampled(engine, temperature=0, ignore_eos=True, max_tokens=8)[0]["token_ids"]
    (stopped,) = sampled(engine, temperature=0, ignore_eos=True, max_tokens=8, stop_token_ids=[made[3]])
    assert stopped["token_ids"] == made[: made.index(made[3]) + 1]
    assert stopped["finish_reason"] == "stop"


def test_a_client_of_many_answers_that_leaves_ends_them_all(engine: EngineProcess):
    headers = engine.headers()
    body = ask(stream=True, max_tokens=900, ignore_eos=True, n=8)
    with httpx.stream(
        "POST", f"{engine.url}/v1/chat/completions", json=body, headers=headers, timeout=60
    ) as reply:
        for count, _ in enumerate(reply.iter_lines()):
            if count > 4:
                break
    identity = headers["x-kindling-request"]
    wait_until(lambda: any(one.request_id == identity for one in engine.records()))
    (record,) = [one for one in engine.records() if one.request_id == identity]
    assert (record.finish, record.completion_tokens < 8 * 900) == ("cancelled", True)
    wait_until(lambda: httpx.get(f"{engine.url}/healthz", timeout=60).json()["active"] == 0)


# Bodies that cannot be served, beside one that can.

DEEP = b'{"model": "m", "messages": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"


def chat_body(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "Secret words"}], **fields}


HOSTILE: dict[str, tuple[str, bytes | dict[str, Any], str]] = {
    "empty messages": ("chat", chat_body(messages=[]), "messages"),
    "long prompt": ("chat", chat_body(messages=[{"role": "user", "content": "word " * 3000}]), "messages"),
    "very long prompt": ("chat", chat_body(messages=[{"role": "user", "content": "word " * 900_000}]), "messages"),
    "invalid utf-8": ("chat", b'{"model": "m", "messages": [{"role": "user", "content": "\xff\xfe"}]}', ""),
    "nan": ("chat", b'{"model": "m", "temperature": NaN}', ""),
    "infinity": ("chat", b'{"model": "m", "temperature": -Infinity}', ""),
    "1e999": ("chat", b'{"model": "m", "temperature": 1e999}', "temperature"),
    "unknown role": ("chat", chat_body(messages=[{"role": "wizard", "content": "x"}]), "messages[0].role"),
    "10,000 stops": ("chat", chat_body(stop=["x"] * 10_000), "stop"),
    "deep": ("chat", DEEP, ""),
    "huge integer": ("chat", chat_body(max_tokens=10**400), "max_tokens"),
    "huger integer": ("chat", b'{"model": "m", "seed": 1' + b"0" * 10_000 + b"}", ""),
    "huge seed": ("chat", chat_body(seed=2**63), "seed"),
    "lone surrogate": ("chat", chat_body(messages=[{"role": "user", "content": "\ud800"}]), "messages[0].content"),
    "token out of range": ("plain", {"model": "m", "prompt": [5, 2048]}, "prompt"),
    "negative token": ("plain", {"model": "m", "prompt": [-5]}, "prompt"),
    "bias out of range": ("chat", chat_body(logit_bias={"999999": 1}), "logit_bias"),
    "bias too large": ("chat", chat_body(logit_bias={"5": 1e9}), "logit_bias.5"),
    "both limits": ("chat", chat_body(max_tokens=5, max_completion_tokens=5), "max_completion_tokens"),
    "unknown field": ("chat", chat_body(colour="red"), "colour"),
    "too many answers": ("chat", chat_body(n=17), "n"),
    "stop token out of range": ("chat", chat_body(stop_token_ids=[99_999]), "stop_token_ids"),
    "too many prompts": ("plain", {"model": "m", "prompt": ["x"] * 200}, "prompt"),
}  # fmt: skip


def post_raw(engine: EngineProcess, route: str, body: bytes | dict[str, Any]) -> httpx.Response:
    path = "/v1/chat/completions" if route == "chat" else "/v1/completions"
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(f"{engine.url}{path}", headers=engine.headers(), timeout=60, content=raw)


def test_hostile_bodies_are_refused_and_disturb_nobody(engine: EngineProcess):
    """While answers are being made, every body gets its 400 by name; the answers are those that are made alone."""
    quiet = sampled(engine, seed=21, n=4, max_tokens=150, ignore_eos=True)
    before = len(engine.records())
    with concurrent.futures.ThreadPoolExecutor() as pool:
        busy = [pool.submit(sampled, engine, seed=21, n=4, max_tokens=150, ignore_eos=True) for _ in range(2)]
        refused = {name: pool.submit(post_raw, engine, *HOSTILE[name][:2]) for name in HOSTILE}
        for name, pending in refused.items():
            reply = pending.result()
            assert reply.status_code == 400, (name, reply.text)
            error = reply.json()["error"]
            assert (error["param"] or "") == HOSTILE[name][2], (name, error)
            assert "Secret" not in error["message"] and "word" not in error["message"], name
            assert len(error["message"]) < 500, name
        for answer in busy:
            assert [one["token_ids"] for one in answer.result()] == [one["token_ids"] for one in quiet]
    assert len(engine.records()) == before + 2, "what is refused is not recorded"
    assert engine.process and engine.process.poll() is None
    assert httpx.get(f"{engine.url}/healthz", timeout=60).json()["status"] == "ready"


def test_a_prompt_too_long_names_both_numbers(engine: EngineProcess):
    error = post_raw(engine, "plain", {"model": "m", "prompt": [5] * 2000}).json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")
    assert "2000" in error["message"] and "1024" in error["message"]
