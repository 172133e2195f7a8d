"""Bodies and headers that cannot be served: a 400 that names the field, never a 500, and nothing reaches the core."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kindling_engine.server.chat_body import chat_body_read
from kindling_engine.server.completion_body import completion_body_read
from kindling_engine.server.errors import ApiError
from kindling_engine.server.model_text import ModelText, model_text_load
from kindling_engine.server.request_common import ModelFacts
from kindling_engine.starter import SPARK_PATH
from kindling_examples import examples
from kindling_fake_core import Bench, fake_bench

MEGABYTE = 1024 * 1024
MESSAGES = [{"role": "user", "content": "Hi"}]
FACTS = ModelFacts("kindling/spark", 1024, 2048, frozenset({2}))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with fake_bench(tmp_path) as made:
        made.say("x")
        yield made


@pytest.fixture(scope="module")
def text() -> ModelText:
    return model_text_load(SPARK_PATH)


async def refusal(
    bench: Bench, body: Any, path: str = "/v1/chat/completions", **headers: str
) -> dict[str, Any]:
    async with bench.post(path, body, **headers) as reply:
        assert reply.status == 400, await reply.text()
        error = (await reply.json())["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert bench.core.submitted == []
    assert await bench.records() == []
    return dict(error)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b'"x"',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"model": "\xff"}',
        b'{"model": NaN}',
        b'{"model": Infinity}',
        b'{"model": -Infinity}',
        b'{"seed": ' + b"9" * 5000 + b"}",
        b'{"model": "a", "model": "b"}',
        b'{"model": "a"} x',
        '{"model": "a"}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
    ],
    ids=range(16),
)
async def test_what_is_not_one_json_object_is_invalid_json(bench: Bench, raw: bytes):
    for path in ("/v1/chat/completions", "/v1/completions", "/requests/x/grant", "/lora/check"):
        assert (await refusal(bench, raw, path))["code"] == "invalid_json"


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"model": None}, "missing_field", "model"),
        ({"model": ""}, "invalid_value", "model"),
        ({"model": 7}, "invalid_value", "model"),
        ({"messages": None}, "missing_field", "messages"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": "Hi"}, "invalid_value", "messages"),
        ({"messages": ["Hi"]}, "invalid_value", "messages[0]"),
        ({"messages": [{"content": "Hi"}]}, "missing_field", "messages[0].role"),
        ({"messages": [{"role": "king", "content": "Hi"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "Hi"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "missing_field", "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "invalid_value", "messages[0].content"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "invalid_value", "messages[0].content"),
        ({"prediction": "\ud800"}, "invalid_value", "prediction"),
        ({"prediction": {"type": "content", "content": "\ud800"}}, "invalid_value", "prediction.content"),
        (
            {"prediction": {"type": "content", "content": [{"type": "text", "text": "\ud800"}]}},
            "invalid_value",
            "prediction.content[0].text",
        ),
        ({"messages": [{"role": "user", "content": "a", "mood": "b"}]}, "unsupported_field", "messages[0].mood"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
         "unsupported_field", "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "invalid_value",
         "messages[0].content[0].text"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}]},
         "invalid_value", "messages[0].tool_calls[0].function.arguments"),
        ({"messages": [{"role": "assistant", "content": "a", "tool_calls": {}}]}, "invalid_value",
         "messages[0].tool_calls"),
        ({"messages": [{"role": "user", "content": None, "refusal": "No."}]}, "missing_field",
         "messages[0].content"),
        ({"messages": [{"role": "assistant", "content": None, "refusal": "\ud800"}]}, "invalid_value",
         "messages[0].refusal"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_tokens": -1}, "invalid_value", "max_tokens"),
        ({"max_tokens": 1.5}, "invalid_value", "max_tokens"),
        ({"max_tokens": "5"}, "invalid_value", "max_tokens"),
        ({"max_tokens": True}, "invalid_value", "max_tokens"),
        ({"max_tokens": 2**80}, "invalid_value", "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "invalid_value", "max_completion_tokens"),
        ({"max_tokens": 1024}, "context_length_exceeded", "max_tokens"),
        ({"messages": [{"role": "user", "content": "word " * 2000}]}, "context_length_exceeded", "messages"),
        ({"messages": [{"role": "user", "content": "word " * 200_000}]}, "context_length_exceeded", "messages"),
        ({"temperature": 9}, "invalid_value", "temperature"),
        ({"temperature": -0.1}, "invalid_value", "temperature"),
        ({"temperature": "warm"}, "invalid_value", "temperature"),
        ({"temperature": True}, "invalid_value", "temperature"),
        ({"top_p": 1.1}, "invalid_value", "top_p"),
        ({"top_k": -2}, "invalid_value", "top_k"),
        ({"min_p": 2}, "invalid_value", "min_p"),
        ({"seed": 2**63}, "invalid_value", "seed"),
        ({"seed": 0.5}, "invalid_value", "seed"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "invalid_value", "stop"),
        ({"stop": ""}, "invalid_value", "stop"),
        ({"stop": [5]}, "invalid_value", "stop"),
        ({"stop": {"a": 1}}, "invalid_value", "stop"),
        ({"stop": "s" * 1001}, "invalid_value", "stop"),
        ({"logit_bias": {"2048": 1}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"a": 1}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"5": 101}}, "invalid_value", "logit_bias.5"),
        ({"logit_bias": {"5": None, "6": "x"}}, "invalid_value", "logit_bias.6"),
        ({"logit_bias": [5]}, "invalid_value", "logit_bias"),
        ({"frequency_penalty": 3}, "invalid_value", "frequency_penalty"),
        ({"repetition_penalty": 0}, "invalid_value", "repetition_penalty"),
        ({"context_length_exceeded_behavior": 1}, "invalid_value", "context_length_exceeded_behavior"),
        ({"n": 17}, "invalid_value", "n"),
        ({"n": 0}, "invalid_value", "n"),
        ({"logprobs": "yes"}, "invalid_value", "logprobs"),
        ({"logprobs": 6}, "invalid_value", "logprobs"),
        ({"top_logprobs": 5}, "invalid_value", "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "invalid_value", "top_logprobs"),
        ({"stream": "yes"}, "invalid_value", "stream"),
        ({"stream_options": {"include_usage": True}}, "invalid_value", "stream_options"),
        ({"stream": True, "stream_options": {"more": 1}}, "unsupported_field", "stream_options.more"),
        ({"tools": [{"type": "function"}]}, "missing_field", "tools[0].function"),
        ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
        ({"response_format": {"type": "xml"}}, "invalid_value", "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "missing_field", "response_format.json_schema"),
        ({"response_format": {"type": "text", "schema": {}}}, "unsupported_field", "response_format.schema"),
        ({"reasoning_effort": "high"}, "unsupported_field", "reasoning_effort"),
        ({"min_tokens": 6, "max_tokens": 5}, "invalid_value", "min_tokens"),
        ({"min_tokens": 1024}, "invalid_value", "min_tokens"),
        ({"prompt_cache_isolation_key": 5}, "invalid_value", "prompt_cache_isolation_key"),
        ({"prompt_cache_isolation_key": "k" * 257}, "invalid_value", "prompt_cache_isolation_key"),
        ({"raw_output": True}, "unsupported_field", "raw_output"),
        ({"echo": True}, "unsupported_field", "echo"),
        ({"guided_json": {"contains": {}}}, "unsupported_schema", "guided_json"),
        ({"guided_regex": "("}, "invalid_schema", "guided_regex"),
        ({"guided_regex": "a", "guided_grammar": "start: /a/"}, "invalid_value", "guided_grammar"),
        ({"stream": True, "stream_options": {"include_obfuscation": 1}}, "invalid_value",
         "stream_options.include_obfuscation"),
        ({"no_such_field": False}, "unsupported_field", "no_such_field"),
        ({"prompt": "Hi"}, "unsupported_field", "prompt"),
    ],
)  # fmt: skip
async def test_a_chat_that_cannot_be_served_names_the_field(
    bench: Bench, change: dict, code: str, param: str
):
    error = await refusal(bench, {"model": "m", "messages": MESSAGES} | change)
    assert (error["code"], error["param"]) == (code, param)
    assert param.split("[")[0].split(".")[0] in error["message"] or code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"prompt": None}, "missing_field", "prompt"),
        ({"prompt": ""}, "invalid_value", "prompt"),
        ({"prompt": []}, "invalid_value", "prompt"),
        ({"prompt": 5}, "invalid_value", "prompt"),
        ({"prompt": [5, "a"]}, "invalid_value", "prompt"),
        ({"prompt": [True]}, "invalid_value", "prompt"),
        ({"prompt": [2048]}, "invalid_value", "prompt"),
        ({"prompt": [-1]}, "invalid_value", "prompt"),
        ({"prompt": ["a", 5]}, "invalid_value", "prompt"),
        ({"prompt": ["a", ""]}, "invalid_value", "prompt"),
        ({"prompt": ["a"] * 129}, "invalid_value", "prompt"),
        ({"prompt": ["a"] * 65, "n": 2}, "invalid_value", "n"),
        ({"prompt": [5] * 1024}, "context_length_exceeded", "prompt"),
        ({"prompt": [5] * 1020, "max_tokens": 5}, "context_length_exceeded", "max_tokens"),
        ({"echo": "yes"}, "invalid_value", "echo"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"best_of": 2, "n": 3}, "invalid_value", "best_of"),
        ({"best_of": 2, "stream": True}, "invalid_value", "best_of"),
        ({"best_of": 17}, "invalid_value", "best_of"),
        ({"raw_output": True}, "unsupported_field", "raw_output"),
        ({"stop_token_ids": [2048]}, "invalid_value", "stop_token_ids"),
        ({"stop_token_ids": 5}, "invalid_value", "stop_token_ids"),
        ({"min_tokens": -1}, "invalid_value", "min_tokens"),
        ({"min_tokens": 17}, "invalid_value", "min_tokens"),
        ({"suffix": "x"}, "unsupported_field", "suffix"),
        ({"logprobs": 6}, "invalid_value", "logprobs"),
        ({"messages": MESSAGES}, "unsupported_field", "messages"),
    ],
)
async def test_a_completion_that_cannot_be_served_names_the_field(
    bench: Bench, change: dict, code: str, param: str
):
    error = await refusal(bench, {"model": "m", "prompt": "Hi"} | change, "/v1/completions")
    assert (error["code"], error["param"]) == (code, param)


@pytest.mark.parametrize(
    "headers",
    [{"request": ""}, {"adapter": "../x"}, {"grant": "0"}, {"priority": "x"}, {"context": "c" * 1025}],
)
async def test_a_bad_header_is_named(bench: Bench, headers: dict[str, str]):
    error = await refusal(bench, {"model": "m", "messages": MESSAGES}, **headers)
    assert (error["code"], error["param"]) == ("invalid_value", f"x-kindling-{next(iter(headers))}")


@pytest.mark.parametrize("adapter", [None, "", "../..", "AB" * 32, 7])
async def test_an_adapter_is_named_by_its_hash(bench: Bench, adapter: Any):
    for path in ("/lora/check", "/lora/prefetch"):
        async with bench.post(path, {"adapter": adapter}) as reply:
            assert reply.status == 400
    assert bench.core.loads == []


async def test_eight_megabytes_are_the_limit(bench: Bench):
    async with bench.post("/v1/chat/completions", b" " * (8 * MEGABYTE + 1)) as reply:
        assert reply.status == 413
        assert (await reply.json())["error"]["code"] == "request_too_large"
    # Just below it the body is read and refused for what it says.
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "a" * (8 * MEGABYTE - 200)}]})
    assert (await refusal(bench, body.encode()))["code"] == "context_length_exceeded"


async def test_a_limit_beyond_the_context_may_be_shortened(bench: Bench):
    await bench.chat_whole(max_tokens=5000, context_length_exceeded_behavior="truncate")
    submit = bench.core.submitted[0]
    assert submit.max_tokens == 1024 - len(submit.prompt_ids)


async def test_a_shortened_limit_shortens_what_is_demanded_too(bench: Bench):
    await bench.chat_whole(max_tokens=5000, min_tokens=2000, context_length_exceeded_behavior="truncate")
    assert bench.core.submitted[0].max_tokens < 1024


async def test_fields_of_others_may_ask_for_nothing(bench: Bench):
    nothing = {
        "echo": False,
        "raw_output": False,
        "perf_metrics_in_response": False,
        "service_tier": "default",
    }
    assert (await bench.chat_whole(**nothing))["choices"]


async def test_fields_that_are_null_count_as_absent(bench: Bench):
    names = ("max_tokens", "temperature", "top_p", "stop", "seed", "n", "logit_bias", "tools", "logprobs", "stream",
             "stream_options", "response_format", "user", "verbosity", "no_such_field")  # fmt: skip
    body = await bench.chat_whole(**dict.fromkeys(names))
    assert body["choices"][0]["message"]["content"] == "x"
    nulls = dict.fromkeys(("name", "tool_calls", "function_call", "audio", "refusal", "mood"))
    await bench.chat_whole(messages=[{**MESSAGES[0], **nulls}])
    assert bench.core.submitted[1].prompt_ids == bench.core.submitted[0].prompt_ids


async def test_an_earlier_reply_may_be_sent_back(bench: Bench):
    reply = await bench.chat_whole()
    await bench.chat_whole(messages=[*MESSAGES, reply["choices"][0]["message"], *MESSAGES])
    parts = [{"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]}]
    await bench.chat_whole(messages=parts)
    assert bench.core.submitted[2].prompt_ids == bench.core.submitted[0].prompt_ids


FIELDS = [
    "model", "messages", "prompt", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature",
    "top_p", "top_k", "min_p", "seed", "stop", "n", "logprobs", "top_logprobs", "frequency_penalty", "logit_bias",
    "ignore_eos", "user", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call",
    "reasoning_effort", "thinking", "reasoning_history", "chat_template_kwargs", "safe_tokenization", "response_format",
    "echo", "best_of",
]  # fmt: skip
keys = st.sampled_from(
    [
        "role",
        "content",
        "type",
        "text",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "parameters",
        "strict",
        "1",
        "x",
    ]
)
strings = st.text(max_size=8) | st.sampled_from(
    ["user", "assistant", "tool", "text", "auto", "function", "required", "none", "{}", "\ud800"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | strings,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=examples(300), deadline=None)
@given(fields=st.dictionaries(st.sampled_from(FIELDS), values), chat=st.booleans())
async def test_any_json_is_served_or_refused_with_400(text: ModelText, fields: dict[str, Any], chat: bool):
    body = {"model": "m", **({"messages": MESSAGES} if chat else {"prompt": "Hi"}), **fields}
    read = chat_body_read if chat else completion_body_read
    try:
        request = await read(json.dumps(body).encode(), text, FACTS)
    except ApiError as error:
        assert error.status == 400
        json.dumps(error.body()).encode()
        return
    assert request.prompts
    for prompt in request.prompts:
        assert 0 < prompt.max_tokens <= 1024 - len(prompt.ids)
    assert 0 <= request.sampling.temperature <= 2


@pytest.mark.parametrize(
    ("path", "field", "asked"),
    [
        ("/v1/chat/completions", "messages", {"messages": [{"role": "user", "content": "Once upon a time"}]}),
        ("/v1/completions", "prompt", {"prompt": "Once upon a time"}),
    ],
)
async def test_text_with_tokens_that_only_the_tokenizer_knows_is_refused_by_its_field(
    bench: Bench, path: str, field: str, asked: dict[str, Any]
):
    bench.front.facts = replace(bench.front.facts, vocab_size=300)
    error = await refusal(bench, asked | {"model": "kindling/spark"}, path)
    assert (error["code"], error["param"]) == ("invalid_value", field)
    assert error["message"].startswith(f"{field} holds the token") and "299" in error["message"]
