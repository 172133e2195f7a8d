"""The real core behind the real front: answers over HTTP equal transformers' and PEFT's, many at a time."""

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kindling_engine.starter import ADAPTER_PATHS
from kindling_engine_process import EngineProcess, ask, wait_until
from kindling_fake_core import events, text_of
from kindling_reference import Reference

PROMPTS = [
    "I want a refund for my order",
    "Tell me a story about a fox.",
    "Hello!",
    "What is 12 + 30?",
    "Write a sentence about the sea.",
    "Where is my parcel?",
    "Translate nothing; say something nice.",
    "What can you do?",
]  # fmt: skip
HASHES = {name: hashlib.sha256(name.encode()).hexdigest() for name in ADAPTER_PATHS}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    folder = tmp_path_factory.mktemp("engine")
    process = EngineProcess(folder)
    for name in ADAPTER_PATHS:
        assert process.add_adapter(name) == HASHES[name]
    with process:
        yield process


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


async def answer(
    engine: EngineProcess, http: httpx.AsyncClient, prompt: str, adapter: str, stream: bool
) -> str:
    headers = engine.headers(adapter=HASHES.get(adapter, ""), salt="5a", tenant="org_1")
    body = ask(messages=[{"role": "user", "content": prompt}], max_tokens=24, stream=stream)
    reply = await http.post(f"{engine.url}/v1/chat/completions", json=body, headers=headers)
    assert reply.status_code == 200, reply.text
    if stream:
        return text_of(events(reply.content))
    return str(reply.json()["choices"][0]["message"]["content"])


@pytest.mark.parametrize("adapters", [("",), ("", *sorted(ADAPTER_PATHS))], ids=["base", "base-and-adapters"])
async def test_answers_at_the_same_time_equal_the_reference(
    engine: EngineProcess, reference: Reference, adapters: tuple[str, ...]
):
    cases = [
        (prompt, adapters[index % len(adapters)], index % 2 == 0) for index, prompt in enumerate(PROMPTS)
    ]
    async with httpx.AsyncClient(timeout=120) as http:
        answers = await asyncio.gather(*(answer(engine, http, *case) for case in cases))
    for (prompt, adapter, _), said in zip(cases, answers, strict=True):
        expected, certain = reference.greedy(adapter, prompt, max_tokens=24)
        assert said[: len(certain)] == certain, (adapter, prompt, said, expected)
        assert certain or expected == said


async def test_greedy_tokens_equal_transformers_generate(engine: EngineProcess, reference: Reference):
    """The plainest reference: `generate` on the same prompt, wherever its choice is clear."""
    import torch

    for prompt in PROMPTS[:3]:
        messages = [{"role": "user", "content": prompt}]
        inputs = reference.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode(), reference.model.disable_adapter():
            made = reference.model.generate(**inputs, max_new_tokens=20, do_sample=False)
        expected = reference.tokenizer.decode(
            made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        _, certain = reference.greedy("", prompt, max_tokens=20)
        said = engine.chat(messages=messages, max_tokens=20).json()["choices"][0]["message"]["content"]
        assert expected.startswith(certain)
        assert said.startswith(certain)
        assert said == expected or len(certain) < len(expected)


def test_the_prompt_is_counted_as_by_transformers(engine: EngineProcess, reference: Reference):
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi 🦊"}]
    ids = reference.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    usage = engine.chat(messages=messages, max_tokens=2).json()["usage"]
    assert usage["prompt_tokens"] == len(ids["input_ids"])


def test_a_repeated_prompt_is_partly_cached_within_a_tenant_only(engine: EngineProcess):
    messages = [{"role": "user", "content": "The same long words again and again. " * 8}]

    def cached(salt: str) -> int:
        reply = engine.chat(messages=messages, max_tokens=1, headers={"salt": salt})
        return int(reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"])

    assert cached("one") == 0
    assert cached("one") > 0
    assert cached("two") == 0


def test_a_seed_fixes_the_answer_in_company_too(engine: EngineProcess):
    async def together() -> list[str]:
        async with httpx.AsyncClient(timeout=60) as http:
            replies = await asyncio.gather(
                *(
                    http.post(
                        f"{engine.url}/v1/chat/completions",
                        json=ask(temperature=1, seed=index % 2, max_tokens=16),
                        headers=engine.headers(),
                    )
                    for index in range(8)
                )
            )
        return [reply.json()["choices"][0]["message"]["content"] for reply in replies]

    said = asyncio.run(together())
    assert len(set(said[::2])) == 1
    assert len(set(said[1::2])) == 1


def test_logprobs_of_a_greedy_answer(engine: EngineProcess):
    choice = engine.chat(max_tokens=6, logprobs=True, top_logprobs=3).json()["choices"][0]
    content = choice["logprobs"]["content"]
    assert "".join(one["token"] for one in content) == choice["message"]["content"]
    for one in content:
        assert one["top_logprobs"][0]["token"] == one["token"]
        assert one["logprob"] == one["top_logprobs"][0]["logprob"] <= 0
        assert sorted(top["logprob"] for top in one["top_logprobs"])[::-1] == [
            top["logprob"] for top in one["top_logprobs"]
        ]


def test_a_grant_holds_the_real_core_too(engine: EngineProcess):
    """Parked at the grant for two seconds, then ended there; nothing beyond it was made."""
    reply = engine.chat(max_tokens=200, ignore_eos=True, headers={"grant": "12"})
    assert reply.json()["usage"]["completion_tokens"] == 12
    wait_until(lambda: engine.records()[-1].finish == "grant_refused")


def test_a_client_that_leaves_is_billed_for_what_was_made(engine: EngineProcess):
    headers = engine.headers()
    body = ask(stream=True, max_tokens=900, ignore_eos=True, n=8)
    seen = 0
    with httpx.stream(
        "POST", f"{engine.url}/v1/chat/completions", json=body, headers=headers, timeout=60
    ) as reply:
        for line in reply.iter_lines():
            seen += line.startswith("data: ")
            if seen > 1:
                break
    found: list[Any] = []

    def logged() -> bool:
        found[:] = [one for one in engine.records() if one.request_id == headers["x-kindling-request"]]
        return bool(found)

    wait_until(logged)
    assert found[0].finish == "cancelled"
    assert seen - 1 <= found[0].completion_tokens < 8 * 900


def test_adapters_are_checked_and_listed(engine: EngineProcess, tmp_path: Path):
    good = httpx.post(f"{engine.url}/lora/check", json={"adapter": HASHES["voice"]}, timeout=60).json()
    assert good["ok"]
    assert {finding["check"] for finding in good["findings"]} == {"values", "smoke"}
    assert good["smoke_text"]
    missing = httpx.post(f"{engine.url}/lora/check", json={"adapter": "00" * 32}, timeout=60).json()
    assert not missing["ok"]
    assert missing["findings"][0]["fix"]
    listed = httpx.get(f"{engine.url}/lora", timeout=60).json()["adapters"]
    assert HASHES["voice"] in {one["adapter"] for one in listed if one["state"] == "ready"}
    before = len(engine.records())
    refused = engine.chat(headers={"adapter": "00" * 32})
    assert refused.status_code == 412
    assert refused.json()["error"]["code"] == "adapter_load_failed"
    # Checks are not billed, and neither is a refusal.
    assert [record.billable for record in engine.records()[before:]] == [False]


def test_the_context_fills_and_ends(engine: EngineProcess):
    prompt = engine.chat(max_tokens=1, ignore_eos=True).json()["usage"]["prompt_tokens"]
    body = engine.chat(ignore_eos=True).json()
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 1024 - prompt
    assert json.dumps(body)
